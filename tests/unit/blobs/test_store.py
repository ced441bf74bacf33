"""Blobs over a backend that is a dict: pieces, hashes and damage."""

import hashlib
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
import zstandard

from rlm_dist.blobs.store import PIECE_BYTES, Blobs, open_blobs
from rlm_dist.errors import BlobError, SettingsError


class DictBackend:
    def __init__(self) -> None:
        self.blobs: dict[str, list[bytes]] = {}
        self.writes = 0

    def keep(self, hashes: Sequence[str]) -> list[bool]:
        return [sha256 in self.blobs for sha256 in hashes]

    def size(self, sha256: str) -> int:
        return sum(map(len, self.blobs[sha256]))

    def delete(self, sha256: str) -> None:
        self.blobs.pop(sha256, None)

    def old(self, age_s: float) -> Iterator[str]:
        return iter(())

    def read(self, sha256: str) -> Iterator[bytes]:
        yield from self.blobs[sha256]

    def write(self, sha256: str, pieces: Iterable[bytes]) -> None:
        self.writes += 1
        self.blobs[sha256] = list(pieces)


@pytest.fixture
def backend() -> DictBackend:
    return DictBackend()


@pytest.mark.parametrize(
    "text", ["", "a", "naïve \U0001f600", "lone \ud800 surrogate", "nul \x00", "\ufeffx"]
)
def test_a_text_comes_back_as_it_was(backend: DictBackend, text: str) -> None:
    blobs = Blobs(backend)
    sha256 = blobs.put_text(text)
    assert blobs.get_text(sha256) == text
    assert sha256 == hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def test_storing_again_writes_nothing(backend: DictBackend) -> None:
    blobs = Blobs(backend)
    assert blobs.put_text("same") == blobs.put_text("same")
    assert backend.writes == 1
    assert blobs.has(hashlib.sha256(b"same").hexdigest())
    assert not blobs.has(hashlib.sha256(b"other").hexdigest())


def test_pieces_are_of_one_size_however_the_bytes_arrive(backend: DictBackend) -> None:
    """Small chunks are joined and large ones cut, so that equal bytes make equal pieces."""
    data = bytes(range(256)) * 40_000
    sha256 = hashlib.sha256(data).hexdigest()
    Blobs(backend).put(lambda: (data[i : i + 999] for i in range(0, len(data), 999)), sha256)
    in_small_chunks = backend.blobs.pop(sha256)
    Blobs(backend).put(lambda: [data], sha256)
    assert backend.blobs[sha256] == in_small_chunks
    assert [len(piece) for piece in Blobs(backend).read(sha256)] == [
        PIECE_BYTES,
        PIECE_BYTES,
        len(data) % PIECE_BYTES,
    ]
    assert sum(map(len, in_small_chunks)) < len(data) // 10


def test_bytes_that_do_not_hash_to_their_name_are_refused(backend: DictBackend) -> None:
    with pytest.raises(BlobError, match="changed while they were stored"):
        Blobs(backend).put(lambda: [b"other"], hashlib.sha256(b"one").hexdigest())


def test_a_flipped_bit_is_found(backend: DictBackend) -> None:
    blobs = Blobs(backend)
    sha256 = blobs.put_text("some text " * 100)
    piece = backend.blobs[sha256][0]
    for at in range(len(piece)):
        backend.blobs[sha256] = [piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]]
        with pytest.raises(BlobError, match="is damaged"):
            list(blobs.read(sha256))


@pytest.mark.parametrize("with_size", [True, False])
def test_a_piece_that_holds_more_than_a_piece_may_is_refused_before_there_is_room_for_it(
    backend: DictBackend, with_size: bool
) -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=with_size)
    sha256 = Blobs(backend).put_text("one")
    backend.blobs[sha256] = [compressor.compress(bytes(64 * PIECE_BYTES))]
    tracemalloc.start()
    try:
        with pytest.raises(BlobError, match="is damaged"):
            list(Blobs(backend).read(sha256))
        assert tracemalloc.get_traced_memory()[1] < 3 * PIECE_BYTES
    finally:
        tracemalloc.stop()


def test_a_whole_piece_of_another_text_is_found(backend: DictBackend) -> None:
    blobs = Blobs(backend)
    one, two = blobs.put_text("one"), blobs.put_text("two")
    backend.blobs[one] = backend.blobs[two]
    with pytest.raises(BlobError, match="do not hash to its name"):
        blobs.get_text(one)


@pytest.mark.parametrize("url", ["nonsense://bucket", "redis"])
def test_a_url_that_names_no_place_is_a_bad_setting(url: str) -> None:
    with pytest.raises(SettingsError, match="RLM_BLOB_URL"):
        open_blobs(url, home=Path("/nowhere"), client=None)
