"""The blob store: contexts and large texts, each stored once under the SHA-256 of its bytes.

Invariant: a blob is either wholly there or not there; nothing half-written is ever visible, and what is read
hashes to its name.

A blob is cut into pieces of 4 MiB, each a zstd frame of its own, and handed to a place that
holds them (see ``blob_places``).
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
    """Where compressed pieces lie."""

    def keep(self, hashes: Sequence[str]) -> list[bool]:
        """Whether each blob is there; where blobs expire, its time starts anew."""

    def read(self, sha256: str) -> Iterator[bytes]:
        """The blob's pieces in order; raises BlobError where one is missing."""

    def write(self, sha256: str, pieces: Iterable[bytes]) -> None:
        """Store all pieces, or none: what ``pieces`` raises comes out, and what was written is removed."""


class Blobs:
    """Bytes by content hash, over one place."""

    def __init__(self, place: BlobBackend) -> None:
        self._place = place

    def has(self, sha256: str) -> bool:
        """Whether the blob is there; one that may expire is kept for a whole retention time from now."""
        return self._place.keep([sha256])[0]

    def missing(self, hashes: Iterable[str]) -> set[str]:
        """Those of these blobs that are not there; the others are kept as by ``has``."""
        wanted = list(dict.fromkeys(hashes))
        return {sha256 for sha256, there in zip(wanted, self._place.keep(wanted), strict=True) if not there}

    def put(self, pieces: Callable[[], Iterable[bytes]], sha256: str) -> None:
        """Store the bytes that ``pieces()`` yields, unless they are there.

        Raises:
            BlobError: where they do not hash to ``sha256``, or cannot be written.
        """
        if not self.has(sha256):
            self._place.write(sha256, _compressed(pieces(), sha256))

    def read(self, sha256: str) -> Iterator[bytes]:
        """Yield the bytes in pieces of at most 4 MiB; they are proven only once the iterator has ended.

        Raises:
            BlobError: where the blob is missing or damaged.
        """
        digest = hashlib.sha256()
        expand = zstandard.ZstdDecompressor()
        for piece in self._place.read(sha256):
            try:
                raw = expand.decompress(piece)
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

    def get_text(self, sha256: str) -> str:
        """The text that was stored under this hash."""
        return b"".join(self.read(sha256)).decode("utf-8", "surrogatepass")


def open_blobs(
    url: str | None, *, home: Path, client: redis.Redis | None, retention_s: int = _RETENTION_S
) -> Blobs:
    """The blob store at ``url``: ``redis``, a folder, any fsspec URL, or None for ``<home>/blobs``.

    Raises:
        SettingsError: where the URL names no place that can be used.
    """
    if url == "redis":
        if client is None:
            raise SettingsError(("RLM_BLOB_URL: redis is named, but there is no Redis connection",))
        return Blobs(RedisBackend(client, retention_s=retention_s))
    try:
        filesystem, root = fsspec.url_to_fs(url or str(home / "blobs"))
    except (ImportError, ValueError) as error:
        raise SettingsError((f"RLM_BLOB_URL: {error}",)) from None
    return Blobs(FsspecBackend(filesystem, root))


def text_pieces(text: str) -> Iterator[bytes]:
    """A text's UTF-8 bytes, never all at once; lone surrogates are encoded as if they were characters."""
    for start in range(0, len(text), TEXT_CHARS):
        yield text[start : start + TEXT_CHARS].encode("utf-8", "surrogatepass")


def _compressed(chunks: Iterable[bytes], sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    compress = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    for piece in _recut(chunks):
        digest.update(piece)
        yield compress.compress(piece)
    if digest.hexdigest() != sha256:
        raise BlobError(sha256, "the bytes changed while they were stored")


def _recut(chunks: Iterable[bytes]) -> Iterator[bytes]:
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= PIECE_BYTES:
            yield bytes(buffer[:PIECE_BYTES])
            del buffer[:PIECE_BYTES]
    if buffer:
        yield bytes(buffer)
