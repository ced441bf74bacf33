"""One frame with very many prompts: as objects in the worker they take many times the memory of their bytes."""

prompt = b'[{"role":"user","content":"x"}]'
frames = [b'{"op":"query","id":%d,"model":null,"prompts":[' % number for number in range(3)]
for fd in range(3, 64):
    for frame in frames:
        data = frame + b",".join([prompt] * 900_000) + b"]}"
        if attempt(lambda: os.write(fd, len(data).to_bytes(4, "big"))):
            while data and (sent := attempt(lambda: os.write(fd, data))):
                data = data[sent:]
