"""Parses JSON of endpoints and models, unless its nesting or number of values could exhaust stack or memory.

A list of empty lists takes thirty times its text when it is parsed. What is short, and has few brackets, is
parsed at once: most replies are. Of anything else only the structure is looked at first, without its strings.

The standard library holds the interpreter's lock while it parses, and a worker has thousands of other calls.
A long text is therefore taken in short steps: no call of C sees more than a small part of it.
"""

import json
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

MAX_DEPTH = 100
MAX_VALUES = 1_000_000
FEW_CHARS = 2**18
_PIECE_CHARS = 2**18
_SMALL_CHARS = 1024
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: one level in, one level out
_NO_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")
_NO_STARTS = bytes(code for code in range(256) if code not in b"[{,")
# A part of a string that ends outside of an escape, and of two escapes that are one character.
_STRING_PART = re.compile(
    r'(?:[^"\\]{1,1024}+|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[^u])'
    r"{1,256}+"
)
_SPACE = re.compile(r"[ \t\n\r]*")
_CUT_NUMBER_CHARS = 2  # "1e+" may be read as 1


class TooComplex(ValueError):
    """JSON that is not parsed: it is nested too deeply, or has too many values."""


def parse(text: str, *, strict: bool = True) -> Any:
    """The value of a JSON text; ``strict=False`` allows control characters in strings.

    Raises:
        TooComplex: it is nested more than ``MAX_DEPTH`` levels deep, or has more than ``MAX_VALUES`` values.
        ValueError: it is not JSON.
    """
    if len(text) > FEW_CHARS:
        _check(text)
        return _LongText(text, strict=strict).read()
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check(text)
    return json.loads(text, strict=strict)


def _check(text: str) -> None:
    """Raise TooComplex if ``text``, up to its first error in syntax, has too much structure."""
    depth = starts = quotes = 0
    for piece in _pieces(text):
        # Without escaped characters, each quote begins or ends a string.
        segments = piece.split(b'"')
        structure = b"".join(segments[quotes % 2 :: 2])
        quotes += len(segments) - 1
        starts += len(structure.translate(None, _NO_STARTS))
        if starts > MAX_VALUES or quotes > 2 * MAX_VALUES:
            raise TooComplex(f"it has more than {MAX_VALUES:,} values")
        steps = memoryview(structure.translate(None, _NO_BRACKETS).translate(_STEPS)).cast("b")
        *_, depth = levels = list(accumulate(steps, initial=depth))
        if max(levels) > MAX_DEPTH:
            raise TooComplex(f"it is nested more than {MAX_DEPTH} levels deep")


def _pieces(text: str) -> Iterator[bytes]:
    """The text in pieces, without escaped quotes and backslashes."""
    at = 0
    while at < len(text):
        piece = text[at : at + _PIECE_CHARS].encode("utf-8", "replace")
        at += _PIECE_CHARS
        if b"\\" in piece:
            if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # the last one escapes what follows
                piece += text[at : at + 1].encode("utf-8", "replace")
                at += 1
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        yield piece


class _LongText:
    """Reads one JSON text as ``json.loads`` does; small values in one call, others a part at a time."""

    def __init__(self, text: str, *, strict: bool) -> None:
        self._text = text
        self._decode = json.JSONDecoder(strict=strict).raw_decode

    def read(self) -> Any:
        value, at = self._value(self._skip(0))
        at = self._skip(at)
        if at < len(self._text):
            raise self._error("Extra data", at)
        return value

    def _value(self, at: int) -> tuple[Any, int]:
        small = self._small(at)
        if small is not None:
            return small
        match self._text[at : at + 1]:
            case '"':
                return self._string(at + 1)
            case "[":
                return self._array(at + 1)
            case "{":
                return self._object(at + 1)
        return self._decode(self._text, at)

    def _small(self, at: int) -> tuple[Any, int] | None:
        """The value at ``at`` and where it ends; None if it is not small, or no value."""
        piece = self._text[at : at + _SMALL_CHARS]
        try:
            value, end = self._decode(piece)
        except ValueError:
            return None
        is_cut = end + _CUT_NUMBER_CHARS >= len(piece) and at + len(piece) < len(self._text)
        return None if is_cut else (value, at + end)

    def _string(self, at: int) -> tuple[str, int]:
        parts = []
        while (part := _STRING_PART.match(self._text, at)) is not None:
            parts.append(self._decode(f'"{part.group()}"')[0])
            at = part.end()
        if self._text[at : at + 1] != '"':
            raise self._error("Unterminated or invalid string", at)
        return "".join(parts), at + 1

    def _array(self, at: int) -> tuple[list[Any], int]:
        values: list[Any] = []
        at = self._skip(at)
        if self._text[at : at + 1] == "]":
            return values, at + 1
        while True:
            value, at = self._value(at)
            values.append(value)
            at, is_last = self._next(at, "]")
            if is_last:
                return values, at

    def _object(self, at: int) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        at = self._skip(at)
        if self._text[at : at + 1] == "}":
            return values, at + 1
        while True:
            if self._text[at : at + 1] != '"':
                raise self._error("Expecting property name enclosed in double quotes", at)
            name, at = self._value(at)
            at = self._skip(at)
            if self._text[at : at + 1] != ":":
                raise self._error("Expecting ':' delimiter", at)
            values[name], at = self._value(self._skip(at + 1))
            at, is_last = self._next(at, "}")
            if is_last:
                return values, at

    def _next(self, at: int, closing: str) -> tuple[int, bool]:
        """Where the next item begins, or the list or object ends, and whether it is the end."""
        at = self._skip(at)
        sign = self._text[at : at + 1]
        if sign == closing:
            return at + 1, True
        if sign != ",":
            raise self._error("Expecting ',' delimiter", at)
        return self._skip(at + 1), False

    def _skip(self, at: int) -> int:
        space = _SPACE.match(self._text, at)
        return space.end() if space else at

    def _error(self, message: str, at: int) -> json.JSONDecodeError:
        return json.JSONDecodeError(message, self._text, at)
