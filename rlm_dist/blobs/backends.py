"""The backends that store a blob's pieces. Each makes a blob visible only when it is whole.

* **Redis**: a hash ``rlm:blob:<sha256>`` with a field ``0``, ``1``, … for each piece and a field ``pieces``,
  their number. It is written under a separate key that expires, then renamed. A blob expires ``retention_s``
  after it was last put, unless the store keeps it for a job that has not ended.
* **fsspec** (a folder, ``s3://…``, ``memory://…``): ``<root>/<first two digits>/<sha256>/`` with files
  ``<upload>-0``, ``<upload>-1``, … and ``manifest``, a JSON object ``{"upload", "pieces"}``, which is written
  last. Two writers of one blob cannot collide, since each upload has its own file names. Nothing expires by
  itself; in a folder, the date of ``manifest`` says when the blob was last stored or kept (see ``sweep``).
"""

import errno
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
from fsspec.implementations.local import (  # type: ignore[import-untyped]  # it ships no types
    LocalFileSystem,
)
from redis.client import NEVER_DECODE
from redis.typing import EncodableT, FieldT

from rlm_dist.errors import BlobError
from rlm_dist.store import keys, reaching
from rlm_dist.store.scripts import register

_UPLOAD_TTL_S = 3600
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_HINT = "or set RLM_BLOB_URL to another location"


class RedisBackend:
    """Blobs as hashes in Redis."""

    def __init__(self, client: redis.Redis, *, retention_s: int) -> None:
        self._client = client
        self._keep = register(client)["blobs_keep"]
        self._retention_s = retention_s

    def keep(self, hashes: Sequence[str]) -> list[bool]:
        """Whether each blob exists; restarts its time to live, if it has one."""
        if not hashes:
            return []
        with self._blob_errors(hashes[0]):
            flags = self._keep([keys.blob(sha256) for sha256 in hashes], [self._retention_s * 1000])
        return [bool(exists) for exists in flags]

    def size(self, sha256: str) -> int:
        """The bytes of its pieces."""
        pieces = range(self._pieces(sha256))
        with self._blob_errors(sha256):
            pipe = self._client.pipeline(transaction=False)
            for number in pieces:
                pipe.hstrlen(keys.blob(sha256), str(number))
            return sum(pipe.execute())

    def delete(self, sha256: str) -> None:
        """Remove the blob's key, if it exists."""
        with self._blob_errors(sha256):
            self._client.unlink(keys.blob(sha256))

    def old(self, age_s: float) -> Iterator[str]:
        """None: all expire by themselves."""
        return iter(())

    def read(self, sha256: str) -> Iterator[bytes]:
        """The blob's pieces in order."""
        count = self._pieces(sha256)
        for number in range(count):
            with self._blob_errors(sha256):
                # The clients of this package decode replies as text, but a compressed piece is not text.
                piece = self._client.execute_command(  # type: ignore[no-untyped-call]  # it has no types
                    "HGET", keys.blob(sha256), str(number), **{NEVER_DECODE: True}
                )
            if piece is None:
                raise BlobError(sha256, f"piece {number} of {count} is missing")
            yield piece

    def _pieces(self, sha256: str) -> int:
        with self._blob_errors(sha256):
            count = self._client.hget(keys.blob(sha256), "pieces")
        if count is None:
            raise BlobError(sha256, "is not stored (it never was, or its retention time is over)")
        return int(count)

    def write(self, sha256: str, pieces: Iterable[bytes]) -> None:
        """Fill a hash that expires soon, then rename it to the blob's key."""
        upload = f"{keys.blob(sha256)}:{uuid.uuid4().hex}"
        try:
            count = 0
            for number, piece in enumerate(pieces):
                self._set(sha256, upload, {str(number): piece}, _UPLOAD_TTL_S)
                count = number + 1
            self._set(sha256, upload, {"pieces": str(count)}, self._retention_s)
            self._rename(sha256, upload)
        except BaseException:  # a KeyboardInterrupt, too, leaves nothing behind
            with suppress(redis.RedisError):  # it expires anyway, and the first error is the one to show
                self._client.unlink(upload)
            raise

    def _set(self, sha256: str, key: str, fields: dict[FieldT, EncodableT], ttl_s: int) -> None:
        with self._blob_errors(sha256):
            pipe = self._client.pipeline(transaction=False)
            pipe.hset(key, mapping=fields)
            pipe.expire(key, ttl_s)
            pipe.execute()

    def _rename(self, sha256: str, upload: str) -> None:
        with self._blob_errors(sha256):
            try:
                if self._client.renamenx(upload, keys.blob(sha256)):
                    return
                self._client.unlink(upload)  # another writer was first
            except redis.ResponseError:
                # The client repeats a command whose reply was lost; the rename has then happened already.
                if not self._client.exists(keys.blob(sha256)):
                    raise
        self.keep([sha256])

    @contextmanager
    def _blob_errors(self, sha256: str) -> Iterator[None]:
        with reaching(self._client):
            try:
                yield
            except redis.OutOfMemoryError:
                detail = f"Redis has no memory left for it: raise its maxmemory, {_HINT}"
                raise BlobError(sha256, detail) from None


class FsspecBackend:
    """Blobs as files in a folder, or in any other storage that fsspec supports."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._files = filesystem
        self._root = root.rstrip("/")
        self._local = isinstance(filesystem, LocalFileSystem)

    def keep(self, hashes: Sequence[str]) -> list[bool]:
        """Whether each blob exists; in a folder, its date is renewed."""
        return [self._exists(sha256) for sha256 in hashes]

    def delete(self, sha256: str) -> None:
        """Remove the blob's files, the manifest first, so that nothing half-removed is seen."""
        folder = self._folder(sha256)
        with self._blob_errors(sha256, "remove from"):
            with suppress(FileNotFoundError):
                self._files.rm_file(f"{folder}/manifest")
            with suppress(FileNotFoundError):
                self._files.rm(folder, recursive=True)

    def old(self, age_s: float) -> Iterator[str]:
        """The blobs of a folder by their date, also what a writer left that died; none of other storages."""
        if not self._local:
            return
        before = time.time() - age_s
        for path in Path(self._root).glob("??/*"):
            manifest = path / "manifest"
            with suppress(FileNotFoundError):
                dated = manifest if manifest.exists() else path
                if dated.stat().st_mtime < before:
                    yield path.name

    def size(self, sha256: str) -> int:
        """The bytes of the files of its pieces."""
        with self._blob_errors(sha256, "read"):
            return sum(self._files.size(path) or 0 for path in self._paths(sha256))

    def read(self, sha256: str) -> Iterator[bytes]:
        """The blob's pieces in order."""
        for path in self._paths(sha256):
            yield self._cat(sha256, path)

    def _paths(self, sha256: str) -> list[str]:
        manifest = self._manifest(sha256)
        if manifest is None:
            raise BlobError(sha256, f"is not stored in {self._root}")
        return [
            f"{self._folder(sha256)}/{manifest['upload']}-{number}" for number in range(manifest["pieces"])
        ]

    def write(self, sha256: str, pieces: Iterable[bytes]) -> None:
        """Write the pieces under unique names, then the manifest that makes them the blob."""
        upload = uuid.uuid4().hex
        written: list[str] = []
        try:
            for number, piece in enumerate(pieces):
                written.append(f"{self._folder(sha256)}/{upload}-{number}")
                self._pipe(sha256, written[-1], piece)
            manifest = json.dumps({"upload": upload, "pieces": len(written)})
            written.append(f"{self._folder(sha256)}/{upload}-manifest")
            self._pipe(sha256, written[-1], manifest.encode())
            with self._blob_errors(sha256, "write to"):
                self._files.mv(written[-1], f"{self._folder(sha256)}/manifest")
        except BaseException:  # a KeyboardInterrupt, too, leaves nothing behind
            for path in written:
                # Some files may not exist, and the first error is the one to show.
                with suppress(BlobError), self._blob_errors(sha256, "write to"):
                    self._files.rm_file(path)
            raise

    def _exists(self, sha256: str) -> bool:
        with self._blob_errors(sha256, "read"):
            path = f"{self._folder(sha256)}/manifest"
            if not self._local:
                return bool(self._files.exists(path))
            try:
                os.utime(path)
            except FileNotFoundError:
                return False
            return True

    def _manifest(self, sha256: str) -> dict[str, Any] | None:
        with self._blob_errors(sha256, "read"):
            try:
                text = self._files.cat_file(f"{self._folder(sha256)}/manifest")
            except FileNotFoundError:
                return None
        try:
            manifest: dict[str, Any] = json.loads(text)
        except ValueError:
            raise BlobError(sha256, f"its manifest in {self._root} is damaged") from None
        return manifest

    def _cat(self, sha256: str, path: str) -> bytes:
        with self._blob_errors(sha256, "read"):
            try:
                piece: bytes = self._files.cat_file(path)
            except FileNotFoundError:
                piece = b""
        if not piece:
            raise BlobError(sha256, f"a piece of it is missing in {self._root}")
        return piece

    def _pipe(self, sha256: str, path: str, data: bytes) -> None:
        with self._blob_errors(sha256, "write to"):
            if not self._local:
                self._files.pipe_file(path, data)
                return
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave a manifest whose pieces are empty

    def _folder(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"

    @contextmanager
    def _blob_errors(self, sha256: str, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NO_SPACE:
                detail = f"no space left in {self._root}: free some, {_HINT}"
            else:
                detail = f"cannot {action} {self._root} ({error.strerror or error}): fix that, {_HINT}"
            raise BlobError(sha256, detail) from error
        except Exception as error:  # each fsspec driver raises its own errors, which share no base class
            raise BlobError(sha256, f"cannot {action} {self._root} ({error}): fix that, {_HINT}") from error
