"""Jobs that do not move are ended, and the webhook of a batch's end falls due."""

import pytest

from rlm_dist.errors import Cancelled, Superseded
from rlm_dist.schema import JobState, Outcome
from rlm_dist.store import DueWebhook, Store
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

URL = "https://example.org/told"
DONE = Outcome(state=JobState.SUCCEEDED)
LONG_S = 3600.0
AT_ONCE_S = 0.0


def taken(store: Store) -> DueWebhook:
    """Wait for the webhook that is due."""
    due = wait_until(lambda: store.webhooks.take(LEASE_MS))
    assert due is not None
    return due


def test_a_job_that_does_not_move_is_ended_and_its_worker_writes_nothing_more(store: Store) -> None:
    store.batches.create("b", "digest", 2)
    epoch = running_job(store, batch_id="b")
    store.jobs.create([spec("waits", batch_id="b", index=1)])
    store.calls.open("j", epoch, opens("a"))
    store.calls.claim("j", ["a"], "sub-1", LEASE_MS)
    assert store.jobs.end_stalled("b", LONG_S) == []
    assert store.jobs.end_stalled("b", AT_ONCE_S) == ["j"]
    record = store.jobs.get("j")
    assert (record.state, record.outcome and record.outcome.error and record.outcome.error.type) == (
        JobState.FAILED,
        "stalled",
    )
    assert store.jobs.get("waits").state is JobState.QUEUED
    assert store.calls.renew("sub-1", {"j": ["a"]}, LEASE_MS).cancelled == {"j"}
    trace = store.journals.read_events("j")
    for _ in range(2):  # also after the job is queued again and before it has a new holder
        with pytest.raises(Superseded):
            store.jobs.renew("j", epoch, LEASE_MS)
        with pytest.raises(Superseded):
            store.journals.append("j", epoch, "late")
        with pytest.raises((Superseded, Cancelled)):
            store.calls.open("j", epoch, opens("b"))
        assert finish_job(store, "j", epoch, DONE) is False
        if store.jobs.get("j").state is JobState.FAILED:
            store.journals.append_events("j", ["late"])
            assert store.journals.read_events("j") == trace
            assert retry_job(store, "j")
    assert store.jobs.get("j").state is JobState.QUEUED
    assert start_job(store, "j", "root-2", LEASE_MS) == epoch + 1


def test_an_event_or_an_answer_is_a_move(store: Store) -> None:
    store.batches.create("b", "digest", 2)
    epoch = running_job(store, batch_id="b")
    running_job(store, "k", batch_id="b", index=1)
    store.calls.open("k", epoch, opens("a"))
    began_ms = store.connection.now_ms()
    wait_until(lambda: store.connection.now_ms() > began_ms + 1000)
    store.journals.append_events("j", ["moved"])
    store.calls.settle("k", "sub-1", [settlement("a")])
    assert store.jobs.end_stalled("b", 1.0) == []
    assert sorted(store.jobs.end_stalled("b", AT_ONCE_S)) == ["j", "k"]


def test_a_batch_that_has_ended_is_due_to_be_told_to_one_sender(store: Store) -> None:
    store.batches.create("b", "digest", 1, webhook=URL)
    epoch = running_job(store, batch_id="b")
    store.batches.seal("b")
    assert store.webhooks.take(LEASE_MS) is None
    assert store.batches.get("b").webhook == "waiting"
    finish_job(store, "j", epoch, DONE)
    due = store.webhooks.take(LEASE_MS)
    assert due is not None
    assert (due.batch_id, due.url, due.tries) == ("b", URL, 1)
    assert store.webhooks.take(LEASE_MS) is None
    assert store.webhooks.done(due, "delivered")
    assert store.webhooks.take(LEASE_MS) is None
    assert store.batches.get("b").webhook == "delivered"


def test_webhooks_of_some_hosts_can_be_passed_over_and_stay_due(store: Store) -> None:
    urls = ["https://Slow.example:8443/1", "http://slow.example./2?x", "https://fast.example/3"]
    for number, url in enumerate(urls):
        store.batches.create(f"b{number}", "digest", 0, webhook=url)
        store.batches.seal(f"b{number}")
    first = store.webhooks.take(LEASE_MS, passing_over={"slow.example"})
    assert first is not None
    assert (first.url, first.host) == (urls[2], "fast.example")
    assert store.webhooks.take(LEASE_MS, passing_over={"slow.example"}) is None
    others = [store.webhooks.take(LEASE_MS, passing_over=["fast.example"]) for _ in range(2)]
    assert {(each.url, each.host, each.tries) for each in others if each} == {
        (url, "slow.example", 1) for url in urls[:2]
    }
    for due in filter(None, [first, *others]):
        store.webhooks.done(due, "delivered")


def test_a_sender_that_died_is_followed_by_another_and_cannot_interfere(store: Store) -> None:
    store.batches.create("b", "digest", 0, webhook=URL)
    store.batches.seal("b")
    dead = store.webhooks.take(SHORT_MS)
    assert dead is not None
    second = taken(store)
    assert (second.tries, second.ended_ms) == (2, dead.ended_ms)
    assert store.webhooks.done(dead, "delivered") is False
    assert store.batches.get("b").webhook == "waiting"
    assert store.webhooks.done(second, "try 2 failed", retry_ms=1)
    third = taken(store)
    assert third.tries == 3
    store.webhooks.done(third, "delivered")


def test_each_end_of_a_batch_is_told_once(store: Store) -> None:
    """A batch that is cancelled, sealed, retried and ended again has two ends, not four."""
    store.batches.create("b", "digest", 1, webhook=URL)
    store.jobs.create([spec("j", batch_id="b")])
    store.batches.cancel("b")
    first = store.webhooks.take(LEASE_MS)
    assert first is not None
    store.webhooks.done(first, "delivered")
    store.batches.seal("b")
    assert store.webhooks.take(LEASE_MS) is None
    store.batches.retry("b")
    assert store.batches.get("b").webhook == "waiting"
    epoch = start_job(store, "j", "root-1", LEASE_MS) or 0
    finish_job(store, "j", epoch, DONE)
    second = store.webhooks.take(LEASE_MS)
    assert isinstance(second, DueWebhook)
    assert (second.tries, second.ended_ms > first.ended_ms) == (1, True)
    store.webhooks.done(second, "delivered")


def test_a_batch_that_runs_again_before_it_was_told_is_told_at_its_next_end(store: Store) -> None:
    store.batches.create("b", "digest", 1, webhook=URL)
    store.jobs.create([spec("j", batch_id="b")])
    store.batches.seal("b")
    store.jobs.cancel("j")
    store.batches.retry("b")
    assert store.webhooks.take(LEASE_MS) is None
    store.jobs.cancel("j")
    store.webhooks.done(taken(store), "delivered")


def test_a_batch_without_a_webhook_tells_nobody(store: Store) -> None:
    store.batches.create("b", "digest", 0)
    store.batches.seal("b")
    assert store.webhooks.take(LEASE_MS) is None
    assert store.batches.get("b").webhook is None
