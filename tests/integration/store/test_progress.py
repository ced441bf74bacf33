"""What is reported of a running batch: calls in flight, running jobs, and what ended jobs had used."""

import redis

from rlm_dist.schema import JobState, Outcome, Role, Usage
from rlm_dist.store import Settlement, Spend, Store
from rlm_dist.store.keys import REQUESTS
from tests.support.store_values import (
    LEASE_MS,
    SHORT_MS,
    finish_job,
    opens,
    running_job,
    settlement,
    spec,
    start_job,
)
from tests.support.waiting import wait_until

DONE = Outcome(state=JobState.SUCCEEDED)


def claimed(store: Store) -> tuple[int, int]:
    """The claimed calls of job ``j`` and of its batch."""
    return store.jobs.get("j").calls_claimed, store.batches.get("b").calls_claimed


def job_in_batch(store: Store) -> int:
    store.batches.create("b", "digest", 2)
    return running_job(store, batch_id="b")


def aborted(call_id: str, role: Role = Role.SUB) -> Settlement:
    """The settlement of a call that its holder gave up."""
    return Settlement(call_id, role, "", None)


def test_a_call_counts_as_claimed_from_its_claim_to_its_end(store: Store) -> None:
    epoch = job_in_batch(store)
    store.calls.open("j", epoch, opens("a", "b", "c"))
    assert claimed(store) == (0, 0)
    store.calls.claim("j", ["a", "b"], "sub-1", LEASE_MS)
    store.calls.claim("j", ["a", "b"], "sub-2", LEASE_MS)
    assert claimed(store) == (2, 2)
    store.calls.renew("sub-1", {"j": ["a", "b"]}, LEASE_MS)
    store.calls.settle("j", "sub-1", [settlement("a")])
    store.calls.settle("j", "sub-1", [settlement("a")])
    assert claimed(store) == (1, 1)
    finish_job(store, "j", epoch, DONE)
    assert claimed(store) == (0, 0)
    store.calls.settle("j", "sub-1", [settlement("b")])
    assert claimed(store) == (0, 0)


def test_a_call_whose_holder_died_counts_as_claimed_until_that_is_seen(store: Store) -> None:
    epoch = job_in_batch(store)
    store.calls.open("j", epoch, opens("a", "b"))
    store.calls.claim("j", ["a", "b"], "dead", SHORT_MS)
    assert wait_until(lambda: store.calls.claim("j", ["a"], "sub-2", LEASE_MS)[0]) == "request a"
    assert claimed(store) == (2, 2)
    assert wait_until(lambda: store.calls.lost("j", ["b"], LEASE_MS)) == ["b"]
    assert claimed(store) == (1, 1)
    store.calls.settle("j", "dead", [settlement("b")])
    store.calls.settle("j", "sub-2", [settlement("a")])
    assert claimed(store) == (0, 0)


def test_a_call_that_was_given_up_is_not_claimed_and_is_again_once_it_is_taken_up(store: Store) -> None:
    epoch = job_in_batch(store)
    root = opens("r", role=Role.ROOT)
    store.calls.open("j", epoch, [*root, *opens("a")])
    store.calls.claim("j", ["a"], "sub-1", SHORT_MS)
    assert claimed(store) == (2, 2)
    store.calls.settle("j", "root-1", [aborted("r", Role.ROOT)])
    store.calls.settle("j", "sub-1", [aborted("a")])
    store.calls.settle("j", "sub-1", [aborted("a")])
    assert claimed(store) == (0, 0)
    store.jobs.park("j", epoch)
    epoch = start_job(store, "j", "root-2", LEASE_MS) or 0
    store.calls.open("j", epoch, root)
    assert wait_until(lambda: store.calls.claim("j", ["a"], "sub-2", LEASE_MS)[0]) == "request a"
    assert claimed(store) == (2, 2)
    store.calls.settle("j", "root-2", [settlement("r", role=Role.ROOT)])
    store.calls.settle("j", "sub-2", [settlement("a")])
    assert claimed(store) == (0, 0)


def test_running_jobs_come_oldest_first_with_what_they_have_used(store: Store) -> None:
    epoch = job_in_batch(store)
    store.calls.open("j", epoch, opens("a", "b"))
    store.calls.claim("j", ["a", "b"], "sub-1", LEASE_MS)
    store.calls.settle("j", "sub-1", [settlement("a", nanousd=5)])
    wait_until(lambda: store.connection.now_ms() > (store.jobs.get("j").started_ms or 0))
    store.jobs.create([spec("waits")])
    other = running_job(store, "alone")
    store.workers.announce_requests("sub-1", {"j": 1}, LEASE_MS)
    first, second = store.jobs.running()
    assert (first.job_id, first.batch_id, first.worker) == ("j", "b", "root-1")
    assert (first.calls_in_flight, first.nanousd, first.tokens) == (1, 5, 12)
    assert (second.job_id, second.batch_id) == ("alone", None)
    finish_job(store, "j", epoch, DONE)
    finish_job(store, "alone", other, DONE)
    assert store.jobs.running() == []


def test_in_flight_is_what_workers_say_that_they_have_on_the_wire(
    store: Store, redis_client: redis.Redis
) -> None:
    """Claimed calls are not all in flight: most of them may wait."""
    job_in_batch(store)
    running_job(store, "alone")
    store.workers.announce_requests("sub-1", {"j": 3, "alone": 1}, LEASE_MS)
    store.workers.announce_requests("sub-2", {"j": 2}, LEASE_MS)
    assert (store.jobs.get("j").calls_in_flight, store.jobs.get("alone").calls_in_flight) == (5, 1)
    assert store.batches.get("b").calls_in_flight == 5
    store.workers.announce_requests("sub-1", {}, LEASE_MS)
    assert store.batches.get("b").calls_in_flight == 2
    store.workers.announce_requests("sub-2", {"j": 7}, SHORT_MS)
    wait_until(lambda: store.batches.get("b").calls_in_flight == 0)  # that worker is gone
    store.workers.announce_requests("sub-3", {"j": 1}, LEASE_MS)
    assert redis_client.hkeys(REQUESTS) == ["sub-3"]
    assert redis_client.ttl(REQUESTS) > 0


def test_what_jobs_had_used_is_told_from_the_last_end_on(store: Store, redis_client: redis.Redis) -> None:
    epoch = job_in_batch(store)
    store.jobs.create([spec("k", batch_id="b", index=1)])
    store.calls.open("j", epoch, opens("a"))
    spend = Spend("m", Usage(input_tokens=3), 7)
    store.calls.settle("j", "sub-1", [Settlement("a", Role.SUB, "result", spend)])
    finish_job(store, "j", epoch, DONE)
    store.jobs.cancel("k")
    never_run, ended = store.batches.last_ended("b", 10)
    assert (never_run.job_id, never_run.run_s, never_run.nanousd) == ("k", None, 0)
    assert (ended.job_id, ended.nanousd, ended.tokens) == ("j", 7, 3)
    record = store.jobs.get("j")
    assert ended.run_s == ((record.ended_ms or 0) - (record.started_ms or 0)) / 1000
    assert [job.job_id for job in store.batches.last_ended("b", 1)] == ["k"]


def test_records_are_read_together_and_a_missing_one_is_none(store: Store) -> None:
    store.jobs.create([spec("j"), spec("k")])
    first, none, last = store.jobs.records(["k", "nobody", "j"])
    assert (first and first.spec.id, none, last and last.spec.id) == ("k", None, "j")
