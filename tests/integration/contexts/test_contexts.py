"""Contexts from files, folders, URLs and standard input, stored, then fetched by a worker's cache."""

import io
import os
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec  # type: ignore[import-untyped]  # it ships no types
import pytest

from rlm_dist.blobs.store import Blobs, open_blobs
from rlm_dist.contexts.cache import ContextCache
from rlm_dist.contexts.encoding import Encoded, encode, encode_files, store_context
from rlm_dist.errors import BlobError, InputError
from rlm_dist.schema import ContextRef
from tests.support.context_decoder import decode

MIB = 1024 * 1024


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return open_blobs(None, home=tmp_path / "home", client=None)


def texts_of(encoded: Encoded) -> list[str]:
    return decode(b"".join(encoded.pieces()))[1]


def test_one_file_is_the_same_context_as_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Grüße\n" * 1000, encoding="utf-8")
    assert encode_files([tmp_path / "a.txt"]).ref == encode("Grüße\n" * 1000).ref


def test_characters_that_lie_across_the_edge_of_a_read_are_counted_once(tmp_path: Path) -> None:
    text = "a" + "\U0001f600" * MIB
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert encode_files([tmp_path / "a.txt"]).ref == encode(text).ref


def test_a_folder_is_a_list_of_named_documents_sorted_by_path(tmp_path: Path) -> None:
    for name in ["b.txt", "a/z.txt", "a/deep/er.txt", ".hidden", ".git/config", "a.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"in {name}", encoding="utf-8")
    encoded = encode_files([str(tmp_path)])
    names = ["a/deep/er.txt", "a/z.txt", "a.txt", "b.txt"]
    assert texts_of(encoded) == [f"in {name}" for name in names] + names
    info = encoded.ref.info
    assert (info.kind, info.items, info.named, info.several) == ("list", 4, True, False)
    assert info.chars == sum(len(f"in {name}") for name in names)


def test_several_files_are_several_contexts(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name * 3, encoding="utf-8")
    encoded = encode_files([tmp_path / "b", tmp_path / "a"])
    assert texts_of(encoded) == ["bbb", "aaa", str(tmp_path / "b"), str(tmp_path / "a")]
    assert (encoded.ref.info.several, encoded.ref.info.sizes) == (True, (3, 3))


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
    assert encode_files([tmp_path / "a.txt"]).ref == encode("hello").ref


def test_standard_input_and_pipes_are_read_once(tmp_path: Path) -> None:
    encoded = encode_files(["-"], stdin=io.BytesIO(b"\xef\xbb\xbffrom a pipe"))
    assert texts_of(encoded) == texts_of(encoded) == ["from a pipe"]
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"from a fifo",))
    writer.start()
    assert texts_of(encode_files([tmp_path / "pipe"])) == ["from a fifo"]
    writer.join()


def test_a_url_is_read_through_fsspec(tmp_path: Path) -> None:
    with fsspec.open("memory://somewhere/a.txt", "wb") as file:
        file.write(b"far away")
    (tmp_path / "b.txt").write_text("near", encoding="utf-8")
    encoded = encode_files(["memory://somewhere/a.txt", f"file://{tmp_path}/b.txt"])
    assert texts_of(encoded)[:2] == ["far away", "near"]


def test_all_bad_files_are_listed_with_the_place_of_the_first_bad_byte(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * (MIB - 1) + "é".encode() + b"\xff rest")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfab\x80")
    (tmp_path / "c.txt").write_bytes(b"cut \xe2\x82")
    (tmp_path / "d.txt").write_bytes("Windows".encode("utf-16"))
    (tmp_path / "e.txt").write_bytes(b"good")
    with pytest.raises(InputError) as caught:
        encode_files([tmp_path])
    assert caught.value.problems == (
        f"a.txt: is not UTF-8, first bad byte at offset {MIB + 1}",
        "b.txt: is not UTF-8, first bad byte at offset 5",
        "c.txt: is not UTF-8, first bad byte at offset 4",
        "d.txt: is not UTF-8, first bad byte at offset 0 (it looks like UTF-16)",
    )


def test_binary_files_of_a_folder_can_be_left_out_and_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"x" * (MIB // 16 - 1) + "é".encode())  # which the first look cuts in two
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "c.bin").write_bytes(b"zero \0")
    (folder / "d.txt").write_bytes(b"cut \xe2\x82")
    (folder / "e.txt").write_bytes(b"")
    skipped: list[str] = []
    assert texts_of(encode_files([folder], skip=skipped.append))[2:] == ["a.txt", "e.txt"]
    assert skipped == [f"{folder}/{name}" for name in ("b.png", "c.bin", "d.txt")]
    with pytest.raises(InputError, match=r"b.png: is not UTF-8, first bad byte at offset 0"):
        encode_files([folder / "b.png"], skip=skipped.append)
    (folder / "a.txt").unlink()
    (folder / "e.txt").unlink()
    with pytest.raises(InputError, match="notes: holds no text files"):
        encode_files([folder], skip=skipped.append)


def test_what_cannot_be_read_is_listed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    paths: list[str | Path] = [
        tmp_path / "none.txt",
        tmp_path / "empty",
        "memory://none",
        "nonsense://x",
        "-",
    ]
    with pytest.raises(InputError) as caught:
        encode_files(paths)
    assert caught.value.problems[:3] == (
        f"{tmp_path}/none.txt: no such file",
        f"{tmp_path}/empty: holds no files",
        "memory://none: no such file",
    )
    assert "nonsense" in caught.value.problems[3]
    assert caught.value.problems[4:] == ("-: no such file",)


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_empty_context(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match="is empty"):
        encode_files([tmp_path / "a.txt"])


def test_a_file_that_changes_before_it_is_stored_is_named(tmp_path: Path, blobs: Blobs) -> None:
    (tmp_path / "a.txt").write_text("first", encoding="utf-8")
    encoded = encode_files([tmp_path / "a.txt"])
    (tmp_path / "a.txt").write_text("other", encoding="utf-8")
    os.utime(tmp_path / "a.txt", (1, 1))
    with pytest.raises(InputError, match=r"a\.txt: changed while it was read"):
        store_context(encoded, blobs)
    assert not blobs.has(encoded.ref.sha256)


def test_a_file_that_vanishes_before_it_is_stored_is_named(tmp_path: Path, blobs: Blobs) -> None:
    (tmp_path / "a.txt").write_text("first", encoding="utf-8")
    encoded = encode_files([tmp_path / "a.txt"])
    (tmp_path / "a.txt").unlink()
    with pytest.raises(InputError, match=r"a\.txt: no such file"):
        store_context(encoded, blobs)


def test_a_large_file_is_never_in_memory(tmp_path: Path, blobs: Blobs) -> None:
    """Encoding, storing and fetching 64 MiB takes the memory of a few pieces."""
    with (tmp_path / "large.txt").open("wb") as file:
        for number in range(64):
            file.write(f"{number:7}\n".encode() * (MIB // 8))
    tracemalloc.start()
    try:
        ref = store_context(encode_files([tmp_path / "large.txt"]), blobs)
        ContextCache(tmp_path / "cache", blobs).path(ref)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ref.info.chars == 64 * MIB
    assert peak < 24 * MIB


def stored(blobs: Blobs, text: str) -> ContextRef:
    return store_context(encode(text), blobs)


def names(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if not path.name.startswith("lock-")}


def test_the_cache_holds_the_encoded_bytes(tmp_path: Path, blobs: Blobs) -> None:
    ref = stored(blobs, "hello")
    path = ContextCache(tmp_path / "cache", blobs).path(ref)
    assert path.read_bytes() == b"".join(encode("hello").pieces())
    assert names(tmp_path / "cache") == {ref.sha256}


class CountingBlobs(Blobs):
    """Counts fetches, and lets other requests arrive meanwhile."""

    def __init__(self, blobs: Blobs, parties: int = 1) -> None:
        super().__init__(blobs._backend)
        self.reads = 0
        self.arrived = threading.Semaphore(0)
        self.parties = parties

    def read(self, sha256: str) -> Iterator[bytes]:
        self.reads += 1
        for _ in range(self.parties):
            assert self.arrived.acquire(timeout=30)
        yield from super().read(sha256)


def test_one_of_many_fetches_while_the_others_wait(tmp_path: Path, blobs: Blobs) -> None:
    ref = stored(blobs, "wanted by all")
    counting = CountingBlobs(blobs, parties=8)

    def fetch(_: int) -> bytes:
        cache = ContextCache(tmp_path / "cache", counting)
        counting.arrived.release()
        return cache.path(ref).read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(fetch, range(8)))) == 1
    assert counting.reads == 1


def test_a_cut_file_and_a_left_over_part_are_fetched_again(tmp_path: Path, blobs: Blobs) -> None:
    ref = stored(blobs, "hello")
    cache = ContextCache(tmp_path / "cache", blobs)
    whole = cache.path(ref).read_bytes()
    cache.path(ref).unlink()
    (tmp_path / "cache" / ref.sha256).write_bytes(whole[:-1])
    (tmp_path / "cache" / f"{ref.sha256}.part").write_bytes(b"of a process that died")
    assert cache.path(ref).read_bytes() == whole
    assert names(tmp_path / "cache") == {ref.sha256}


def test_a_damaged_or_missing_context_leaves_nothing(tmp_path: Path, blobs: Blobs) -> None:
    ref = encode("never stored").ref
    with pytest.raises(BlobError, match="is not stored"):
        ContextCache(tmp_path / "cache", blobs).path(ref)
    ref = stored(blobs, "hello")
    next((tmp_path / "home").rglob("*-0")).write_bytes(b"damage")
    with pytest.raises(BlobError, match="is damaged"):
        ContextCache(tmp_path / "cache", blobs).path(ref)
    assert names(tmp_path / "cache") == set()


def test_the_least_recently_used_make_room_but_not_those_in_use(tmp_path: Path, blobs: Blobs) -> None:
    refs = [stored(blobs, letter * 1000) for letter in "abcd"]
    one_size = refs[0].size_bytes
    cache = ContextCache(tmp_path / "cache", blobs, max_bytes=7 * one_size // 2)
    for age, ref in enumerate(refs[:3]):
        os.utime(cache.path(ref), (1000 + age, 1000 + age))
    cache.path(refs[1])
    with cache.hold(refs[0]) as held:
        os.utime(held, (1, 1))
        cache.path(refs[3])
        assert held.exists()
    assert names(tmp_path / "cache") == {ref.sha256 for ref in (refs[0], refs[1], refs[3])}
    os.utime(held, (1, 1))
    cache.path(refs[2])
    assert names(tmp_path / "cache") == {ref.sha256 for ref in (refs[1], refs[2], refs[3])}


def test_the_folder_is_not_looked_through_for_each_context(tmp_path: Path, blobs: Blobs) -> None:
    """With thousands of small contexts that would take longer than all other work for a job."""
    looks: list[str] = []
    watched = {str(tmp_path / "cache")}

    def note(event: str, args: tuple[object, ...]) -> None:
        if watched and args and str(args[0]) in watched:
            looks.append(event)

    sys.addaudithook(note)
    cache = ContextCache(tmp_path / "cache", blobs)
    for number in range(5):
        cache.path(stored(blobs, f"context {number}"))
    watched.clear()  # a hook cannot be removed
    assert len([event for event in looks if event in ("os.listdir", "os.scandir")]) == 1
    assert len(names(tmp_path / "cache")) == 5


def test_a_use_leaves_the_modification_time(tmp_path: Path, blobs: Blobs) -> None:
    """It is how REPLs of several jobs are recognised as sharing a context."""
    ref = stored(blobs, "hello")
    cache = ContextCache(tmp_path / "cache", blobs)
    os.utime(cache.path(ref), (1, 1))
    used = cache.path(ref).stat()
    assert used.st_mtime == 1
    assert used.st_atime > 1


def test_a_context_over_the_bound_is_fetched_all_the_same(tmp_path: Path, blobs: Blobs) -> None:
    small, large = stored(blobs, "small"), stored(blobs, "large" * 1000)
    cache = ContextCache(tmp_path / "cache", blobs, max_bytes=1000)
    cache.path(small)
    assert cache.path(large).exists()
    assert names(tmp_path / "cache") == {large.sha256}
