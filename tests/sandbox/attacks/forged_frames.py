"""Frames that the REPL would not send, written to its own socket."""

import json

for fd in range(3, 64):
    for text in (
        '{"op":"done","cell":1}',
        '{"op":"query","id":-1}',
        '{"op":"spawn","id":9}',
        '{"op":"tool","id":1,"name":"system","arguments":"{}"}',
        '{"op":"tool","id":-1}',
        "[]",
    ):
        data = text.encode()
        attempt(lambda: os.write(fd, len(data).to_bytes(4, "big") + data))
    attempt(lambda: os.write(fd, b"\xff" * 1000))
