"""The contexts that the workers of one machine have fetched, as plain files for the REPLs to read.

``<folder>/<sha256>`` has a context's encoded bytes (see ``encoding``), ``<sha256>.part`` those of one that is
being fetched. Invariant: a file named by a hash is whole, and hashed to its name when it was written.

Several processes share one folder. ``lock-0`` … ``lock-f`` let one process fetch a context while the others
wait. Whoever uses a context locks its file (``flock``), so that it is not removed while a REPL that uses it
may have to be started again; the kernel drops the lock of a process that dies. When the folder outgrows its
bound, unlocked files are removed, least recently used first, until the folder is an eighth below the bound:
listing all files takes long if there are many. A file's access time is its last use. Its modification time
never changes: by that, too, the fork server recognizes that REPLs can share a context's memory.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rlm_dist.blobs.store import Blobs
from rlm_dist.errors import BlobError
from rlm_dist.schema import ContextRef

MAX_BYTES = 20 * 1024**3
_DISK_SHARE = 5
_FREED_SHARE = 8
_SHARERS = 64  # processes that may fill the folder while none of them counts its files
_ABANDONED_S = 3600


class _Entry(NamedTuple):
    used_s: float
    size_bytes: int
    path: Path


class ContextCache:
    """Contexts as local files, fetched from ``blobs`` on first use.

    The bound is 20 GiB or a fifth of the disk, whichever is less; ``max_bytes`` is for tests. A context
    that is larger than the bound is kept while it is used.
    """

    def __init__(self, folder: Path, blobs: Blobs, *, max_bytes: int | None = None) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = self._folder = folder
        self._blobs = blobs
        self._room_bytes = 0  # what may be fetched before all files are counted again
        self._max_bytes = max_bytes or min(MAX_BYTES, shutil.disk_usage(folder).total // _DISK_SHARE)

    @contextmanager
    def hold(self, *contexts: ContextRef) -> Iterator[Path]:
        """The context's file, which is not removed until the block ends; as for ``path``."""
        with self._open_locked(contexts):
            yield self._folder / _joined(contexts).sha256

    def path(self, *contexts: ContextRef) -> Path:
        """The context's file, fetched if necessary; it may be removed when other contexts need the room.

        Several contexts, those of a session, are one file, one after another.

        Raises:
            BlobError: the context is not stored, is damaged, or does not fit on the disk.
        """
        ref = _joined(contexts)
        path = self._folder / ref.sha256
        if not _touch(path, ref):
            with self._lock(ref.sha256):
                if not _touch(path, ref):  # another process may have fetched it meanwhile
                    self._fetch(contexts, ref.size_bytes, path)
        return path

    def _open_locked(self, contexts: Sequence[ContextRef]) -> BinaryIO:
        while True:
            path = self.path(*contexts)
            with suppress(FileNotFoundError):
                file = path.open("rb")
                fcntl.flock(file, fcntl.LOCK_SH)
                if _is_at(file, path):
                    return file
                file.close()  # it was removed before the lock was taken

    def _fetch(self, contexts: Sequence[ContextRef], size_bytes: int, path: Path) -> None:
        self._make_room(size_bytes)
        part = path.with_suffix(".part")
        try:
            part.unlink(missing_ok=True)  # a process that died may have left it, perhaps read-only
            with part.open("wb") as file:
                for ref in contexts:
                    for piece in self._blobs.read(ref.sha256):
                        file.write(piece)
            part.chmod(0o444)
            part.replace(path)
        except OSError as error:
            no_space = error.errno in (errno.ENOSPC, errno.EDQUOT)
            detail = "no space left" if no_space else f"cannot be written: {error.strerror or error}"
            raise BlobError(path.name, f"context cache {self._folder}: {detail}") from error
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, size_bytes: int) -> None:
        if size_bytes <= self._room_bytes:
            self._room_bytes -= size_bytes
        else:
            self._room_bytes = max(0, self._max_bytes - self._free_folder(size_bytes)) // _SHARERS

    def _free_folder(self, size_bytes: int) -> int:
        """Remove files if ``size_bytes`` more would exceed the bound; return the new total with them."""
        entries = sorted(self._entries())
        total = sum(entry.size_bytes for entry in entries) + size_bytes
        if total > self._max_bytes:
            for entry in entries:
                if total <= self._max_bytes - self._max_bytes // _FREED_SHARE:
                    break
                if _remove_unused(entry.path):
                    total -= entry.size_bytes
        return total

    def _entries(self) -> Iterator[_Entry]:
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process may remove it now
                stat = path.stat()
                being_fetched = path.suffix == ".part" and time.time() - stat.st_mtime < _ABANDONED_S
                if not path.name.startswith("lock-") and not being_fetched:
                    yield _Entry(stat.st_atime, stat.st_size, path)

    @contextmanager
    def _lock(self, sha256: str) -> Iterator[None]:
        with (self._folder / f"lock-{sha256[0]}").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _joined(contexts: Sequence[ContextRef]) -> ContextRef:
    """Stands for these contexts, one after another."""
    first, *added = contexts
    if not added:
        return first
    digest = hashlib.sha256("+".join(ref.sha256 for ref in contexts).encode()).hexdigest()
    return ContextRef(sha256=digest, size_bytes=sum(ref.size_bytes for ref in contexts), info=first.info)


def _touch(path: Path, ref: ContextRef) -> bool:
    try:
        stat = path.stat()
        if stat.st_size != ref.size_bytes:
            return False
        os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))
    except FileNotFoundError:
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove_unused(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True
