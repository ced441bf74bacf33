"""The files and URLs that lines of a batch name, which may come from anybody and is not trusted.

Invariant: what is opened is a regular file inside one of the folders of the rules, also after symbolic
links, and even if the folders change meanwhile; or a URL that begins as the rules allow. A name that the
rules forbid is refused before it is looked at, so that the refusal does not tell whether such a file exists.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote, urlsplit

from rlm_dist.contexts.text_files import (
    FileText,
    FoundTexts,
    files_in,
    from_url,
    spool,
    too_large,
    unreadable,
)
from rlm_dist.errors import InputError
from rlm_dist.one_line import one_line
from rlm_dist.outbound import AddressRefused, exchange

MAX_BYTES = 4 * 1024**3
_DOWNLOAD_S = 3600.0
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OUTSIDE = (
    "is not below the folder of the batch file, or is hidden; if it may be read, name a folder that contains "
    "it with --context-root (in Python context_root)"
)
_NOT_ALLOWED = "is not allowed; RLM_CONTEXT_URLS lists how allowed URLs begin: https://data.example.org/"


@dataclass(frozen=True)
class FileRules:
    """What context files may be: inside ``folders``, or at a URL that begins like one of ``urls``.

    ``max_bytes`` is for all texts of one context file together.
    """

    folders: tuple[Path, ...] = ()
    urls: tuple[str, ...] = ()
    max_bytes: int = MAX_BYTES


@dataclass(frozen=True)
class ContextFile:
    """An absolute path, or a URL, and the rules for it."""

    name: str
    rules: FileRules

    def find(self) -> FoundTexts:
        """Open it: a file, a folder (as ``text_files.find``), or a URL."""
        texts = FoundTexts([], [], folders=False)
        try:
            if "://" in self.name:
                texts.sources.append(self._from_url())
                return texts
            real, _ = self._inside(Path(self.name))
            if not real.is_dir():
                texts.sources.append(self._file(Path(self.name), self.name))
                return texts
        except InputError as error:
            texts.problems.extend(error.problems)
            return texts
        except (OSError, ImportError, ValueError) as error:
            texts.problems.append(unreadable(self.name, error))
            return texts
        return self._find_in_folder(real)

    def _find_in_folder(self, folder: Path) -> FoundTexts:
        texts = FoundTexts([], [], folders=True)
        size_bytes = 0
        for path in files_in(folder, texts.problems):
            try:
                text = self._file(path, path.relative_to(folder).as_posix(), may_be_empty=True)
            except InputError as error:
                texts.problems.extend(error.problems)
            except (OSError, ValueError) as error:
                texts.problems.append(unreadable(str(path), error))
            else:
                size_bytes += text.size_bytes
                texts.sources.append(text)
        if size_bytes > self.rules.max_bytes:
            texts.problems.append(too_large(self.name, self.rules.max_bytes))
        return texts

    def _file(self, path: Path, name: str, *, may_be_empty: bool = False) -> FileText:
        return FileText(name, lambda: self._open(path, may_be_empty))

    def _open(self, path: Path, may_be_empty: bool) -> BinaryIO:
        real, root = self._inside(path)
        shown = one_line(str(path))
        try:
            file = _open_below(root, real)
        except _NotRegular:
            raise InputError((f"{shown}: is not a regular file",)) from None
        try:
            size_bytes = os.fstat(file.fileno()).st_size
            if size_bytes > self.rules.max_bytes:
                raise InputError((too_large(str(path), self.rules.max_bytes),))
            if size_bytes == 0 and (file.read(1) or not may_be_empty):  # a file of /proc reports no size
                raise InputError((f"{shown}: is empty, or is not a regular file",))
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def _inside(self, path: Path) -> tuple[Path, Path]:
        """The path without symbolic links, and the folder of the rules that contains it."""
        real = Path(os.path.realpath(path))
        for folder in self.rules.folders:
            root = Path(os.path.realpath(folder))
            if real.is_relative_to(root) and not _is_hidden(real.relative_to(root)):
                return real, root
        raise InputError((f"{one_line(str(path))}: {_OUTSIDE}",))

    def _from_url(self) -> FileText:
        beginnings = [each for each in self.rules.urls if _begins(self.name, each)]
        if not beginnings:
            raise InputError((f"{one_line(self.name)}: {_NOT_ALLOWED}",))
        if urlsplit(self.name).scheme not in ("http", "https"):
            return from_url(self.name, self.rules.max_bytes)
        # Whoever names a host in the setting may mean a private one.
        private = any(urlsplit(each).netloc for each in beginnings)
        try:
            return spool(self.name, _download(self.name, private=private), self.rules.max_bytes)
        except AddressRefused as error:
            raise OSError(f"{error}; RLM_CONTEXT_URLS does not name its host") from None


def _is_hidden(path: Path) -> bool:
    """Whether a part of the path is hidden: keys are often in such files, as in ``.env`` and ``.ssh``."""
    return any(part.startswith(".") for part in path.parts)


class _NotRegular(Exception):
    """A device, a pipe, a socket or a folder where a file should be."""


def _open_below(root: Path, real: Path) -> BinaryIO:
    """Open a file by way of each folder below ``root``; a symbolic link on the way is an error."""
    *folders, name = real.relative_to(root).parts
    at = os.open(root, _FOLDER)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        # Before it is opened, as opening a device can have effects; and after, as the file may be another.
        _check_regular(os.stat(name, dir_fd=at, follow_symlinks=False))
        file = os.fdopen(os.open(name, _FILE, dir_fd=at), "rb")
    finally:
        os.close(at)
    try:
        _check_regular(os.fstat(file.fileno()))
    except _NotRegular:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _NotRegular


def _begins(url: str, beginning: str) -> bool:
    """Whether a URL is one of those that ``beginning`` allows: of its scheme, host and folder."""
    if "::" in url or "\\" in url or one_line(url) != url or " " in url:
        return False
    asked, allowed = urlsplit(url), urlsplit(beginning)
    path = unquote(asked.path)
    host = allowed.netloc.lower() or asked.netloc.lower()
    folder = allowed.path if allowed.path.endswith("/") else f"{allowed.path}/"
    return (
        asked.scheme == allowed.scheme
        and asked.netloc.lower() == host
        and "@" not in (asked.netloc if not allowed.netloc else "")
        and ".." not in path.split("/")
        and (path == allowed.path or path.startswith(folder) or folder == "/")
    )


@contextmanager
def _download(url: str, *, private: bool) -> Iterator[BinaryIO]:
    with exchange("GET", url, deadline_s=_DOWNLOAD_S, private=private) as response:
        if 300 <= response.status < 400:
            raise OSError("it redirects to another address; name that one")
        if response.status != 200:
            raise OSError(f"HTTP {response.status}")
        yield cast(BinaryIO, response)
        if response.length:
            raise OSError("the connection ended before the text did")
