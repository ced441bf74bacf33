"""Blobs in a folder, in another fsspec file system, and in Redis."""

import errno
import hashlib
import random
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec  # type: ignore[import-untyped]  # it ships no types
import pytest
import redis
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]  # the same
from redis.backoff import NoBackoff
from redis.retry import Retry

from rlm_dist.blobs.backends import FsspecBackend
from rlm_dist.blobs.store import PIECE_BYTES, Blobs, open_blobs
from rlm_dist.errors import BlobError, Unreachable
from rlm_dist.store import connect

NOISE = random.Random(1).randbytes(2 * PIECE_BYTES + 1000)
SHA256 = hashlib.sha256(NOISE).hexdigest()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url, client_name="test") as client:
        yield client


@pytest.fixture
def admin(admin_url: str, client: redis.Redis) -> Iterator[redis.Redis]:
    """A client that may do everything on the same server."""
    with connect(admin_url, client_name="test-admin") as admin:
        yield admin


@pytest.fixture(params=["folder", "memory", "redis"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "redis":
        return open_blobs("redis", home=tmp_path, client=request.getfixturevalue("client"))
    url = None if request.param == "folder" else f"memory://{uuid.uuid4().hex}"
    return open_blobs(url, home=tmp_path, client=None)


def put_noise(blobs: Blobs) -> None:
    blobs.put(lambda: (NOISE[i : i + 100_000] for i in range(0, len(NOISE), 100_000)), SHA256)


def test_bytes_come_back_as_they_were(blobs: Blobs) -> None:
    assert not blobs.has(SHA256)
    put_noise(blobs)
    assert blobs.has(SHA256)
    assert b"".join(blobs.read(SHA256)) == NOISE
    put_noise(blobs)
    assert blobs.get_text(blobs.put_text("")) == ""


def test_a_deleted_blob_is_gone(blobs: Blobs) -> None:
    put_noise(blobs)
    for _ in range(2):
        blobs.delete(SHA256)
        assert not blobs.has(SHA256)


def test_a_blob_that_is_not_there(blobs: Blobs) -> None:
    with pytest.raises(BlobError, match="is not stored"):
        list(blobs.read(SHA256))


def test_a_source_that_fails_leaves_nothing(blobs: Blobs) -> None:
    """An error from the source is raised unchanged, and the blob does not exist."""

    def failing() -> Iterator[bytes]:
        yield NOISE[: PIECE_BYTES + 1]
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        blobs.put(failing, SHA256)
    with pytest.raises(BlobError, match="changed while they were stored"):
        blobs.put(lambda: [NOISE, b"more"], SHA256)
    assert not blobs.has(SHA256)
    put_noise(blobs)
    assert b"".join(blobs.read(SHA256)) == NOISE


def test_two_writers_of_one_blob_do_not_meet(blobs: Blobs) -> None:
    """The second writer starts and ends while the first is halfway."""

    def slow() -> Iterator[bytes]:
        yield NOISE[:PIECE_BYTES]
        put_noise(blobs)
        yield NOISE[PIECE_BYTES:]

    blobs.put(slow, SHA256)
    assert b"".join(blobs.read(SHA256)) == NOISE


def test_a_folder_holds_nothing_of_a_failed_upload(tmp_path: Path) -> None:
    blobs = open_blobs(str(tmp_path / "store"), home=tmp_path, client=None)
    with pytest.raises(BlobError):
        blobs.put(lambda: [NOISE, b"more"], SHA256)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_missing_or_emptied_piece_is_said_to_be_missing(tmp_path: Path) -> None:
    blobs = open_blobs(None, home=tmp_path, client=None)
    put_noise(blobs)
    piece = next(tmp_path.rglob("*-1"))
    piece.write_bytes(b"")
    with pytest.raises(BlobError, match="piece of it is missing"):
        list(blobs.read(SHA256))
    piece.unlink()
    with pytest.raises(BlobError, match="piece of it is missing"):
        list(blobs.read(SHA256))


def test_a_damaged_manifest_is_said_to_be_damaged(tmp_path: Path) -> None:
    blobs = open_blobs(None, home=tmp_path, client=None)
    put_noise(blobs)
    next(tmp_path.rglob("manifest")).write_text("{")
    with pytest.raises(BlobError, match="manifest"):
        list(blobs.read(SHA256))


def test_a_place_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("in the way")
    with pytest.raises(BlobError, match="RLM_BLOB_URL"):
        open_blobs(None, home=tmp_path, client=None).put_text("x")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a separate small file system, or skip if we have no right to."""
    target = tmp_path / "small"
    target.mkdir()

    def mount(*options: str) -> Path:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(target)], capture_output=True
        )
        if made.returncode != 0:
            pytest.skip("mounting a file system needs root")
        return target

    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    yield mount
    subprocess.run(["umount", str(target)], capture_output=True, check=False)


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(
    mounted: Callable[..., Path], tmp_path: Path
) -> None:
    disk = mounted("size=6m")
    blobs = open_blobs(str(disk), home=tmp_path, client=None)
    with pytest.raises(BlobError, match=r"no space left in .*small: free some"):
        put_noise(blobs)
    assert [path for path in disk.rglob("*") if path.is_file()] == []
    assert not blobs.has(SHA256)


def test_a_read_only_disk_is_a_clear_error(mounted: Callable[..., Path], tmp_path: Path) -> None:
    blobs = open_blobs(str(mounted("ro")), home=tmp_path, client=None)
    with pytest.raises(BlobError, match=r"cannot write to .*small \(Read-only file system\)"):
        put_noise(blobs)


class FullStore(MemoryFileSystem):  # type: ignore[misc]  # it has no types
    """An object store whose quota ends after the first two objects."""

    store: ClassVar[dict[str, Any]] = {}

    def pipe_file(self, path: str, value: bytes, **kwargs: object) -> None:
        if len(self.store) >= 2:
            raise OSError(errno.ENOSPC, "quota")
        super().pipe_file(path, value, **kwargs)


def test_a_full_object_store_is_a_clear_error_and_leaves_nothing() -> None:
    files = FullStore(skip_instance_cache=True)
    with pytest.raises(BlobError, match="no space left"):
        put_noise(Blobs(FsspecBackend(files, "/bucket")))
    assert files.store == {}


class DriverError(Exception):
    """An error as drivers raise them: not an OSError."""


class LostStore(MemoryFileSystem):  # type: ignore[misc]  # it has no types
    """An object store that is lost during an upload."""

    store: ClassVar[dict[str, Any]] = {}

    def pipe_file(self, path: str, value: bytes, **kwargs: object) -> None:
        raise DriverError("no route to it")

    def rm_file(self, path: str) -> None:
        raise DriverError("nor for removing")


def test_a_lost_object_store_is_a_clear_error_of_its_first_trouble() -> None:
    """The upload cannot be removed then either, but that is not the trouble to report."""
    with pytest.raises(BlobError, match=r"cannot write to /bucket \(no route to it\)"):
        put_noise(Blobs(FsspecBackend(LostStore(skip_instance_cache=True), "/bucket")))


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    put_noise(open_blobs(f"file://{tmp_path}/there", home=tmp_path, client=None))
    assert open_blobs(str(tmp_path / "there"), home=tmp_path, client=None).has(SHA256)
    assert fsspec.url_to_fs(str(tmp_path))[0].exists(str(tmp_path / "there"))


def test_redis_keeps_no_key_for_ever(client: redis.Redis, admin: redis.Redis, tmp_path: Path) -> None:
    """A blob expires unless the store keeps it, and a failed upload leaves no key."""
    blobs = open_blobs("redis", home=tmp_path, client=client, retention_s=1000)
    with pytest.raises(BlobError):
        blobs.put(lambda: [NOISE, b"more"], SHA256)
    assert admin.keys() == []
    put_noise(blobs)
    assert admin.keys() == [f"rlm:blob:{SHA256}"]
    assert 990 < client.ttl(f"rlm:blob:{SHA256}") <= 1000


def test_redis_starts_the_time_of_a_blob_anew_when_it_is_asked_for(
    client: redis.Redis, tmp_path: Path
) -> None:
    blobs = open_blobs("redis", home=tmp_path, client=client, retention_s=1000)
    sha256 = blobs.put_text("text")
    client.expire(f"rlm:blob:{sha256}", 5)
    blobs.put_text("text")
    assert client.ttl(f"rlm:blob:{sha256}") > 990
    client.persist(f"rlm:blob:{sha256}")
    assert blobs.has(sha256)
    assert client.ttl(f"rlm:blob:{sha256}") == -1


def test_redis_keeps_what_the_store_keeps_though_a_second_writer_ends_later(
    client: redis.Redis, admin: redis.Redis, tmp_path: Path
) -> None:
    blobs = open_blobs("redis", home=tmp_path, client=client)

    def slow() -> Iterator[bytes]:
        put_noise(blobs)
        client.persist(f"rlm:blob:{SHA256}")
        yield NOISE

    blobs.put(slow, SHA256)
    assert client.ttl(f"rlm:blob:{SHA256}") == -1
    assert admin.keys() == [f"rlm:blob:{SHA256}"]


def test_redis_says_which_piece_is_missing(client: redis.Redis, tmp_path: Path) -> None:
    blobs = open_blobs("redis", home=tmp_path, client=client)
    put_noise(blobs)
    client.hdel(f"rlm:blob:{SHA256}", "1")
    with pytest.raises(BlobError, match="piece 1 of 3 is missing"):
        list(blobs.read(SHA256))


def test_redis_without_memory_is_a_clear_error(
    client: redis.Redis, admin: redis.Redis, tmp_path: Path
) -> None:
    blobs = open_blobs("redis", home=tmp_path, client=client)
    admin.config_set("maxmemory", 5_000_000)
    try:
        with pytest.raises(BlobError, match="no memory left"):
            put_noise(blobs)
    finally:
        admin.config_set("maxmemory", 0)
    assert admin.keys() == []


def test_redis_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    client = redis.Redis(unix_socket_path=str(tmp_path / "none.sock"), retry=Retry(NoBackoff(), 0))
    with client, pytest.raises(Unreachable, match=r"none\.sock"):
        open_blobs("redis", home=tmp_path, client=client).put_text("x")
