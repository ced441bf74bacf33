"""Batches in the store: filled, sealed, counted, paused, cancelled, and gone after their retention."""

import pytest
import redis

from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import BatchState, JobState, Outcome
from rlm_dist.store import CallState, Store
from tests.integration.store_making import LEASE_MS, RETENTION_S, at_once, opens, running_job, spec
from tests.key_leaks import leaked_keys

DONE = Outcome(state=JobState.SUCCEEDED)


def filled(store: Store, jobs: int = 3) -> list[str]:
    """A sealed batch ``b`` of queued jobs; returns their ids."""
    store.create_batch("b", "digest")
    ids = [f"j{n}" for n in range(jobs)]
    store.create_jobs([spec(name, batch_id="b", index=n) for n, name in enumerate(ids)])
    store.seal_batch("b")
    return ids


def test_a_name_belongs_to_one_content(store: Store) -> None:
    assert store.create_batch("b", "digest", 7) is True
    assert store.create_batch("b", "digest", 7) is False
    with pytest.raises(InputError, match="batch b"):
        store.create_batch("b", "other")
    assert store.batch("b").total == 7
    assert [batch.id for batch in store.batches(10)] == ["b"]
    for use in (store.batch, store.seal_batch, store.cancel_batch):
        with pytest.raises(NotFound):
            use("nobody")


def test_a_batch_completes_when_sealed_and_all_are_final(store: Store) -> None:
    store.create_batch("b", "digest")
    epoch = running_job(store, batch_id="b")
    store.finish_job("j", epoch, DONE)
    assert store.batch("b").state is BatchState.RUNNING
    store.create_jobs([spec("k", batch_id="b")])
    store.seal_batch("b")
    record = store.batch("b")
    assert (record.state, record.total) == (BatchState.RUNNING, 2)
    assert (record.counts[JobState.SUCCEEDED], record.counts[JobState.QUEUED]) == (1, 1)
    store.cancel_job("k")
    record = store.batch("b")
    assert record.state is BatchState.COMPLETED
    assert sum(record.counts.values()) == 2


def test_jobs_come_in_submission_order_even_if_created_otherwise(store: Store) -> None:
    store.create_batch("b", "digest")
    store.create_jobs([spec(f"j{n}", batch_id="b", index=n) for n in (2, 0, 11, 1)])
    assert store.batch_jobs("b", 0, 3) == ["j0", "j1", "j2"]
    assert store.batch_jobs("b", 3, 3) == ["j11"]
    assert store.batch_jobs("b", 4, 3) == []


def test_ended_jobs_come_in_order_of_their_end(store: Store) -> None:
    ids = filled(store)
    assert store.ended_jobs("b", block_ms=10) == []
    for name in reversed(ids):
        store.cancel_job(name)
    ended = store.ended_jobs("b")
    assert [job for _, job in ended] == ["j2", "j1", "j0"]
    assert store.ended_jobs("b", after=ended[1][0]) == [ended[2]]


def test_racing_ends_are_all_counted(store: Store) -> None:
    ids = filled(store, 40)
    epochs = [store.start_job(name, "root-1", LEASE_MS) or 0 for name in ids]
    assert all(at_once(40, lambda n: store.finish_job(ids[n], epochs[n], DONE)))
    record = store.batch("b")
    assert record.counts[JobState.SUCCEEDED] == 40
    assert record.counts[JobState.RUNNING] == record.counts[JobState.QUEUED] == 0
    assert len(store.ended_jobs("b")) == 40


def test_a_paused_batch_starts_and_claims_nothing(store: Store) -> None:
    store.create_batch("b", "digest")
    epoch = running_job(store, batch_id="b")
    store.create_jobs([spec("k", batch_id="b")])
    store.open_calls("j", epoch, opens("a"))
    store.pause_batch("b")
    assert store.batch("b").state is BatchState.PAUSED
    assert store.start_job("k", "root-1", LEASE_MS) is None
    assert store.claim("j", ["a"], "sub-1", LEASE_MS) == [None]
    assert store.renew_job("j", epoch, LEASE_MS) == "paused"
    store.resume_batch("b")
    assert store.batch("b").state is BatchState.RUNNING
    assert store.claim("j", ["a"], "sub-1", LEASE_MS) == ["request a"]
    assert store.start_job("k", "root-1", LEASE_MS) == 1


def test_cancelling_a_batch_reaches_every_job(store: Store) -> None:
    store.create_batch("b", "digest")
    epoch = running_job(store, batch_id="b")
    store.open_calls("j", epoch, opens("a"))
    store.create_jobs([spec(f"q{n}", batch_id="b", index=n) for n in range(450)])
    store.cancel_batch("b")
    record = store.batch("b")
    assert record.state is BatchState.CANCELLED
    assert record.counts[JobState.CANCELLED] == 450
    assert store.renew_job("j", epoch, LEASE_MS) == "cancelled"
    assert store.claim("j", ["a"], "sub-1", LEASE_MS) == [None]
    assert store.renew_calls("sub-1", {"j": ["a"]}, LEASE_MS).cancelled == {"j"}
    store.create_jobs([spec("late", batch_id="b")])
    assert store.job("late").state is JobState.CANCELLED


def test_a_completed_batch_stays_completed(store: Store) -> None:
    for name in filled(store):
        epoch = store.start_job(name, "root-1", LEASE_MS) or 0
        store.finish_job(name, epoch, DONE)
    store.pause_batch("b")
    store.cancel_batch("b")
    assert store.batch("b").state is BatchState.COMPLETED


def test_a_batch_expires_after_its_last_job_even_unsealed(store: Store, redis_client: redis.Redis) -> None:
    store.create_batch("b", "digest")
    assert leaked_keys(redis_client) == []  # a submitter may die here
    epoch = running_job(store, batch_id="b")
    assert store.open_calls("j", epoch, opens("a", nanousd=1)) == [CallState.NEW]
    assert redis_client.ttl("rlm:batch:b") == -1
    store.finish_job("j", epoch, DONE)
    names = set(redis_client.scan_iter("rlm:batch:b*"))
    assert len(names) == 4
    assert all(RETENTION_S - 60 < redis_client.ttl(name) <= RETENTION_S for name in names)
    store.create_jobs([spec("k", batch_id="b")])
    assert {redis_client.ttl(name) for name in names} == {-1}
