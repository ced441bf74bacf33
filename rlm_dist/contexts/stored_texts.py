"""Reads the texts of an encoded context (see ``encoding``) as a stream, in bounded memory."""

import codecs
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PIECE_BYTES = 1 << 20
_LENGTHS = 4096  # read at once
_LENGTH_BYTES = 8
_JSON_TOKEN = re.compile(r'[^"\\]+|\\u[0-9a-f]{4}|\\.|"|\\', re.S)
_MOST_ESCAPED = 6  # characters of one escape


def read_texts(path: Path) -> Iterator[str | None]:
    """Yield the texts in pieces, with None after the last piece of each.

    The keys of a dict are texts too; the paths of files are none. Of a JSON value these are its strings, with
    what stands between two of them as a text of its own.
    """
    with path.open("rb") as file:
        header = json.loads(file.readline())
        count = header["n"] // 2 if header["named"] else header["n"]
        at = file.tell() + _LENGTH_BYTES * header["n"]
        pieces = _texts(file, file.tell(), count, at)
        yield from _strings(pieces) if header["kind"] == "json" else pieces


def _texts(file: BinaryIO, lengths_at: int, count: int, at: int) -> Iterator[str | None]:
    for first in range(0, count, _LENGTHS):
        several = min(_LENGTHS, count - first)
        file.seek(lengths_at + _LENGTH_BYTES * first)
        lengths = struct.unpack(f"<{several}Q", file.read(_LENGTH_BYTES * several))
        file.seek(at)
        for length in lengths:
            yield from _text(file, length)
            yield None
        at += sum(lengths)


def _text(file: BinaryIO, length: int) -> Iterator[str]:
    if length <= _PIECE_BYTES:
        yield file.read(length).decode("utf-8", "surrogatepass")
        return
    decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
    for start in range(0, length, _PIECE_BYTES):
        size = min(_PIECE_BYTES, length - start)
        yield decoder.decode(file.read(size), final=start + size == length)


def _strings(pieces: Iterator[str | None]) -> Iterator[str | None]:
    """Split JSON text at its quotation marks, and undo the escapes."""
    rest = ""
    for piece in pieces:
        text = rest + (piece or "")
        end = len(text) if piece is None else _end_of_whole(text)
        rest = text[end:]
        for token in _JSON_TOKEN.findall(text[:end]):
            if token == '"':
                yield None
            elif token[0] == "\\":
                yield json.loads(f'"{token}"')
            else:
                yield token
    yield None


def _end_of_whole(text: str) -> int:
    """Where an escape begins that may go on in the next piece; the end of the text if there is none."""
    start = max(0, len(text) - _MOST_ESCAPED + 1)
    at = text.find("\\", start)
    if at < 0:
        return len(text)
    while (
        at > 0 and text[at - 1] == "\\"
    ):  # which of several backslashes escapes the others: from the first on
        at -= 1
    return at
