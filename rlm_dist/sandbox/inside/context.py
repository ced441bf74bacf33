"""The context as the REPL's variables, decoded from the form that ``rlm_dist.contexts.encoding`` owns.

The form is a JSON header line, N little-endian 64-bit lengths, and N texts in UTF-8. A long text that is all
ASCII is copied out of the mapped file; another long text is decoded in pieces. So loading needs little more
than twice the memory of the result.

The file of a session has its context, and after it, one after another, the contexts that were added to it.
"""

import codecs
import json
import mmap
import struct
from collections.abc import Iterator
from io import BufferedReader
from typing import Any, BinaryIO, NamedTuple

_PIECE = 1 << 20
_MAX_NUMBERED = 100


class ContextError(Exception):
    """The context file does not match its header."""


class Loaded(NamedTuple):
    """The variables of a new REPL, and by variable the contexts that were added to its session."""

    variables: dict[str, Any]
    added: dict[str, Any]


def load(file: BufferedReader) -> Loaded:
    """The variables ``context``, ``context_0`` …, and ``context_paths`` if it has paths.

    What was added is numbered after them.
    """
    variables, number = _load_one(file)
    added: dict[str, Any] = {}
    while file.peek(1):
        added[f"context_{number + len(added)}"] = _load_one(file)[0]["context"]
    return Loaded(variables, added)


def _load_one(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The variables of the context that begins here, and the next number."""
    header = json.loads(file.readline())
    if header.get("v") != 1:
        raise ContextError(f"unknown version {header.get('v')!r} of the context format")
    count = header["n"]
    lengths = struct.unpack(f"<{count}Q", _read_exactly(file, 8 * count))
    texts = [_text(file, length) for length in lengths]
    names: list[str] = []
    if header["named"]:
        half = count // 2
        texts, names = texts[:half], texts[half:]
    context = _value(header["kind"], texts)
    variables: dict[str, Any] = {"context": context}
    if header["several"]:
        variables.update((f"context_{i}", item) for i, item in enumerate(context[:_MAX_NUMBERED]))
    else:
        variables["context_0"] = context
    if names:
        variables["context_paths"] = names
    return variables, len(context) if header["several"] else 1


def _value(kind: str, texts: list[str]) -> Any:
    if kind == "str":
        return texts[0]
    if kind == "list":
        return texts
    if kind == "dict":
        return dict(zip(texts[::2], texts[1::2], strict=True))
    if kind == "json":
        return json.loads(texts.pop())
    raise ContextError(f"unknown kind of context {kind!r}")


def _text(file: BinaryIO, length: int) -> str:
    if length <= _PIECE:
        return _read_exactly(file, length).decode("utf-8", "surrogatepass")
    start = file.tell()
    if all(piece.isascii() for piece in _pieces(file, length)):
        return _ascii(file, start, length)
    file.seek(start)
    decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
    pieces = [decoder.decode(piece) for piece in _pieces(file, length)]
    return "".join([*pieces, decoder.decode(b"", final=True)])


def _ascii(file: BinaryIO, start: int, length: int) -> str:
    with (
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped)[start : start + length] as text,
    ):
        return str(text, "ascii")


def _pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        piece = _read_exactly(file, min(length, _PIECE))
        length -= len(piece)
        yield piece


def _read_exactly(file: BinaryIO, length: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise ContextError(f"the context file ends {length - len(data)} bytes too early")
    return data
