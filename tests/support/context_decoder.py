"""A plain decoder of encoded contexts, to check the writer against its specification."""

import json
import struct
from typing import Any


def decode(data: bytes) -> tuple[dict[str, Any], list[str]]:
    """Return the header and the texts of an encoded context, which must end where the last text ends."""
    line, _, rest = data.partition(b"\n")
    header = json.loads(line)
    lengths = struct.unpack(f"<{header['n']}Q", rest[: 8 * header["n"]])
    rest = rest[8 * header["n"] :]
    texts = []
    for length in lengths:
        texts.append(rest[:length].decode("utf-8", "surrogatepass"))
        rest = rest[length:]
    assert rest == b""
    return header, texts
