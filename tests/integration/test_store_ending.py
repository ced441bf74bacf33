"""Ending well: jobs that do not move are ended, and whoever is to be told of a batch's end is due."""

import pytest

from rlm_dist.errors import Cancelled, Superseded
from rlm_dist.schema import JobState, Outcome
from rlm_dist.store import DueWebhook, Store
from tests.integration.store_making import LEASE_MS, SHORT_MS, opens, running_job, settlement, spec
from tests.waiting import wait_until

URL = "https://example.org/told"
DONE = Outcome(state=JobState.SUCCEEDED)
LONG_S = 3600.0
AT_ONCE_S = 0.0


def taken(store: Store) -> DueWebhook:
    """The webhook that is due, waited for."""
    due = wait_until(lambda: store.take_webhook(LEASE_MS))
    assert due is not None
    return due


def test_a_job_that_does_not_move_is_ended_and_its_worker_writes_nothing_more(store: Store) -> None:
    store.create_batch("b", "digest", 2)
    epoch = running_job(store, batch_id="b")
    store.create_jobs([spec("waits", batch_id="b", index=1)])
    store.open_calls("j", epoch, opens("a"))
    store.claim("j", ["a"], "sub-1", LEASE_MS)
    assert store.end_stalled("b", LONG_S) == []
    assert store.end_stalled("b", AT_ONCE_S) == ["j"]
    record = store.job("j")
    assert (record.state, record.outcome and record.outcome.error and record.outcome.error.type) == (
        JobState.FAILED,
        "stalled",
    )
    assert store.job("waits").state is JobState.QUEUED
    assert store.renew_calls("sub-1", {"j": ["a"]}, LEASE_MS).cancelled == {"j"}
    trace = store.read_events("j")
    for _ in range(2):  # also when the job is queued again, and has no new holder yet
        with pytest.raises(Superseded):
            store.renew_job("j", epoch, LEASE_MS)
        with pytest.raises(Superseded):
            store.append_journal("j", epoch, "late")
        with pytest.raises((Superseded, Cancelled)):
            store.open_calls("j", epoch, opens("b"))
        assert store.finish_job("j", epoch, DONE) is False
        if store.job("j").state is JobState.FAILED:
            store.append_events("j", ["late"])
            assert store.read_events("j") == trace
            assert store.retry_job("j")
    assert store.job("j").state is JobState.QUEUED
    assert store.start_job("j", "root-2", LEASE_MS) == epoch + 1


def test_an_event_or_an_answer_is_a_move(store: Store) -> None:
    store.create_batch("b", "digest", 2)
    epoch = running_job(store, batch_id="b")
    running_job(store, "k", batch_id="b", index=1)
    store.open_calls("k", epoch, opens("a"))
    began_ms = store.now_ms()
    wait_until(lambda: store.now_ms() > began_ms + 1000)
    store.append_events("j", ["moved"])
    store.settle("k", "sub-1", [settlement("a")])
    assert store.end_stalled("b", 1.0) == []
    assert sorted(store.end_stalled("b", AT_ONCE_S)) == ["j", "k"]


def test_a_batch_that_has_ended_is_due_to_be_told_to_one_sender(store: Store) -> None:
    store.create_batch("b", "digest", 1, webhook=URL)
    epoch = running_job(store, batch_id="b")
    store.seal_batch("b")
    assert store.take_webhook(LEASE_MS) is None
    assert store.batch("b").webhook == "waiting"
    store.finish_job("j", epoch, DONE)
    due = store.take_webhook(LEASE_MS)
    assert due is not None
    assert (due.batch_id, due.url, due.tries) == ("b", URL, 1)
    assert store.take_webhook(LEASE_MS) is None
    assert store.webhook_done(due, "delivered")
    assert store.take_webhook(LEASE_MS) is None
    assert store.batch("b").webhook == "delivered"


def test_a_sender_that_died_is_followed_by_another_and_cannot_interfere(store: Store) -> None:
    store.create_batch("b", "digest", 0, webhook=URL)
    store.seal_batch("b")
    dead = store.take_webhook(SHORT_MS)
    assert dead is not None
    second = taken(store)
    assert (second.tries, second.ended_ms) == (2, dead.ended_ms)
    assert store.webhook_done(dead, "delivered") is False
    assert store.batch("b").webhook == "waiting"
    assert store.webhook_done(second, "try 2 failed", retry_ms=1)
    third = taken(store)
    assert third.tries == 3
    store.webhook_done(third, "delivered")


def test_each_end_of_a_batch_is_told_once(store: Store) -> None:
    """A batch that is cancelled, sealed, run again by retry and ended again has two ends, not four."""
    store.create_batch("b", "digest", 1, webhook=URL)
    store.create_jobs([spec("j", batch_id="b")])
    store.cancel_batch("b")
    first = store.take_webhook(LEASE_MS)
    assert first is not None
    store.webhook_done(first, "delivered")
    store.seal_batch("b")
    assert store.take_webhook(LEASE_MS) is None
    store.retry_batch("b")
    assert store.batch("b").webhook == "waiting"
    epoch = store.start_job("j", "root-1", LEASE_MS) or 0
    store.finish_job("j", epoch, DONE)
    second = store.take_webhook(LEASE_MS)
    assert isinstance(second, DueWebhook)
    assert (second.tries, second.ended_ms > first.ended_ms) == (1, True)
    store.webhook_done(second, "delivered")


def test_a_batch_that_runs_again_before_it_was_told_is_told_at_its_next_end(store: Store) -> None:
    store.create_batch("b", "digest", 1, webhook=URL)
    store.create_jobs([spec("j", batch_id="b")])
    store.seal_batch("b")
    store.cancel_job("j")
    store.retry_batch("b")
    assert store.take_webhook(LEASE_MS) is None
    store.cancel_job("j")
    store.webhook_done(taken(store), "delivered")


def test_a_batch_without_a_webhook_tells_nobody(store: Store) -> None:
    store.create_batch("b", "digest", 0)
    store.seal_batch("b")
    assert store.take_webhook(LEASE_MS) is None
    assert store.batch("b").webhook is None
