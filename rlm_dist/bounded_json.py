"""Parses JSON of endpoints and models, unless its nesting or number of values could exhaust stack or memory.

A list of empty lists takes thirty times its text when it is parsed. What is short, and has few brackets, is
parsed at once: most replies are. Of anything else only the structure is looked at first, without its strings.
"""

import json
from itertools import accumulate
from typing import Any

MAX_DEPTH = 100
MAX_VALUES = 1_000_000
_FEW_CHARS = 2**20
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: one level in, one level out
_NO_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")
_NO_STARTS = bytes(code for code in range(256) if code not in b"[{,")


class TooComplex(ValueError):
    """JSON that is not parsed: it is nested too deeply, or has too many values."""


def parse(text: str, *, strict: bool = True) -> Any:
    """The value of a JSON text; ``strict=False`` allows control characters in strings.

    Raises:
        TooComplex: it is nested more than ``MAX_DEPTH`` levels deep, or has more than ``MAX_VALUES`` values.
        ValueError: it is not JSON.
    """
    if len(text) > _FEW_CHARS or text.count("[") + text.count("{") > MAX_DEPTH:
        _check(text.encode("utf-8", "replace"))
    return json.loads(text, strict=strict)


def _check(text: bytes) -> None:
    """Raise TooComplex if ``text``, up to its first error in syntax, has too much structure."""
    # Without escaped characters, each quote begins or ends a string.
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if text.count(b'"') > 2 * MAX_VALUES:
        raise TooComplex(f"it has more than {MAX_VALUES:,} values")
    structure = b"".join(text.split(b'"')[::2])
    if len(structure.translate(None, _NO_STARTS)) > MAX_VALUES:
        raise TooComplex(f"it has more than {MAX_VALUES:,} values")
    steps = structure.translate(None, _NO_BRACKETS).translate(_STEPS)
    if max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_DEPTH:
        raise TooComplex(f"it is nested more than {MAX_DEPTH} levels deep")
