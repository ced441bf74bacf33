"""Jobs and batches that are deleted leave nothing behind, and blobs that others use."""

from typing import Any

import pytest
import redis

from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import JobState, Outcome
from rlm_dist.store import Store, keys
from tests.support.store_values import (
    LEASE_MS,
    finish_job,
    opens,
    retry_job,
    running_job,
    settlement,
    spec,
    start_job,
)

DONE = Outcome(state=JobState.SUCCEEDED, answer="x")


def ended(store: Store, job_id: str = "j", *, sha: str = "c0ffee", **fields: Any) -> None:
    epoch = running_job(store, job_id, sha=sha, **fields)
    store.calls.open(job_id, epoch, opens("a"))
    store.calls.settle(job_id, "sub-1", [settlement("a")])
    store.journals.append(job_id, epoch, "entry")
    store.journals.append_events(job_id, ["event"])
    finish_job(store, job_id, epoch, DONE)


def test_a_deleted_job_leaves_no_key(store: Store, redis_client: redis.Redis) -> None:
    ended(store)
    assert store.jobs.delete("j") == ["c0ffee"]
    assert list(redis_client.scan_iter("rlm:*")) == []
    with pytest.raises(NotFound):
        store.jobs.delete("j")


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_a_job_that_has_not_ended_stays(store: Store, state: JobState) -> None:
    store.jobs.create([spec()])
    if state is JobState.RUNNING:
        start_job(store, "j", "root-1", LEASE_MS)
    with pytest.raises(InputError, match=f"job j is {state}: cancel it first"):
        store.jobs.delete("j")
    assert store.jobs.get("j").state is state


def test_a_blob_goes_with_the_last_job_that_uses_it(store: Store, redis_client: redis.Redis) -> None:
    redis_client.hset(keys.blob("c0ffee"), "pieces", "0")
    ended(store, "a")
    ended(store, "b")
    running_job(store, "c")
    assert store.jobs.unused_blobs(["c0ffee", "other"]) == ["other"]
    assert store.jobs.delete("a") == []
    store.jobs.cancel("c")
    finish_job(store, "c", 1, Outcome(state=JobState.CANCELLED))
    assert store.jobs.delete("c") == []
    assert redis_client.exists(keys.blob("c0ffee"))
    assert store.jobs.delete("b") == ["c0ffee"]
    assert store.jobs.unused_blobs(["c0ffee"]) == ["c0ffee"]
    assert not redis_client.exists(keys.blob("c0ffee"))


def test_a_job_that_was_queued_again_uses_its_blob_again(store: Store) -> None:
    epoch = running_job(store, "a")
    finish_job(store, "a", epoch, Outcome(state=JobState.FAILED))
    assert retry_job(store, "a")
    ended(store, "b")
    assert store.jobs.delete("b") == []


def test_a_deleted_batch_leaves_no_key(store: Store, redis_client: redis.Redis) -> None:
    store.batches.create("b", "digest")
    for n in range(3):
        ended(store, f"j{n}", batch_id="b", index=n, sha=f"{n}")
    store.batches.seal("b")
    with pytest.raises(InputError, match="job j1 belongs to batch b: delete that"):
        store.jobs.delete("j1")
    redis_client.unlink(keys.job("j2"))  # its own retention was over first
    assert sorted(store.batches.delete("b")) == ["0", "1"]
    left = {name for name in redis_client.scan_iter("rlm:*") if "j2" not in name}
    assert left <= {keys.JOBS, f"{keys.blob('2')}:users"}
    with pytest.raises(NotFound):
        store.batches.delete("b")
    assert store.batches.newest(9) == []


def test_a_batch_that_has_not_ended_stays(store: Store) -> None:
    store.batches.create("b", "digest")
    ended(store, batch_id="b")
    with pytest.raises(InputError, match="batch b is running: cancel it first"):
        store.batches.delete("b")
    store.batches.seal("b")
    store.jobs.create([spec("k", batch_id="b", index=1)])
    with pytest.raises(InputError, match="batch b is running"):
        store.batches.delete("b")
    assert store.jobs.get("j").state is JobState.SUCCEEDED
