"""The store after deaths, pauses and retries: lost attempts are counted, jobs go back to the queue."""

import pytest
import redis

from rlm_dist.client.handles import result_of
from rlm_dist.errors import Parked, Superseded
from rlm_dist.schema import BatchState, JobState, Outcome, Role
from rlm_dist.store import CallRefused, CallState, Settlement, Store
from rlm_dist.store.jobs import ALONE_AFTER, MAX_RECOVERIES, MUST_BE_ALONE
from tests.support.store_values import (
    LEASE_MS,
    SHORT_MS,
    finish_job,
    opens,
    retry_job,
    running_job,
    settlement,
    spec,
    start_job,
)
from tests.support.waiting import wait_until

NEW, PENDING, SETTLED = CallState.NEW, CallState.PENDING, CallState.SETTLED
ANSWERED = Outcome(state=JobState.SUCCEEDED, answer="42")


def failure(call_id: str) -> Settlement:
    """The end of a failed call without a charge."""
    return Settlement(call_id, Role.SUB, "failure", None)


def lost_attempt(store: Store, call_id: str = "a") -> None:
    """A worker claims a call and dies."""
    assert store.calls.claim("j", [call_id], "dead", SHORT_MS) == [f"request {call_id}"]
    assert wait_until(lambda: store.calls.lost("j", [call_id], LEASE_MS)) == [call_id]


def test_an_attempt_that_was_lost_is_counted_when_the_call_is_done_again(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    lost_attempt(store)
    assert store.jobs.costs("j").duplicate_paid_calls == 0
    assert store.calls.claim("j", ["a"], "sub-2", LEASE_MS) == ["request a"]
    assert store.calls.settle("j", "sub-2", [settlement("a")]) == [True]
    assert store.jobs.costs("j").duplicate_paid_calls == 1


def test_a_claim_over_a_lapsed_claim_counts_likewise(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    store.calls.claim("j", ["a"], "dead", SHORT_MS)
    wait_until(lambda: store.calls.claim("j", ["a"], "sub-2", LEASE_MS) == ["request a"])
    store.calls.settle("j", "sub-2", [settlement("a")])
    assert store.jobs.costs("j").duplicate_paid_calls == 1


def test_a_holder_that_was_only_slow_is_counted_once(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    lost_attempt(store)
    store.calls.claim("j", ["a"], "sub-2", LEASE_MS)
    assert store.calls.settle("j", "dead", [settlement("a")]) == [True]
    assert store.calls.settle("j", "sub-2", [settlement("a")]) == [False]
    assert store.jobs.costs("j").duplicate_paid_calls == 1
    assert store.jobs.costs("j").sub_llm_calls == 2
    store.calls.settle("j", "sub-3", [settlement("a")])
    assert store.jobs.costs("j").duplicate_paid_calls == 2


def test_the_failure_of_a_holder_that_was_given_up_is_not_the_answer(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    lost_attempt(store)
    assert store.calls.settle("j", "dead", [failure("a")]) == [False]
    store.calls.claim("j", ["a"], "sub-2", LEASE_MS)
    assert store.calls.settle("j", "dead", [failure("a")]) == [False]
    assert store.calls.settle("j", "sub-2", [settlement("a")]) == [True]
    assert store.calls.answers("j", ["a"]) == ["result a"]
    assert store.jobs.costs("j").failed_calls == 0


def test_charges_without_a_result_leave_the_call_open(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    store.calls.claim("j", ["a"], "sub-1", LEASE_MS)
    spend = settlement("a").spend
    assert spend is not None
    charged = Settlement("a", Role.SUB, "", None, wasted=[spend])
    for _ in range(2):  # the second is a repeat
        assert store.calls.settle("j", "sub-1", [charged]) == [False]
    assert store.calls.open("j", epoch, opens("a")) == [PENDING]
    assert store.jobs.costs("j").sub_llm_calls == 1


def test_a_root_call_that_died_with_its_epoch_is_counted(store: Store) -> None:
    epoch = running_job(store, lease_ms=SHORT_MS)
    for _ in range(2):  # the second is a repeat by the same epoch
        store.calls.open("j", epoch, opens("r", role=Role.ROOT))
    wait_until(lambda: start_job(store, "j", "root-2", LEASE_MS))
    for _ in range(2):
        assert store.calls.open("j", epoch + 1, opens("r", role=Role.ROOT)) == [PENDING]
    store.calls.settle("j", "root-2", [settlement("r", role=Role.ROOT)])
    assert store.jobs.costs("j").duplicate_paid_calls == 1
    assert store.calls.open("j", epoch + 1, opens("r", role=Role.ROOT)) == [SETTLED]


def test_a_job_that_kills_its_workers_ends_as_poison(store: Store) -> None:
    running_job(store, lease_ms=SHORT_MS)
    store.journals.append("j", 1, "the first step")
    for epoch in range(2, MAX_RECOVERIES + 2):
        assert wait_until(lambda: start_job(store, "j", "next", SHORT_MS)) == epoch
        assert store.jobs.get("j").recovered
    wait_until(lambda: start_job(store, "j", "last", SHORT_MS) == 0)  # 0: this call ended it
    assert start_job(store, "j", "last", SHORT_MS) is None
    record = store.jobs.get("j")
    assert record.state is JobState.FAILED
    assert record.outcome is not None
    assert record.outcome.error is not None
    assert record.outcome.error.type == "poison"
    assert store.journals.read("j") == ["the first step"]


def test_a_job_with_which_two_workers_died_is_not_started_beside_others(store: Store) -> None:
    running_job(store, lease_ms=SHORT_MS)
    for epoch in range(2, ALONE_AFTER + 1):
        assert wait_until(lambda: start_job(store, "j", "next", SHORT_MS, shared=True)) == epoch
    for _ in range(2):  # nothing has changed
        assert wait_until(lambda: start_job(store, "j", "many", SHORT_MS, shared=True)) == MUST_BE_ALONE
    epoch = start_job(store, "j", "alone", LEASE_MS) or 0
    assert epoch == ALONE_AFTER + 1
    assert store.jobs.park("j", epoch)
    assert start_job(store, "j", "many", LEASE_MS, shared=True) == MUST_BE_ALONE
    assert start_job(store, "j", "alone", SHORT_MS) == epoch + 1
    assert wait_until(lambda: start_job(store, "j", "alone", SHORT_MS)) == epoch + 2
    wait_until(lambda: start_job(store, "j", "many", SHORT_MS, shared=True) == 0)  # poison is ended anywhere
    assert store.jobs.get("j").state is JobState.FAILED


def test_a_lapsed_job_that_nobody_takes_is_told_again(store: Store) -> None:
    running_job(store, lease_ms=SHORT_MS)
    assert wait_until(lambda: store.jobs.lapsed(10)) == ["j"]
    assert store.jobs.waiting(LEASE_MS, 10) == []
    assert wait_until(lambda: store.jobs.waiting(SHORT_MS, 10)) == ["j"]
    assert store.jobs.renew("j", 1, LEASE_MS) == "ok"  # the holder was only slow
    assert store.jobs.waiting(0, 10) == []


def test_a_parked_job_is_taken_up_again_and_no_death_is_counted(store: Store) -> None:
    epoch = running_job(store)
    for _ in range(2 * MAX_RECOVERIES):
        for _ in range(2):  # the second is a repeat
            assert store.jobs.park("j", epoch) is True
        assert store.jobs.get("j").state is JobState.QUEUED
        with pytest.raises(Superseded):
            store.journals.append("j", epoch, "late")
        assert start_job(store, "j", "next", LEASE_MS) == epoch + 1
        assert store.jobs.park("j", epoch) is False
        epoch += 1
    assert finish_job(store, "j", epoch, ANSWERED) is True
    assert store.jobs.park("j", epoch) is False


def test_a_paused_job_opens_nothing_and_waits_in_the_queue(store: Store) -> None:
    store.batches.create("b", "digest", 1)
    epoch = running_job(store, batch_id="b")
    store.calls.open("j", epoch, opens("a"))
    store.batches.pause("b")
    with pytest.raises(Parked):
        store.calls.open("j", epoch, opens("b"))
    assert store.jobs.renew("j", epoch, LEASE_MS) == "paused"
    assert store.jobs.park("j", epoch) is False
    assert start_job(store, "j", "root-2", LEASE_MS) is None
    assert store.calls.claim("j", ["a"], "sub-1", LEASE_MS) == [None]
    assert store.calls.lost("j", ["a"], 0) == []
    assert store.jobs.waiting(0, 10) == []
    store.batches.resume("b")
    assert store.jobs.waiting(LEASE_MS, 10) == ["j"]
    assert start_job(store, "j", "root-2", LEASE_MS) == epoch + 1
    assert store.calls.lost("j", ["a"], LEASE_MS) == ["a"]  # its message was spent during the pause
    assert store.batches.get("b").counts[JobState.RUNNING] == 1


def test_the_time_in_which_a_job_is_parked_is_no_time_of_its_run(
    store: Store, redis_client: redis.Redis
) -> None:
    epoch = running_job(store)
    redis_client.hincrby("rlm:job:j", "since_ms", -5000)
    store.jobs.park("j", epoch)
    parked = store.jobs.get("j")
    assert 5000 <= parked.run_ms(0) == parked.run_ms(10**15) < 60_000
    redis_client.hincrby("rlm:job:j", "ran_ms", -parked.ran_ms + 5000)
    epoch = start_job(store, "j", "root-2", LEASE_MS) or 0
    again = store.jobs.get("j")
    assert again.since_ms is not None
    assert again.run_ms(again.since_ms + 7) == 5007
    redis_client.hincrby("rlm:job:j", "since_ms", -2000)
    finish_job(store, "j", epoch, Outcome(state=JobState.FAILED))
    ended = result_of(store.jobs.get("j"))
    assert 7 <= (ended.timing.run_s or 0) < 60
    retry_job(store, "j")
    assert store.jobs.get("j").run_ms(0) == 0


def test_a_job_that_died_in_a_pause_waits_for_its_end(store: Store) -> None:
    store.batches.create("b", "digest", 1)
    running_job(store, batch_id="b", lease_ms=SHORT_MS)
    store.batches.pause("b")
    wait_until(
        lambda: (
            start_job(store, "j", "root-2", LEASE_MS) is None and store.jobs.get("j").state is JobState.QUEUED
        )
    )
    store.batches.resume("b")
    assert start_job(store, "j", "root-2", LEASE_MS) == 2


def fill(store: Store, state: JobState) -> None:
    """A batch of one job that ended this way; of its calls two are answered, one failed, and one is open."""
    store.batches.create("b", "digest", 1)
    epoch = running_job(store, batch_id="b", max_sub_calls=3)
    store.batches.seal("b")
    store.calls.open("j", epoch, [*opens("r", role=Role.ROOT), *opens("a", "f", "o", nanousd=5)])
    store.journals.append("j", epoch, "reply")
    store.calls.claim("j", ["a", "f", "o"], "sub-1", LEASE_MS)
    store.calls.settle("j", "sub-1", [settlement("r", role=Role.ROOT), settlement("a"), failure("f")])
    finish_job(store, "j", epoch, Outcome(state=state))


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.EXHAUSTED])
def test_a_retried_job_keeps_what_was_answered(
    store: Store, redis_client: redis.Redis, state: JobState
) -> None:
    fill(store, state)
    before = store.jobs.costs("j").model_copy(update={"pending_calls": 0})
    assert store.batches.retry("b") == ["j"]
    assert store.batches.retry("b") == []
    assert store.batches.get("b").state is BatchState.RUNNING
    assert redis_client.ttl("rlm:job:j") == -1
    epoch = start_job(store, "j", "root-2", LEASE_MS)
    assert epoch == 2
    again = [*opens("r", role=Role.ROOT), *opens("a", "f", "o", nanousd=5)]
    fresh = state is JobState.EXHAUSTED  # its root model is asked again
    assert store.calls.open("j", epoch, again) == [NEW if fresh else SETTLED, SETTLED, NEW, NEW]
    assert store.calls.open("j", epoch, opens("over")) == [CallRefused("max_sub_calls", 3, 3)]
    assert store.journals.read("j") == ([] if fresh else ["reply"])
    assert store.jobs.costs("j") == before
    assert finish_job(store, "j", epoch, ANSWERED) is True
    assert [job_id for _, job_id in store.batches.ended_jobs("b")] == ["j"]
    assert store.jobs.wait("j", 1).outcome == ANSWERED
    assert store.batches.get("b").state is BatchState.COMPLETED
    assert store.batches.retry("b") == []
    assert redis_client.ttl("rlm:batch:b:ended") > 0


def test_a_journal_that_did_not_hold_is_counted_and_not_replayed_again(store: Store) -> None:
    epoch = running_job(store)
    store.journals.append("j", epoch, "reply")
    store.jobs.note_divergence("j", epoch, 2)
    with pytest.raises(Superseded):
        store.jobs.note_divergence("j", epoch + 1, 3)
    finish_job(store, "j", epoch, Outcome(state=JobState.FAILED))
    assert store.jobs.get("j").diverged_cells == 2
    assert retry_job(store, "j")
    assert (store.jobs.get("j").diverged_cells, store.journals.read("j")) == (0, [])


def test_a_cancelled_batch_is_retried(store: Store) -> None:
    store.batches.create("b", "digest", 2)
    store.jobs.create([spec("k", batch_id="b"), spec("l", batch_id="b", index=1)])
    store.batches.seal("b")
    store.batches.cancel("b")
    assert store.batches.get("b").state is BatchState.CANCELLED
    assert store.batches.retry("b") == ["k", "l"]
    assert store.batches.get("b").state is BatchState.RUNNING
    assert start_job(store, "k", "root-1", LEASE_MS) == 1
