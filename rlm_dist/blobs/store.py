"""The blob store: contexts and large texts, each stored once under the SHA-256 of its bytes.

Invariant: a blob exists wholly or not at all; nothing half-written is ever visible, and bytes that are read
hash to the blob's name.

A blob is cut into pieces of 4 MiB. Each piece is a separate zstd frame. A backend stores the pieces (see
``backends``).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import fsspec  # type: ignore[import-untyped]  # it ships no types
import redis
import zstandard

from rlm_dist.blobs.backends import FsspecBackend, RedisBackend
from rlm_dist.errors import BlobError, SettingsError

PIECE_BYTES = 4 * 1024 * 1024
TEXT_CHARS = 1024 * 1024
_LEVEL = 3
_RETENTION_S = 7 * 24 * 3600


class BlobBackend(Protocol):
    """Stores the compressed pieces of blobs."""

    def keep(self, hashes: Sequence[str]) -> list[bool]:
        """Whether each blob exists; if blobs expire, restarts its retention time."""

    def size(self, sha256: str) -> int:
        """The stored bytes of a blob that exists."""

    def delete(self, sha256: str) -> None:
        """Remove a blob, if it exists."""

    def old(self, age_s: float) -> Iterator[str]:
        """The blobs that do not expire by themselves and were neither stored nor kept for ``age_s``."""

    def read(self, sha256: str) -> Iterator[bytes]:
        """The blob's pieces in order; raises BlobError if one is missing."""

    def write(self, sha256: str, pieces: Iterable[bytes]) -> None:
        """Store all pieces or none: if ``pieces`` raises, remove what was written and raise that error."""


class Blobs:
    """Bytes by content hash, stored in one backend."""

    def __init__(self, backend: BlobBackend) -> None:
        self._backend = backend

    def has(self, sha256: str) -> bool:
        """Whether the blob exists; one that may expire is kept for a full retention time from now."""
        return self._backend.keep([sha256])[0]

    def missing(self, hashes: Iterable[str]) -> set[str]:
        """Return the hashes without a blob; the blobs that exist are kept as by ``has``."""
        unique = list(dict.fromkeys(hashes))
        flags = self._backend.keep(unique)
        return {sha256 for sha256, exists in zip(unique, flags, strict=True) if not exists}

    def put(self, pieces: Callable[[], Iterable[bytes]], sha256: str) -> None:
        """Store the bytes that ``pieces()`` yields, unless the blob exists.

        Raises:
            BlobError: the bytes do not hash to ``sha256``, or cannot be written.
        """
        if not self.has(sha256):
            self._backend.write(sha256, _compress(pieces(), sha256))

    def read(self, sha256: str) -> Iterator[bytes]:
        """Yield the bytes in pieces of at most 4 MiB; they are verified only when the iterator has ended.

        Raises:
            BlobError: the blob is missing or damaged.
        """
        digest = hashlib.sha256()
        for piece in self._backend.read(sha256):
            try:
                raw = _decompress(piece)
            except zstandard.ZstdError as error:
                raise BlobError(sha256, f"is damaged ({error})") from None
            digest.update(raw)
            yield raw
        if digest.hexdigest() != sha256:
            raise BlobError(sha256, "is damaged: its bytes do not hash to its name")

    def put_text(self, text: str) -> str:
        """Store a text (lone surrogates survive) and return its hash."""
        digest = hashlib.sha256()
        for piece in text_pieces(text):
            digest.update(piece)
        self.put(lambda: text_pieces(text), digest.hexdigest())
        return digest.hexdigest()

    def stored_bytes(self, sha256: str) -> int:
        """How much a blob takes up, compressed.

        Raises:
            BlobError: it does not exist.
        """
        return self._backend.size(sha256)

    def delete(self, sha256: str) -> None:
        """Remove a blob, if it exists.

        Raises:
            BlobError: it cannot be removed.
        """
        self._backend.delete(sha256)

    def old(self, age_s: float) -> Iterator[str]:
        """The blobs that do not expire by themselves and were neither stored nor kept for ``age_s``."""
        return self._backend.old(age_s)

    def get_text(self, sha256: str) -> str:
        """The text that was stored under this hash."""
        return b"".join(self.read(sha256)).decode("utf-8", "surrogatepass")


def open_blobs(
    url: str | None, *, home: Path, client: redis.Redis | None, retention_s: int = _RETENTION_S
) -> Blobs:
    """Open the blob store at ``url``: ``redis``, a folder, any fsspec URL, or None for ``<home>/blobs``.

    Raises:
        SettingsError: the URL names no storage that can be used.
    """
    if url == "redis":
        if client is None:
            raise SettingsError(("RLM_BLOB_URL: it is set to redis, but there is no Redis connection",))
        return Blobs(RedisBackend(client, retention_s=retention_s))
    try:
        filesystem, root = fsspec.url_to_fs(url or str(home / "blobs"))
    except (ImportError, ValueError) as error:
        raise SettingsError((f"RLM_BLOB_URL: {error}",)) from None
    return Blobs(FsspecBackend(filesystem, root))


def text_pieces(text: str) -> Iterator[bytes]:
    """Yield a text's UTF-8 bytes piece by piece; lone surrogates are encoded as if they were characters."""
    for start in range(0, len(text), TEXT_CHARS):
        yield text[start : start + TEXT_CHARS].encode("utf-8", "surrogatepass")


def _compress(chunks: Iterable[bytes], sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    for piece in _recut(chunks):
        digest.update(piece)
        yield compressor.compress(piece)
    if digest.hexdigest() != sha256:
        raise BlobError(sha256, "the bytes changed while they were stored")


def _decompress(piece: bytes) -> bytes:
    """The bytes of a piece; nothing is made room for beyond what a piece may hold, whatever it claims."""
    if zstandard.frame_content_size(piece) > PIECE_BYTES:
        raise zstandard.ZstdError("a piece is too large")
    return zstandard.ZstdDecompressor().decompress(piece, max_output_size=PIECE_BYTES)


def _recut(chunks: Iterable[bytes]) -> Iterator[bytes]:
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= PIECE_BYTES:
            yield bytes(buffer[:PIECE_BYTES])
            del buffer[:PIECE_BYTES]
    if buffer:
        yield bytes(buffer)
