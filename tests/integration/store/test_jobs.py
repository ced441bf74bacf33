"""Jobs in the store: created once, held by one worker at a time, ended once, gone after retention."""

import threading
from typing import Any

import pytest
import redis

from rlm_dist.client.handles import result_of
from rlm_dist.errors import Cancelled, NotFound, Superseded
from rlm_dist.schema import CallFailure, CallResult, JobState, Outcome, Role
from rlm_dist.store import CallState, Settlement, Store
from rlm_dist.store.jobs import TakenJob
from tests.support.key_leaks import leaked_keys
from tests.support.store_values import (
    LEASE_MS,
    RETENTION_S,
    SHORT_MS,
    at_once,
    counted,
    finish_job,
    opens,
    retry_job,
    running_job,
    settlement,
    spec,
    start_job,
)
from tests.support.waiting import wait_until

DONE = Outcome(state=JobState.SUCCEEDED, answer="42", iterations=3)


def lapse(store: Store, job_id: str = "j") -> int:
    """Take over a job whose lease lapses; returns the new epoch."""
    return wait_until(lambda: start_job(store, job_id, "root-2", LEASE_MS)) or 0


def test_a_job_is_created_once_and_read_back(store: Store) -> None:
    job = spec(max_nanousd=5, max_seconds=1.5)
    assert store.jobs.create([job, job, spec("k")]) == [True, False, True]
    record = store.jobs.get("j")
    assert record.spec == job
    assert (record.state, record.epoch, record.outcome) == (JobState.QUEUED, 0, None)
    assert record.queued_ms > 1_600_000_000_000
    assert {found.spec.id for found in store.jobs.newest(10)} == {"j", "k"}
    assert len(store.jobs.newest(1)) == 1


def test_who_takes_a_job_up_learns_what_is_stored_of_it(store: Store) -> None:
    epoch = running_job(store, lease_ms=SHORT_MS)
    store.calls.open("j", epoch, opens("a"))
    store.calls.settle("j", "sub-1", [settlement("a")])
    store.journals.append("j", epoch, "entry")
    taken = wait_until(lambda: store.jobs.take_up("j", "root-2", LEASE_MS, "seccomp", 5000))
    assert isinstance(taken, TakenJob)
    assert taken.record == store.jobs.get("j")
    assert (taken.record.epoch, taken.record.recovered, taken.record.isolation) == (2, True, "seccomp")
    assert 0 <= store.connection.now_ms() - taken.now_ms < 60_000
    assert (taken.has_journal, taken.shares_budget) == (True, False)


@pytest.mark.parametrize("budget", [{"max_nanousd": 5}, {"max_tokens": 5}, {}])
def test_who_takes_a_job_up_learns_whether_it_shares_a_budget(store: Store, budget: dict[str, Any]) -> None:
    store.batches.create("b", "digest", 1, **budget)
    store.jobs.create([spec(batch_id="b"), spec("own", max_tokens=5), spec("top", **budget)])
    of_batch = store.jobs.take_up("j", "root-1", LEASE_MS)
    alone = store.jobs.take_up("own", "root-1", LEASE_MS)
    assert isinstance(of_batch, TakenJob)
    assert isinstance(alone, TakenJob)
    assert (of_batch.shares_budget, alone.shares_budget) == (bool(budget), False)
    assert not of_batch.has_journal
    below = "top"
    epoch = start_job(store, "top", "root-1", LEASE_MS) or 0
    for depth, name in enumerate(("child", "grandchild"), 1):
        update = {"parent_id": below, "depth": depth}
        store.children.open(below, epoch, [spec(name).model_copy(update=update)])
        taken = store.jobs.take_up(name, "root-2", LEASE_MS)
        assert isinstance(taken, TakenJob)
        assert taken.shares_budget == bool(budget)
        below, epoch = name, taken.record.epoch


def test_a_job_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        store.jobs.get("nobody")
    with pytest.raises(NotFound):
        start_job(store, "nobody", "root-1", LEASE_MS)
    with pytest.raises(NotFound):
        store.jobs.create([spec(batch_id="nobody")])


def test_a_job_says_how_its_last_worker_isolated_it(store: Store) -> None:
    store.jobs.create([spec()])
    assert store.jobs.get("j").isolation is None
    start_job(store, "j", "root-1", SHORT_MS, "seccomp")
    assert store.jobs.get("j").isolation == "seccomp"
    epoch = wait_until(lambda: start_job(store, "j", "root-2", LEASE_MS, "none")) or 0
    finish_job(store, "j", epoch, Outcome(state=JobState.FAILED))
    assert result_of(store.jobs.get("j")).isolation == "none"
    retry_job(store, "j")
    assert store.jobs.get("j").isolation is None


def test_the_clock_of_a_job_can_stand_still(store: Store) -> None:
    """It stands still while the endpoint is away, also for a worker that takes over the job."""
    epoch = running_job(store)
    began_ms = store.jobs.get("j").since_ms or 0
    store.jobs.renew("j", epoch, LEASE_MS)
    store.jobs.renew("j", epoch, LEASE_MS, stopped_ms=1500)
    assert store.jobs.get("j").since_ms == began_ms + 1500
    store.jobs.park("j", epoch)
    assert store.jobs.get("j").ran_ms < 1500


@pytest.mark.parametrize(("kind", "kept"), [("invalid", True), ("timeout", False), ("outage", False)])
def test_a_retry_asks_the_root_model_again_if_sub_calls_failed_for_a_passing_reason(
    store: Store, kind: str, kept: bool
) -> None:
    """What the model saw is no longer true; calls already paid for are found by id."""
    epoch = running_job(store)
    store.calls.open("j", epoch, [*opens("a", "b"), *opens("r", role=Role.ROOT)])
    failed = CallResult(failure=CallFailure(kind=kind, message="no")).model_dump_json()
    store.calls.claim("j", ["a", "b"], "sub-1", LEASE_MS)
    store.calls.settle("j", "sub-1", [settlement("a"), Settlement("b", Role.SUB, failed, None)])
    store.calls.settle("j", "root-1", [settlement("r", role=Role.ROOT)])
    store.journals.append("j", epoch, "entry")
    finish_job(store, "j", epoch, Outcome(state=JobState.FAILED))
    assert retry_job(store, "j")
    assert store.journals.read("j") == (["entry"] if kept else [])
    epoch = start_job(store, "j", "root-1", LEASE_MS) or 0
    states = store.calls.open("j", epoch, [*opens("a", "b"), *opens("r", role=Role.ROOT)])
    assert states == [CallState.SETTLED, CallState.NEW, CallState.SETTLED]


def test_of_many_racers_one_takes_the_job(store: Store) -> None:
    store.jobs.create([spec()])
    epochs = at_once(30, lambda n: start_job(store, "j", f"root-{n}", LEASE_MS))
    assert counted(epochs, 1) == 1
    assert counted(epochs, None) == 29
    assert store.jobs.get("j").owner == f"root-{epochs.index(1)}"


def test_an_old_holder_can_write_nothing(store: Store) -> None:
    old = running_job(store, lease_ms=SHORT_MS)
    started_ms = store.jobs.get("j").started_ms
    assert lapse(store) == old + 1
    with pytest.raises(Superseded):
        store.jobs.renew("j", old, LEASE_MS)
    with pytest.raises(Superseded):
        store.journals.append("j", old, "late")
    with pytest.raises(Superseded):
        store.calls.open("j", old, opens("c"))
    assert finish_job(store, "j", old, DONE) is False
    assert store.jobs.get("j").state is JobState.RUNNING
    assert store.jobs.get("j").started_ms == started_ms
    assert store.journals.read("j") == []
    assert finish_job(store, "j", old + 1, DONE) is True


def test_a_renewed_lease_is_not_taken_over(store: Store) -> None:
    epoch = running_job(store, lease_ms=SHORT_MS)
    assert store.jobs.renew("j", epoch, LEASE_MS) == "ok"
    assert store.jobs.lapsed(10) == []
    assert start_job(store, "j", "root-2", LEASE_MS) is None


def test_a_lapsed_job_is_told_to_one_reaper(store: Store) -> None:
    running_job(store, lease_ms=SHORT_MS)
    running_job(store, "live")
    assert wait_until(lambda: store.jobs.lapsed(10)) == ["j"]
    assert store.jobs.lapsed(10) == []
    assert lapse(store) == 2


def test_a_job_that_waits_for_long_is_told_to_one_caller(store: Store) -> None:
    store.jobs.create([spec()])
    assert store.jobs.waiting(60_000, 10) == []
    assert wait_until(lambda: store.jobs.waiting(SHORT_MS, 10)) == ["j"]
    assert store.jobs.waiting(60_000, 10) == []


def test_finishing_twice_is_one_end(store: Store) -> None:
    epoch = running_job(store)
    assert finish_job(store, "j", epoch, DONE) is True
    assert finish_job(store, "j", epoch, DONE) is True
    assert finish_job(store, "j", epoch, Outcome(state=JobState.FAILED)) is False
    record = store.jobs.get("j")
    assert (record.state, record.outcome) == (JobState.SUCCEEDED, DONE)
    assert record.started_ms is not None
    assert record.ended_ms is not None
    assert record.queued_ms <= record.started_ms <= record.ended_ms
    with pytest.raises(Superseded):
        store.jobs.renew("j", epoch, LEASE_MS)
    assert start_job(store, "j", "root-2", LEASE_MS) is None


def test_a_query_and_an_answer_with_lone_surrogates_come_back(store: Store) -> None:
    job = spec().model_copy(update={"query": "\ud800?", "metadata": {"k": [1, "\udfff"]}})
    store.jobs.create([job])
    epoch = start_job(store, "j", "root-1", LEASE_MS) or 0
    outcome = Outcome(state=JobState.SUCCEEDED, answer="\udc80", answer_json={"a": ["\ud800", None]})
    finish_job(store, "j", epoch, outcome)
    assert store.jobs.get("j").spec == job
    assert store.jobs.get("j").outcome == outcome


def test_cancelling_ends_a_queued_job_and_tells_a_running_one(store: Store) -> None:
    store.jobs.create([spec("queued")])
    assert store.jobs.cancel("queued") is JobState.CANCELLED
    assert start_job(store, "queued", "root-1", LEASE_MS) is None
    assert store.jobs.get("queued").outcome == Outcome(state=JobState.CANCELLED)

    epoch = running_job(store)
    assert store.jobs.cancel("j") is JobState.RUNNING
    assert store.jobs.renew("j", epoch, LEASE_MS) == "cancelled"
    with pytest.raises(Cancelled):
        store.calls.open("j", epoch, opens("c"))
    assert finish_job(store, "j", epoch, Outcome(state=JobState.CANCELLED)) is True
    assert store.jobs.cancel("j") is JobState.CANCELLED


def test_a_cancelled_job_whose_worker_died_still_ends(store: Store) -> None:
    running_job(store, lease_ms=SHORT_MS)
    assert store.jobs.cancel("j") in (JobState.RUNNING, JobState.CANCELLED)
    wait_until(lambda: start_job(store, "j", "root-2", LEASE_MS) == 0 or store.jobs.get("j").state.final)
    assert start_job(store, "j", "root-2", LEASE_MS) is None
    assert store.jobs.get("j").state is JobState.CANCELLED


def test_waiting_wakes_at_the_end(store: Store) -> None:
    epoch = running_job(store)
    found = []
    waiter = threading.Thread(target=lambda: found.append(store.jobs.wait("j", 30)))
    waiter.start()
    finish_job(store, "j", epoch, DONE)
    waiter.join(timeout=20)
    assert [record.outcome for record in found] == [DONE]


def test_waiting_ends_with_the_time(store: Store) -> None:
    running_job(store)
    assert store.jobs.wait("j", 0.05).state is JobState.RUNNING


def test_all_keys_of_an_ended_job_expire(store: Store, redis_client: redis.Redis) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("c"))
    store.calls.claim("j", ["c"], "sub-1", LEASE_MS)
    store.calls.settle("j", "sub-1", [settlement("c")])
    store.journals.append_events("j", ["event"])
    store.journals.append("j", epoch, "entry")
    store.jobs.use_blob("j", "beef", 1)
    assert leaked_keys(redis_client) != []
    finish_job(store, "j", epoch, DONE)
    assert leaked_keys(redis_client) == []
    names = set(redis_client.scan_iter("rlm:job:j*"))
    assert len(names) == 12
    assert all(RETENTION_S - 60 < redis_client.ttl(name) <= RETENTION_S for name in names)


def test_late_writes_leave_no_key_and_are_counted(store: Store, redis_client: redis.Redis) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("c", nanousd=50))
    store.calls.claim("j", ["c"], "sub-1", LEASE_MS)
    store.jobs.cancel("j")
    finish_job(store, "j", epoch, Outcome(state=JobState.CANCELLED))
    assert store.calls.claim("j", ["c"], "sub-2", LEASE_MS) == [None]
    assert store.calls.settle("j", "sub-1", [settlement("c", nanousd=7)]) == [True]
    store.journals.append_events("j", ["late"])
    store.jobs.note_cache_hits("j", 1)
    store.jobs.use_blob("j", "beef", 1)
    assert leaked_keys(redis_client) == []
    assert redis_client.hget("rlm:job:j:ledger", "spent_nanousd") == "7"
    assert store.jobs.costs("j").cache_hits == 1


def test_a_settlement_after_the_retention_creates_nothing(store: Store, redis_client: redis.Redis) -> None:
    with pytest.raises(NotFound):
        store.calls.settle("gone", "sub-1", [settlement("c")])
    with pytest.raises(NotFound):
        store.journals.append_events("gone", ["late"])
    assert list(redis_client.scan_iter("rlm:*")) == []


def test_a_blob_stays_while_a_job_uses_it(store: Store, redis_client: redis.Redis) -> None:
    redis_client.hset("rlm:blob:c0ffee", "0", "bytes")
    redis_client.expire("rlm:blob:c0ffee", 5)
    store.jobs.create([spec("a"), spec("b")])
    assert redis_client.ttl("rlm:blob:c0ffee") == -1
    store.jobs.cancel("a")
    assert redis_client.ttl("rlm:blob:c0ffee") == -1
    store.jobs.cancel("b")
    assert redis_client.ttl("rlm:blob:c0ffee") > RETENTION_S - 60
    assert not redis_client.exists("rlm:blob:c0ffee:jobs")


def test_names_of_expired_jobs_are_shed(store: Store, redis_client: redis.Redis) -> None:
    store.jobs.create([spec("old")])
    store.jobs.cancel("old")
    redis_client.delete("rlm:job:old")
    store.jobs.create([spec("new")])
    assert redis_client.zrange("rlm:jobs", 0, -1) == ["new"]
