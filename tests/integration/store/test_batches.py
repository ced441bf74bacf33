"""Batches in the store: filled, sealed, counted, paused, cancelled, and gone after their retention."""

import pytest
import redis

from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import BatchState, JobState, Outcome
from rlm_dist.store import CallState, Store
from tests.support.key_leaks import leaked_keys
from tests.support.store_values import (
    LEASE_MS,
    RETENTION_S,
    at_once,
    finish_job,
    opens,
    running_job,
    spec,
    start_job,
)

DONE = Outcome(state=JobState.SUCCEEDED)


def filled(store: Store, jobs: int = 3) -> list[str]:
    """A sealed batch ``b`` of queued jobs; returns their ids."""
    store.batches.create("b", "digest")
    ids = [f"j{n}" for n in range(jobs)]
    store.jobs.create([spec(name, batch_id="b", index=n) for n, name in enumerate(ids)])
    store.batches.seal("b")
    return ids


def test_a_name_belongs_to_one_content(store: Store) -> None:
    assert store.batches.create("b", "digest", 7) is True
    assert store.batches.create("b", "digest", 7) is False
    with pytest.raises(InputError, match="batch b"):
        store.batches.create("b", "other")
    assert store.batches.get("b").total == 7
    assert [batch.id for batch in store.batches.newest(10)] == ["b"]
    for use in (store.batches.get, store.batches.seal, store.batches.cancel):
        with pytest.raises(NotFound):
            use("nobody")


def test_a_batch_completes_when_sealed_and_all_are_final(store: Store) -> None:
    store.batches.create("b", "digest")
    epoch = running_job(store, batch_id="b")
    finish_job(store, "j", epoch, DONE)
    assert store.batches.get("b").state is BatchState.RUNNING
    store.jobs.create([spec("k", batch_id="b")])
    store.batches.seal("b")
    record = store.batches.get("b")
    assert (record.state, record.total) == (BatchState.RUNNING, 2)
    assert (record.counts[JobState.SUCCEEDED], record.counts[JobState.QUEUED]) == (1, 1)
    store.jobs.cancel("k")
    record = store.batches.get("b")
    assert record.state is BatchState.COMPLETED
    assert sum(record.counts.values()) == 2


def test_jobs_come_in_submission_order_even_if_created_otherwise(store: Store) -> None:
    store.batches.create("b", "digest")
    store.jobs.create([spec(f"j{n}", batch_id="b", index=n) for n in (2, 0, 11, 1)])
    assert store.batches.job_ids("b", 0, 3) == ["j0", "j1", "j2"]
    assert store.batches.job_ids("b", 3, 3) == ["j11"]
    assert store.batches.job_ids("b", 4, 3) == []


def test_ended_jobs_come_in_order_of_their_end(store: Store) -> None:
    ids = filled(store)
    assert store.batches.ended_jobs("b", block_ms=10) == []
    for name in reversed(ids):
        store.jobs.cancel(name)
    ended = store.batches.ended_jobs("b")
    assert [job for _, job in ended] == ["j2", "j1", "j0"]
    assert store.batches.ended_jobs("b", after=ended[1][0]) == [ended[2]]


def test_racing_ends_are_all_counted(store: Store) -> None:
    ids = filled(store, 40)
    epochs = [start_job(store, name, "root-1", LEASE_MS) or 0 for name in ids]
    assert all(at_once(40, lambda n: finish_job(store, ids[n], epochs[n], DONE)))
    record = store.batches.get("b")
    assert record.counts[JobState.SUCCEEDED] == 40
    assert record.counts[JobState.RUNNING] == record.counts[JobState.QUEUED] == 0
    assert len(store.batches.ended_jobs("b")) == 40


def test_a_paused_batch_starts_and_claims_nothing(store: Store) -> None:
    store.batches.create("b", "digest")
    epoch = running_job(store, batch_id="b")
    store.jobs.create([spec("k", batch_id="b")])
    store.calls.open("j", epoch, opens("a"))
    store.batches.pause("b")
    assert store.batches.get("b").state is BatchState.PAUSED
    assert start_job(store, "k", "root-1", LEASE_MS) is None
    assert store.calls.claim("j", ["a"], "sub-1", LEASE_MS) == [None]
    assert store.jobs.renew("j", epoch, LEASE_MS) == "paused"
    store.batches.resume("b")
    assert store.batches.get("b").state is BatchState.RUNNING
    assert store.calls.claim("j", ["a"], "sub-1", LEASE_MS) == ["request a"]
    assert start_job(store, "k", "root-1", LEASE_MS) == 1


def test_cancelling_a_batch_reaches_every_job(store: Store) -> None:
    store.batches.create("b", "digest")
    epoch = running_job(store, batch_id="b")
    store.calls.open("j", epoch, opens("a"))
    store.jobs.create([spec(f"q{n}", batch_id="b", index=n) for n in range(450)])
    store.batches.cancel("b")
    record = store.batches.get("b")
    assert record.state is BatchState.CANCELLED
    assert record.counts[JobState.CANCELLED] == 450
    assert store.jobs.renew("j", epoch, LEASE_MS) == "cancelled"
    assert store.calls.claim("j", ["a"], "sub-1", LEASE_MS) == [None]
    assert store.calls.renew("sub-1", {"j": ["a"]}, LEASE_MS).cancelled == {"j"}
    store.jobs.create([spec("late", batch_id="b")])
    assert store.jobs.get("late").state is JobState.CANCELLED


def test_a_completed_batch_stays_completed(store: Store) -> None:
    for name in filled(store):
        epoch = start_job(store, name, "root-1", LEASE_MS) or 0
        finish_job(store, name, epoch, DONE)
    store.batches.pause("b")
    store.batches.cancel("b")
    assert store.batches.get("b").state is BatchState.COMPLETED


def test_a_batch_expires_after_its_last_job_even_unsealed(store: Store, redis_client: redis.Redis) -> None:
    store.batches.create("b", "digest")
    assert leaked_keys(redis_client) == []  # a submitter may die here
    epoch = running_job(store, batch_id="b")
    assert store.calls.open("j", epoch, opens("a", nanousd=1)) == [CallState.NEW]
    assert redis_client.ttl("rlm:batch:b") == -1
    finish_job(store, "j", epoch, DONE)
    names = set(redis_client.scan_iter("rlm:batch:b*"))
    assert len(names) == 10
    assert all(RETENTION_S - 60 < redis_client.ttl(name) <= RETENTION_S for name in names)
    store.jobs.create([spec("k", batch_id="b")])
    assert {redis_client.ttl(name) for name in names} == {-1}
