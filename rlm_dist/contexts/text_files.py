"""Texts from files, folders, URLs or standard input, read as streams.

Invariant: a source yields the same bytes each time it is read, or raises; memory does not grow with its size.

Files must be UTF-8. A byte order mark at the start is skipped: it marks the encoding and is not part of the
text, and code that looks at ``context[0]`` should not see it. A source that cannot be read twice (a pipe, a
URL) is first copied to a temporary file.
"""

import codecs
import os
import stat
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple

import fsspec  # type: ignore[import-untyped]  # it ships no types

from rlm_dist.errors import InputError
from rlm_dist.one_line import one_line

_CHUNK_BYTES = 1024 * 1024
_LOOK_BYTES = 64 * 1024
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


Watching = Callable[[str], Callable[[bytes], object]]
"""Gets the name of a stream that is copied; returns what gets its bytes, and may raise."""


def _no_watch(_: str) -> Callable[[bytes], object]:
    return len


class _Stamp(NamedTuple):
    inode: int
    size_bytes: int
    mtime_ns: int


class FileText:
    """The text of one file; ``size_bytes`` does not count a byte order mark."""

    def __init__(self, name: str, open_file: Callable[[], AbstractContextManager[BinaryIO]]) -> None:
        self.name = name
        self._shown = one_line(name)
        self._open_file = open_file
        with open_file() as file:
            self._stamp = _stamp(file)
            self._skip = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
        self.size_bytes = self._stamp.size_bytes - self._skip

    def pieces(self) -> Iterator[bytes]:
        """The text's bytes.

        Raises:
            InputError: the file has changed since this object was created, or cannot be read.
        """
        try:
            with self._open_file() as file:
                file.seek(self._skip)
                left = self.size_bytes  # a file that grows as fast as it is read would have no end
                while chunk := file.read(min(_CHUNK_BYTES, left)):
                    left -= len(chunk)
                    yield chunk
                self._check_unchanged(file)
        except OSError as error:
            raise InputError((unreadable(self.name, error),)) from None

    def is_binary(self) -> bool:
        """Whether its first 64 KiB have a zero byte or are not UTF-8.

        Raises:
            OSError: it cannot be read.
        """
        with self._open_file() as file:
            start = file.read(_LOOK_BYTES)
        try:
            codecs.getincrementaldecoder("utf-8")().decode(start, final=len(start) < _LOOK_BYTES)
        except UnicodeDecodeError:
            return True
        return b"\0" in start

    def scan(self, update: Callable[[bytes], object]) -> int:
        """Pass all bytes to ``update`` and return the number of characters.

        Raises:
            InputError: as ``pieces``, or the bytes are not UTF-8; it names the first bad byte's offset.
        """
        decoder = codecs.getincrementaldecoder("utf-8")()
        chars = 0
        position = self._skip
        for chunk in self.pieces():
            pending = len(decoder.getstate()[0])
            chars += self._count_chars(decoder, chunk, position - pending)
            position += len(chunk)
            update(chunk)
        return chars + self._count_chars(decoder, b"", position - len(decoder.getstate()[0]), final=True)

    def _count_chars(
        self, decoder: codecs.IncrementalDecoder, chunk: bytes, offset: int, *, final: bool = False
    ) -> int:
        try:
            return len(decoder.decode(chunk, final))
        except UnicodeDecodeError as error:
            hint = " (it looks like UTF-16)" if error.object.startswith(_UTF16) and offset == 0 else ""
            problem = f"{self._shown}: is not UTF-8, first bad byte at offset {offset + error.start}{hint}"
            raise InputError((problem,)) from None

    def _check_unchanged(self, file: BinaryIO) -> None:
        if _stamp(file) != self._stamp:
            raise InputError((f"{self._shown}: changed while it was read",))


class FoundTexts(NamedTuple):
    """The sources of some paths, the problems with the others, and whether any path is a folder."""

    sources: list[FileText]
    problems: list[str]
    folders: bool


def find(
    paths: Sequence[str | Path], *, stdin: BinaryIO | None, skip: Callable[[str], object] | None = None
) -> FoundTexts:
    """Open every path: a file, a folder (its files, sorted, without hidden ones), a URL, or ``-``.

    If ``skip`` is given, binary files of folders are left out, and it gets the path of each.
    """
    texts = FoundTexts([], [], any(_is_folder(path) for path in paths))
    for path in paths:
        if _is_folder(path):
            _find_in_folder(Path(path), texts, skip)
        else:
            _add(str(path), lambda path=path: _source(path, stdin), texts)  # type: ignore[misc]  # bound now
    return texts


def open_text(path: str | Path, *, stdin: BinaryIO | None = None, watching: Watching = _no_watch) -> FileText:
    """Open one file, URL, or ``-``.

    Raises:
        InputError: it is missing or cannot be read, or ``watching`` raised it.
    """
    texts = FoundTexts([], [], folders=False)
    _add(str(path), lambda: _source(path, stdin, watching), texts)
    if texts.problems:
        raise InputError(tuple(texts.problems))
    return texts.sources[0]


def _is_folder(path: str | Path) -> bool:
    return str(path) != "-" and "://" not in str(path) and Path(path).is_dir()


def files_in(folder: Path, problems: list[str]) -> list[Path]:
    """The files of a folder, sorted, without hidden ones; ``problems`` gets what cannot be listed."""
    failed: list[str] = []

    def note(error: OSError) -> None:
        failed.append(unreadable(str(error.filename), error))

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(parent, name) for name in names if not name.startswith(".")]
    files = [path for path in files if path.is_file()]
    problems.extend(failed or ([] if files else [f"{one_line(str(folder))}: holds no files"]))
    return sorted(files, key=lambda path: path.relative_to(folder).parts)


def _find_in_folder(folder: Path, texts: FoundTexts, skip: Callable[[str], object] | None) -> None:
    before = len(texts.sources) + len(texts.problems)
    for path in files_in(folder, texts.problems):
        name = path.relative_to(folder).as_posix()
        _add(str(path), lambda path=path, name=name: _file(path, name), texts, skip)  # type: ignore[misc]  # bound now
    if len(texts.sources) + len(texts.problems) == before:
        texts.problems.append(f"{one_line(str(folder))}: holds no text files")


def _add(
    name: str, make: Callable[[], FileText], texts: FoundTexts, skip: Callable[[str], object] | None = None
) -> None:
    try:
        text = make()
        if skip is not None and text.is_binary():
            skip(name)
        else:
            texts.sources.append(text)
    except (OSError, ImportError, ValueError) as error:
        texts.problems.append(unreadable(name, error))


def _source(path: str | Path, stdin: BinaryIO | None, watching: Watching = _no_watch) -> FileText:
    if path == "-" and stdin is not None:
        return spool("standard input", nullcontext(stdin), watching=watching)
    if "://" in str(path):
        return from_url(str(path), watching=watching)
    return _file(Path(path), str(path), watching)


def from_url(url: str, max_bytes: int | None = None, *, watching: Watching = _no_watch) -> FileText:
    """Copy what fsspec finds at a URL to a temporary file.

    Raises:
        OSError, ImportError, ValueError: it cannot be read.
        InputError: as ``spool``.
    """
    try:
        return spool(url, fsspec.open(url, "rb"), max_bytes, watching=watching)
    except (OSError, ImportError, ValueError, InputError):
        raise
    except Exception as error:  # each fsspec driver raises its own errors, which share no base class
        raise OSError(str(error)) from error


def _file(path: Path, name: str, watching: Watching = _no_watch) -> FileText:
    status = path.stat()
    # A pipe can be read only once, and a file in /proc does not report its size.
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return spool(name, path.open("rb"), watching=watching)
    return FileText(name, lambda: path.open("rb"))


def spool(
    name: str,
    source: AbstractContextManager[BinaryIO],
    max_bytes: int | None = None,
    *,
    watching: Watching = _no_watch,
) -> FileText:
    """Copy a stream to a temporary file.

    Raises:
        InputError: the stream has more than ``max_bytes``, or ``watching`` raised it.
    """
    copy = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the FileText that reads it
    try:
        with source as file:
            _copy(file, copy, name, max_bytes, watching(name))
        copy.flush()
        text = FileText(name, lambda: _rewind(copy))
    except BaseException:
        copy.close()
        raise
    weakref.finalize(text, copy.close)
    return text


def _copy(
    file: BinaryIO, copy: BinaryIO, name: str, max_bytes: int | None, watch: Callable[[bytes], object]
) -> None:
    size_bytes = 0
    while chunk := file.read(_CHUNK_BYTES):
        size_bytes += len(chunk)
        if max_bytes is not None and size_bytes > max_bytes:
            raise InputError((too_large(name, max_bytes),))
        watch(chunk)
        copy.write(chunk)


def _rewind(copy: BinaryIO) -> AbstractContextManager[BinaryIO]:
    copy.seek(0)
    return nullcontext(copy)


def _stamp(file: BinaryIO) -> _Stamp:
    status = os.fstat(file.fileno())
    return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def too_large(name: str, max_bytes: int) -> str:
    """What is said of a context with more bytes than are allowed."""
    return f"{one_line(name)}: has more than the {max_bytes} bytes that RLM_MAX_CONTEXT_BYTES allows"


def unreadable(name: str, error: Exception) -> str:
    """What is said of a file that cannot be read."""
    name = one_line(name)
    if isinstance(error, FileNotFoundError):
        return f"{name}: no such file"
    detail = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{name}: cannot be read ({one_line(detail)})"
