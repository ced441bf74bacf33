"""A folder loses the blobs that no job uses once their retention is over, and no others."""

import os
import time
from pathlib import Path

import pytest

from rlm_dist.blobs.store import Blobs, open_blobs
from rlm_dist.blobs.sweep import sweep
from rlm_dist.schema import JobState, Outcome
from rlm_dist.store import Store
from tests.support.store_values import finish_job, running_job

RETENTION_S = 1000.0


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return open_blobs(str(tmp_path / "blobs"), home=tmp_path, client=None)


def age(tmp_path: Path, sha256: str) -> None:
    """Date a blob back to before its retention."""
    then = time.time() - RETENTION_S - 60
    folder = tmp_path / "blobs" / sha256[:2] / sha256
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


def test_only_old_blobs_without_a_job_go(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    names = ("new", "old", "running", "ended", "kept")
    hashes = {name: blobs.put_text(name) for name in names}
    running_job(store, "r", sha=hashes["running"])
    finish_job(store, "e", running_job(store, "e", sha=hashes["ended"]), Outcome(state=JobState.SUCCEEDED))
    for name in names[1:]:
        age(tmp_path, hashes[name])
    assert blobs.has(hashes["kept"])  # a client is about to use it
    assert sweep(blobs, store.jobs, retention_s=RETENTION_S) == 1
    assert {name for name in names if blobs.has(hashes[name])} == set(names) - {"old"}
    assert not (tmp_path / "blobs" / hashes["old"][:2] / hashes["old"]).exists()


def test_what_a_writer_left_that_died_goes_too(store: Store, blobs: Blobs, tmp_path: Path) -> None:
    sha256 = blobs.put_text("half")
    (tmp_path / "blobs" / sha256[:2] / sha256 / "manifest").unlink()
    assert sweep(blobs, store.jobs, retention_s=RETENTION_S) == 0
    age(tmp_path, sha256)
    assert sweep(blobs, store.jobs, retention_s=RETENTION_S) == 1
    assert list((tmp_path / "blobs").glob("*/*")) == []


def test_other_storages_are_left_alone(store: Store, tmp_path: Path) -> None:
    memory = open_blobs("memory://sweep", home=tmp_path, client=None)
    sha256 = memory.put_text("x")
    assert sweep(memory, store.jobs, retention_s=-1) == 0
    assert memory.has(sha256)
