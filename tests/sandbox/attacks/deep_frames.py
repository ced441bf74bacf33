"""Frames whose values are nested so deeply that a reader that recurses breaks down."""

for fd in range(3, 64):
    for opening, closing in ((b"[", b"]"), (b'{"op":', b"}")):
        for depth in (60_000, 4_000_000):
            data = (
                b'{"op":"query","id":1,"model":null,"prompts":'
                + opening * depth
                + b"1"
                + closing * depth
                + b"}"
            )
            if attempt(lambda: os.write(fd, len(data).to_bytes(4, "big"))):
                while data and (sent := attempt(lambda: os.write(fd, data))):
                    data = data[sent:]
