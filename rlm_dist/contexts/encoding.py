"""The encoding of a context, under whose hash it is stored and from which the REPL reads it.

The encoded form is one line of JSON, the lengths, then the texts::

    {"v":1,"kind":"str|list|dict|json","n":N,"several":bool,"named":bool}\\n
    N little-endian unsigned 64-bit byte lengths
    N texts in UTF-8 (lone surrogates as in Python's ``surrogatepass``), one after another

``str``: one text. ``list``: a text for each item and, if ``named``, then a name for each item. ``dict``: key,
value, key, value, … ``json``: one text, the JSON document of any other value.

Equal contexts have equal bytes, hence the same hash, and are stored once.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol, TypeVar

from rlm_dist.blobs.store import Blobs, text_pieces
from rlm_dist.contexts import text_files
from rlm_dist.contexts.named_files import ContextFile
from rlm_dist.errors import InputError
from rlm_dist.schema import ContextInfo, ContextRef

Kind = Literal["str", "list", "dict", "json"]
SHOWN_SIZES = 10
T = TypeVar("T")

_EMPTY = "context: is empty"
_CACHED_FILES = 1024
_HEADER = json.JSONEncoder(separators=(",", ":"))


class Source(Protocol):
    """One text of a context."""

    size_bytes: int

    def pieces(self) -> Iterator[bytes]:
        """The text's bytes, the same each time."""

    def scan(self, update: Callable[[bytes], object]) -> int:
        """Pass all bytes to ``update`` and return the number of characters."""


class _Text:
    def __init__(self, text: str) -> None:
        self._text = text
        self.size_bytes = len(text) if text.isascii() else sum(map(len, text_pieces(text)))

    def pieces(self) -> Iterator[bytes]:
        return text_pieces(self._text)

    def scan(self, update: Callable[[bytes], object]) -> int:
        for piece in text_pieces(self._text):
            update(piece)
        return len(self._text)


class _Pieces(NamedTuple):
    kind: Kind
    texts: Sequence[str]
    items: int


class Encoded:
    """A context that is ready to be stored: its reference, and its bytes, which can be read repeatedly."""

    def __init__(self, head: bytes, sources: Sequence[Source], ref: ContextRef) -> None:
        self._head = head
        self._sources = sources
        self.ref = ref

    def pieces(self) -> Iterator[bytes]:
        """The encoded bytes; files are read again, and must not have changed."""
        yield self._head
        for source in self._sources:
            yield from source.pieces()


def encode(value: object) -> Encoded:
    """Encode a str, a list of str, a dict of str to str, or any other JSON value.

    Raises:
        InputError: the value is empty or is not a JSON value; the message says why.
    """
    kind, texts, items = _parts_of(value)
    return _assemble(kind, [_Text(text) for text in texts], [], items=items)


def check_value(value: object) -> None:
    """Check that a value can be encoded, which costs less than encoding it.

    Raises:
        InputError: as ``encode``.
    """
    if not any(_parts_of(value).texts):
        raise InputError((_EMPTY,))


def encode_files(
    paths: Sequence[str | Path],
    *,
    stdin: BinaryIO | None = None,
    skip: Callable[[str], object] | None = None,
) -> Encoded:
    """Encode files, folders, fsspec URLs, or standard input (``-``).

    One file is a str. A folder is a list of its documents, sorted and named by path, without hidden ones.
    Several files are several contexts, named as in ``paths``. If ``skip`` is given, it gets the path of each
    binary file of a folder, which is left out.

    Raises:
        InputError: it lists every path that is missing, cannot be read or is not UTF-8.
    """
    return _encode_found(text_files.find(paths, stdin=stdin, skip=skip), len(paths))


def encode_named(file: ContextFile) -> Encoded:
    """Encode the file, folder or URL that a line of a batch names, within its rules.

    Raises:
        InputError: the rules forbid it, or as ``encode_files``.
    """
    try:
        return _encode_found(file.find(), 1)
    except InputError as error:
        raise InputError(tuple(f"context_file: {problem}" for problem in error.problems)) from None


def reading_files(read: Callable[[Encoded], T]) -> Callable[[ContextFile], T]:
    """Return ``read`` as a cached function of a context file, as many jobs name the same one.

    The returned function raises what ``encode_named`` raises.
    """

    @lru_cache(_CACHED_FILES)
    def of_file(file: ContextFile) -> T:
        return read(encode_named(file))

    return of_file


def store_context(encoded: Encoded, blobs: Blobs) -> ContextRef:
    """Store the context, unless it is stored already."""
    blobs.put(encoded.pieces, encoded.ref.sha256)
    return encoded.ref


def _parts_of(value: object) -> _Pieces:
    if isinstance(value, str):
        return _Pieces("str", [value], 1)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return _Pieces("list", value, len(value))
    if isinstance(value, dict) and all(isinstance(part, str) for pair in value.items() for part in pair):
        return _Pieces("dict", [part for pair in value.items() for part in pair], len(value))
    return _Pieces("json", [_json(value)], len(value) if isinstance(value, (list, dict)) else 1)


def _encode_found(found: text_files.FoundTexts, paths: int) -> Encoded:
    sources, problems, folders = found
    if problems:
        raise InputError(tuple(problems))
    if paths == 1 and not folders:
        return _assemble("str", sources, [])
    names = [_Text(source.name) for source in sources]
    return _assemble("list", sources, names, items=len(sources), several=not folders)


def _assemble(
    kind: Kind, texts: Sequence[Source], names: Sequence[Source], *, items: int = 1, several: bool = False
) -> Encoded:
    sources = [*texts, *names]
    header = {"v": 1, "kind": kind, "n": len(sources), "several": several, "named": bool(names)}
    head = _HEADER.encode(header).encode() + b"\n"
    head += struct.pack(f"<{len(sources)}Q", *(source.size_bytes for source in sources))
    digest = hashlib.sha256(head)
    chars = _scan_all(texts, digest.update)
    for name in names:
        name.scan(digest.update)
    if not any(chars):
        raise InputError((_EMPTY,))
    item_chars = chars[1::2] if kind == "dict" else chars if kind == "list" else []
    info = ContextInfo(
        kind=kind,
        chars=sum(chars),
        items=items,
        sizes=tuple(item_chars[:SHOWN_SIZES]),
        several=several,
        named=bool(names),
    )
    size = len(head) + sum(source.size_bytes for source in sources)
    return Encoded(head, sources, ContextRef(sha256=digest.hexdigest(), size_bytes=size, info=info))


def _scan_all(sources: Sequence[Source], update: Callable[[bytes], object]) -> list[int]:
    chars: list[int] = []
    problems: list[str] = []
    for source in sources:
        try:
            chars.append(source.scan(update))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(tuple(problems))
    return chars


def _json(value: object) -> str:
    if value is None:
        raise InputError((_EMPTY,))
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_refuse)
    except RecursionError:
        raise InputError(("context: is nested too deeply",)) from None
    except (TypeError, ValueError) as error:  # a bad type of key, NaN, a cycle, a huge integer
        raise InputError((f"context: is not a JSON value ({error})",)) from None


def _refuse(value: object) -> object:
    raise InputError((f"context: contains a {type(value).__name__}, which is not a JSON value",))
