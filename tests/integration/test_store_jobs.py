"""Jobs in the store: created once, held by one worker at a time, ended once, gone after their retention."""

import threading

import pytest
import redis

from rlm_dist.client.handles import result_of
from rlm_dist.errors import Cancelled, NotFound, Superseded
from rlm_dist.schema import CallFailure, CallResult, JobState, Outcome, Role
from rlm_dist.store import CallState, Settlement, Store
from tests.integration.store_making import (
    LEASE_MS,
    RETENTION_S,
    SHORT_MS,
    at_once,
    counted,
    opens,
    running_job,
    settlement,
    spec,
)
from tests.key_leaks import leaked_keys
from tests.waiting import wait_until

DONE = Outcome(state=JobState.SUCCEEDED, answer="42", iterations=3)


def lapse(store: Store, job_id: str = "j") -> int:
    """Take over a job whose lease lapses; returns the new epoch."""
    return wait_until(lambda: store.start_job(job_id, "root-2", LEASE_MS)) or 0


def test_a_job_is_created_once_and_read_back(store: Store) -> None:
    job = spec(max_nanousd=5, max_seconds=1.5)
    assert store.create_jobs([job, job, spec("k")]) == [True, False, True]
    record = store.job("j")
    assert record.spec == job
    assert (record.state, record.epoch, record.outcome) == (JobState.QUEUED, 0, None)
    assert record.queued_ms > 1_600_000_000_000
    assert {found.spec.id for found in store.jobs(10)} == {"j", "k"}
    assert len(store.jobs(1)) == 1


def test_a_job_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        store.job("nobody")
    with pytest.raises(NotFound):
        store.start_job("nobody", "root-1", LEASE_MS)
    with pytest.raises(NotFound):
        store.create_jobs([spec(batch_id="nobody")])


def test_a_job_says_how_its_last_worker_isolated_it(store: Store) -> None:
    store.create_jobs([spec()])
    assert store.job("j").isolation is None
    store.start_job("j", "root-1", SHORT_MS, "seccomp")
    assert store.job("j").isolation == "seccomp"
    epoch = wait_until(lambda: store.start_job("j", "root-2", LEASE_MS, "none")) or 0
    store.finish_job("j", epoch, Outcome(state=JobState.FAILED))
    assert result_of(store.job("j")).isolation == "none"
    store.retry_job("j")
    assert store.job("j").isolation is None


def test_the_clock_of_a_job_can_stand_still(store: Store) -> None:
    """While the endpoint is away; also for the worker that takes the job over."""
    epoch = running_job(store)
    began_ms = store.job("j").since_ms or 0
    store.renew_job("j", epoch, LEASE_MS)
    store.renew_job("j", epoch, LEASE_MS, stopped_ms=1500)
    assert store.job("j").since_ms == began_ms + 1500
    store.park_job("j", epoch)
    assert store.job("j").ran_ms < 1500


@pytest.mark.parametrize(("kind", "kept"), [("invalid", True), ("timeout", False), ("outage", False)])
def test_a_retry_asks_the_root_model_again_if_sub_calls_failed_for_a_passing_reason(
    store: Store, kind: str, kept: bool
) -> None:
    """What it was shown is then not true any more; what was paid for is found by its id."""
    epoch = running_job(store)
    store.open_calls("j", epoch, [*opens("a", "b"), *opens("r", role=Role.ROOT)])
    failed = CallResult(failure=CallFailure(kind=kind, message="no")).model_dump_json()
    store.claim("j", ["a", "b"], "sub-1", LEASE_MS)
    store.settle("j", "sub-1", [settlement("a"), Settlement("b", Role.SUB, failed, None)])
    store.settle("j", "root-1", [settlement("r", role=Role.ROOT)])
    store.append_journal("j", epoch, "entry")
    store.finish_job("j", epoch, Outcome(state=JobState.FAILED))
    assert store.retry_job("j")
    assert store.read_journal("j") == (["entry"] if kept else [])
    epoch = store.start_job("j", "root-1", LEASE_MS) or 0
    states = store.open_calls("j", epoch, [*opens("a", "b"), *opens("r", role=Role.ROOT)])
    assert states == [CallState.SETTLED, CallState.NEW, CallState.SETTLED]


def test_of_many_racers_one_takes_the_job(store: Store) -> None:
    store.create_jobs([spec()])
    epochs = at_once(30, lambda n: store.start_job("j", f"root-{n}", LEASE_MS))
    assert counted(epochs, 1) == 1
    assert counted(epochs, None) == 29
    assert store.job("j").owner == f"root-{epochs.index(1)}"


def test_an_old_holder_can_write_nothing(store: Store) -> None:
    old = running_job(store, lease_ms=SHORT_MS)
    started_ms = store.job("j").started_ms
    assert lapse(store) == old + 1
    with pytest.raises(Superseded):
        store.renew_job("j", old, LEASE_MS)
    with pytest.raises(Superseded):
        store.append_journal("j", old, "late")
    with pytest.raises(Superseded):
        store.open_calls("j", old, opens("c"))
    assert store.finish_job("j", old, DONE) is False
    assert store.job("j").state is JobState.RUNNING
    assert store.job("j").started_ms == started_ms
    assert store.read_journal("j") == []
    assert store.finish_job("j", old + 1, DONE) is True


def test_a_renewed_lease_is_not_taken_over(store: Store) -> None:
    epoch = running_job(store, lease_ms=SHORT_MS)
    assert store.renew_job("j", epoch, LEASE_MS) == "ok"
    assert store.lapsed_jobs(10) == []
    assert store.start_job("j", "root-2", LEASE_MS) is None


def test_a_lapsed_job_is_told_to_one_reaper(store: Store) -> None:
    running_job(store, lease_ms=SHORT_MS)
    running_job(store, "live")
    assert wait_until(lambda: store.lapsed_jobs(10)) == ["j"]
    assert store.lapsed_jobs(10) == []
    assert lapse(store) == 2


def test_a_job_that_waits_for_long_is_told_to_one_caller(store: Store) -> None:
    store.create_jobs([spec()])
    assert store.waiting_jobs(60_000, 10) == []
    assert wait_until(lambda: store.waiting_jobs(SHORT_MS, 10)) == ["j"]
    assert store.waiting_jobs(60_000, 10) == []


def test_finishing_twice_is_one_end(store: Store) -> None:
    epoch = running_job(store)
    assert store.finish_job("j", epoch, DONE) is True
    assert store.finish_job("j", epoch, DONE) is True
    assert store.finish_job("j", epoch, Outcome(state=JobState.FAILED)) is False
    record = store.job("j")
    assert (record.state, record.outcome) == (JobState.SUCCEEDED, DONE)
    assert record.started_ms is not None
    assert record.ended_ms is not None
    assert record.queued_ms <= record.started_ms <= record.ended_ms
    with pytest.raises(Superseded):
        store.renew_job("j", epoch, LEASE_MS)
    assert store.start_job("j", "root-2", LEASE_MS) is None


def test_a_query_and_an_answer_with_lone_surrogates_come_back(store: Store) -> None:
    job = spec().model_copy(update={"query": "\ud800?", "metadata": {"k": [1, "\udfff"]}})
    store.create_jobs([job])
    epoch = store.start_job("j", "root-1", LEASE_MS) or 0
    outcome = Outcome(state=JobState.SUCCEEDED, answer="\udc80", answer_json={"a": ["\ud800", None]})
    store.finish_job("j", epoch, outcome)
    assert store.job("j").spec == job
    assert store.job("j").outcome == outcome


def test_cancelling_ends_a_queued_job_and_tells_a_running_one(store: Store) -> None:
    store.create_jobs([spec("queued")])
    assert store.cancel_job("queued") is JobState.CANCELLED
    assert store.start_job("queued", "root-1", LEASE_MS) is None
    assert store.job("queued").outcome == Outcome(state=JobState.CANCELLED)

    epoch = running_job(store)
    assert store.cancel_job("j") is JobState.RUNNING
    assert store.renew_job("j", epoch, LEASE_MS) == "cancelled"
    with pytest.raises(Cancelled):
        store.open_calls("j", epoch, opens("c"))
    assert store.finish_job("j", epoch, Outcome(state=JobState.CANCELLED)) is True
    assert store.cancel_job("j") is JobState.CANCELLED


def test_a_cancelled_job_whose_worker_died_still_ends(store: Store) -> None:
    running_job(store, lease_ms=SHORT_MS)
    assert store.cancel_job("j") in (JobState.RUNNING, JobState.CANCELLED)
    wait_until(lambda: store.start_job("j", "root-2", LEASE_MS) is None and store.job("j").state.final)
    assert store.job("j").state is JobState.CANCELLED


def test_waiting_wakes_at_the_end(store: Store) -> None:
    epoch = running_job(store)
    found = []
    waiter = threading.Thread(target=lambda: found.append(store.wait_job("j", 30)))
    waiter.start()
    store.finish_job("j", epoch, DONE)
    waiter.join(timeout=20)
    assert [record.outcome for record in found] == [DONE]


def test_waiting_ends_with_the_time(store: Store) -> None:
    running_job(store)
    assert store.wait_job("j", 0.05).state is JobState.RUNNING


def test_all_keys_of_an_ended_job_expire(store: Store, redis_client: redis.Redis) -> None:
    epoch = running_job(store)
    store.open_calls("j", epoch, opens("c"))
    store.claim("j", ["c"], "sub-1", LEASE_MS)
    store.settle("j", "sub-1", [settlement("c")])
    store.append_events("j", ["event"])
    store.append_journal("j", epoch, "entry")
    store.use_blob("j", "beef")
    assert leaked_keys(redis_client) != []
    store.finish_job("j", epoch, DONE)
    assert leaked_keys(redis_client) == []
    names = set(redis_client.scan_iter("rlm:job:j*"))
    assert len(names) == 12
    assert all(RETENTION_S - 60 < redis_client.ttl(name) <= RETENTION_S for name in names)


def test_late_writes_leave_no_key_and_are_counted(store: Store, redis_client: redis.Redis) -> None:
    epoch = running_job(store)
    store.open_calls("j", epoch, opens("c", nanousd=50))
    store.claim("j", ["c"], "sub-1", LEASE_MS)
    store.cancel_job("j")
    store.finish_job("j", epoch, Outcome(state=JobState.CANCELLED))
    assert store.claim("j", ["c"], "sub-2", LEASE_MS) == [None]
    assert store.settle("j", "sub-1", [settlement("c", nanousd=7)]) == [True]
    store.append_events("j", ["late"])
    store.note_cache_hits("j", 1)
    store.use_blob("j", "beef")
    assert leaked_keys(redis_client) == []
    assert redis_client.hget("rlm:job:j:ledger", "spent_nanousd") == "7"
    assert store.costs("j").cache_hits == 1


def test_a_settlement_after_the_retention_creates_nothing(store: Store, redis_client: redis.Redis) -> None:
    with pytest.raises(NotFound):
        store.settle("gone", "sub-1", [settlement("c")])
    with pytest.raises(NotFound):
        store.append_events("gone", ["late"])
    assert list(redis_client.scan_iter("rlm:*")) == []


def test_a_blob_stays_while_a_job_uses_it(store: Store, redis_client: redis.Redis) -> None:
    redis_client.hset("rlm:blob:c0ffee", "0", "bytes")
    redis_client.expire("rlm:blob:c0ffee", 5)
    store.create_jobs([spec("a"), spec("b")])
    assert redis_client.ttl("rlm:blob:c0ffee") == -1
    store.cancel_job("a")
    assert redis_client.ttl("rlm:blob:c0ffee") == -1
    store.cancel_job("b")
    assert redis_client.ttl("rlm:blob:c0ffee") > RETENTION_S - 60
    assert not redis_client.exists("rlm:blob:c0ffee:jobs")


def test_names_of_expired_jobs_are_shed(store: Store, redis_client: redis.Redis) -> None:
    store.create_jobs([spec("old")])
    store.cancel_job("old")
    redis_client.delete("rlm:job:old")
    store.create_jobs([spec("new")])
    assert redis_client.zrange("rlm:jobs", 0, -1) == ["new"]
