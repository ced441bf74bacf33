"""A file that claims to be an encoded context, as a job's code made it: checked and described in pieces.

The form is that of ``encoding``, with the exceptions that a context may be empty here, and has no names.
"""

import codecs
import json
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn, get_args

from rlm_dist.contexts.encoding import SHOWN_SIZES, Kind
from rlm_dist.errors import InputError
from rlm_dist.schema import ContextInfo, ContextRef

_MAX_HEAD_BYTES = 200
_PIECE = 1 << 20
_LENGTH_BYTES = 8
_HEAD = {"v": 1, "several": False, "named": False}
_EMPTY_HEAD = b'{"v":1,"kind":"str","n":1,"several":false,"named":false}\n'
EMPTY = _EMPTY_HEAD + bytes(_LENGTH_BYTES)  # the encoded form of an empty text


def describe(file: BinaryIO, size_bytes: int) -> ContextInfo:
    """What the encoded context in ``file``, of ``size_bytes``, is; of ``json``, the items are not counted.

    Raises:
        InputError: it is not an encoded context.
    """
    file.seek(0)
    kind, count = _head(file.readline(_MAX_HEAD_BYTES))
    texts_at = file.tell() + _LENGTH_BYTES * count
    if texts_at > size_bytes:
        _refuse("ends within its lengths")
    shown, total = _lengths(file, count, 2 * SHOWN_SIZES)
    if texts_at + total != size_bytes:
        _refuse("has another size than its lengths")
    chars = _chars(file, total)
    file.seek(texts_at)
    sizes = [_chars(file, length) for length in shown] if kind in ("list", "dict") else []
    return ContextInfo(
        kind=kind,
        chars=chars,
        items=count // 2 if kind == "dict" else count,
        sizes=tuple((sizes[1::2] if kind == "dict" else sizes)[:SHOWN_SIZES]),
    )


def empty(sha256: str) -> ContextRef:
    """The reference to ``EMPTY``, of this hash."""
    return ContextRef(sha256=sha256, size_bytes=len(EMPTY), info=ContextInfo(kind="str", chars=0, items=1))


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of a file from its beginning, in pieces of 1 MiB."""
    file.seek(0)
    while piece := file.read(_PIECE):
        yield piece


def _head(line: bytes) -> tuple[Kind, int]:
    try:
        head: Any = json.loads(line)
    except (ValueError, RecursionError):
        _refuse("has no header")
    if not line.endswith(b"\n") or not isinstance(head, dict):
        _refuse("has no header")
    kind, count = head.pop("kind", None), head.pop("n", None)
    if kind not in get_args(Kind) or type(count) is not int or count < 0 or head != _HEAD:
        _refuse("has a wrong header")
    if (kind in ("str", "json") and count != 1) or (kind == "dict" and count % 2):
        _refuse("has a wrong number of texts")
    return kind, count


def _lengths(file: BinaryIO, count: int, shown: int) -> tuple[list[int], int]:
    """The first lengths, and the sum of all."""
    first: list[int] = []
    total = 0
    while count:
        part = min(count, _PIECE // _LENGTH_BYTES)
        lengths = struct.unpack(f"<{part}Q", file.read(_LENGTH_BYTES * part))
        first += lengths[: shown - len(first)]
        total += sum(lengths)
        count -= part
    return first, total


def _chars(file: BinaryIO, size_bytes: int) -> int:
    """How many characters the next bytes are."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
    chars = 0
    try:
        while size_bytes:
            piece = file.read(min(size_bytes, _PIECE))
            chars += len(decoder.decode(piece))
            size_bytes -= len(piece)
        return chars + len(decoder.decode(b"", final=True))
    except UnicodeDecodeError:
        _refuse("is not UTF-8")


def _refuse(why: str) -> NoReturn:
    raise InputError((f"context: {why}",))
