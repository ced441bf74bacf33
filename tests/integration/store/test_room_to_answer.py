"""What is kept of each budget for a job's next root call, and what an ended job's costs still lack."""

from dataclasses import replace
from typing import Any

import pytest
import redis

from rlm_dist.errors import Superseded
from rlm_dist.schema import JobState, Outcome, Role
from rlm_dist.store import CallRefused, CallState, Settlement, Store
from rlm_dist.store.jobs import JobEnd
from rlm_dist.store.journals import Entries
from tests.support.store_values import (
    LEASE_MS,
    finish_job,
    opens,
    retry_job,
    running_job,
    settlement,
    start_job,
)

NEW = CallState.NEW
EXHAUSTED = Outcome(state=JobState.EXHAUSTED)


def reserved(client: redis.Redis, key: str = "rlm:job:j:ledger") -> tuple[int, int]:
    money, tokens = client.hmget(key, "reserved_nanousd", "reserved_tokens")
    return int(money or 0), int(tokens or 0)


def test_sub_calls_leave_what_is_kept_and_the_root_call_uses_it(
    store: Store, redis_client: redis.Redis
) -> None:
    epoch = running_job(store, max_tokens=100)
    assert store.calls.keep("j", epoch, tokens=40, nanousd=0) is None
    assert store.calls.open("j", epoch, opens("a", "b", tokens=50)) == [
        NEW,
        CallRefused("max_tokens", 90, 100, 50),
    ]
    assert store.calls.open("j", epoch, opens("r", tokens=30, role=Role.ROOT)) == [NEW]
    assert reserved(redis_client) == (0, 90)
    assert store.calls.open("j", epoch, opens("r2", tokens=21, role=Role.ROOT)) == [
        CallRefused("max_tokens", 80, 100, 21)  # 10 of what was kept are left, and count as free
    ]
    assert store.calls.open("j", epoch, opens("r2", tokens=20, role=Role.ROOT)) == [NEW]
    assert reserved(redis_client) == (0, 100)


def test_calls_ahead_leave_a_quarter_of_each_budget_free(store: Store) -> None:
    """So they take no room in which a job of the same batch keeps what it needs to answer."""
    store.batches.create("b", "digest", 2, max_tokens=100)
    epoch, other = (running_job(store, name, batch_id="b") for name in "jk")
    ahead = [replace(call, ahead=True) for call in opens("a", "b", "c", "d", tokens=25)]
    refused = CallRefused("batch_max_tokens", 75, 100, 25)
    assert store.calls.open("j", epoch, ahead) == [NEW, NEW, NEW, refused]
    assert store.calls.open("j", epoch, ahead) == [CallState.PENDING] * 3 + [refused]
    assert store.calls.keep("k", other, tokens=20, nanousd=0) is None
    assert store.calls.open("j", epoch, opens("d", tokens=5)) == [NEW]
    costly = [replace(call, ahead=True) for call in opens("e", "f", nanousd=400)]
    alone = running_job(store, "l", max_nanousd=1000)
    assert store.calls.open("l", alone, costly) == [NEW, CallRefused("max_usd", 400e-9, 1000e-9, 400e-9)]


def test_what_does_not_fit_is_not_kept_or_kept_in_part(store: Store, redis_client: redis.Redis) -> None:
    epoch = running_job(store, max_tokens=100, max_nanousd=10)
    assert store.calls.keep("j", epoch, tokens=60, nanousd=5) is None
    assert store.calls.keep("j", epoch, tokens=101, nanousd=5) == CallRefused("max_tokens", 0, 100, 101)
    assert reserved(redis_client) == (5, 60)
    assert store.calls.keep("j", epoch, tokens=200, nanousd=20, partly=True) is None
    assert reserved(redis_client) == (10, 100)
    assert store.calls.keep("j", epoch, tokens=5, nanousd=None) is None
    assert reserved(redis_client) == (0, 5)
    with pytest.raises(Superseded):
        store.calls.keep("j", epoch + 1, tokens=1, nanousd=0)


def test_nothing_is_kept_of_a_budget_that_does_not_exist(store: Store, redis_client: redis.Redis) -> None:
    epoch = running_job(store, max_nanousd=10)
    assert store.calls.keep("j", epoch, tokens=10**9, nanousd=3) is None
    assert reserved(redis_client) == (3, 0)


def test_each_job_of_a_batch_keeps_its_own_room(store: Store, redis_client: redis.Redis) -> None:
    """The sub-calls of one job cannot use what the others need for their answers."""
    store.batches.create("b", "digest", 3, max_tokens=100)
    epochs = {name: running_job(store, name, batch_id="b") for name in "jkl"}
    for name in "jk":
        assert store.calls.keep(name, epochs[name], tokens=30, nanousd=0) is None
    assert store.calls.keep("l", epochs["l"], tokens=50, nanousd=0) == CallRefused(
        "batch_max_tokens", 60, 100, 50
    )
    assert store.calls.open("l", epochs["l"], opens("a", tokens=50)) == [
        CallRefused("batch_max_tokens", 60, 100, 50)
    ]
    assert store.calls.open("l", epochs["l"], opens("a", tokens=40)) == [NEW]
    assert store.calls.open("j", epochs["j"], opens("r", tokens=30, role=Role.ROOT)) == [NEW]
    finish_job(store, "k", epochs["k"], EXHAUSTED)
    assert reserved(redis_client, "rlm:batch:b:ledger") == (0, 70)


def test_the_sums_of_a_job_that_keeps_something_are_right(store: Store) -> None:
    epoch = running_job(store, max_tokens=100, max_nanousd=100)
    store.calls.keep("j", epoch, tokens=40, nanousd=7)
    store.calls.open("j", epoch, opens("a", tokens=5, nanousd=5))
    store.calls.open("j", epoch, opens("r", tokens=50, nanousd=2, role=Role.ROOT))
    assert store.audits.job("j").differences == []
    store.calls.settle("j", "root-1", [replace(settlement("r", role=Role.ROOT), spend=None, returned="")])
    assert store.audits.job("j").differences == []
    finish_job(store, "j", epoch, EXHAUSTED)
    assert store.audits.job("j").differences == []
    retry_job(store, "j")
    assert store.audits.job("j").differences == []


def test_a_root_call_that_is_given_back_keeps_its_room(store: Store, redis_client: redis.Redis) -> None:
    epoch = running_job(store, max_tokens=100)
    store.calls.open("j", epoch, opens("r", tokens=60, role=Role.ROOT))
    store.calls.settle("j", "root-1", [replace(settlement("r", role=Role.ROOT), spend=None, returned="")])
    assert store.calls.open("j", epoch, opens("a", tokens=50)) == [CallRefused("max_tokens", 60, 100, 50)]
    assert store.calls.open("j", epoch, opens("r", tokens=100, role=Role.ROOT)) == [NEW]
    assert reserved(redis_client) == (0, 100)


def test_a_sub_call_that_is_given_back_is_no_longer_in_flight(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    for owner in ("sub-1", "sub-2"):
        store.calls.claim("j", ["a"], owner, LEASE_MS)
        assert store.jobs.get("j").calls_claimed == 1
        store.calls.settle("j", owner, [replace(settlement("a"), spend=None, returned="")])
        assert store.jobs.get("j").calls_claimed == 0


def test_the_costs_of_an_ended_job_say_how_many_calls_they_lack(store: Store) -> None:
    store.batches.create("b", "digest", 1)
    epoch = running_job(store, batch_id="b")
    store.calls.open("j", epoch, opens("a", "b", "c", "never begun"))
    store.calls.claim("j", ["a", "b", "c"], "sub-1", LEASE_MS)
    assert store.jobs.costs("j").pending_calls == 0
    finish_job(store, "j", epoch, EXHAUSTED)
    assert store.jobs.costs("j").pending_calls == store.batches.costs("b").pending_calls == 3
    late = [
        settlement("a"),
        replace(settlement("b"), spend=None, returned=""),
        Settlement("c", Role.SUB, "", None),
    ]
    for left, each in zip((2, 1, 0), late, strict=True):
        for _ in range(2):  # a repeat counts once
            store.calls.settle("j", "sub-1", [each])
            assert store.jobs.costs("j").pending_calls == store.batches.costs("b").pending_calls == left
    assert store.jobs.costs("j").sub_llm_calls == 1
    assert store.jobs.get("j").calls_claimed == 0


def test_a_retried_job_lacks_nothing(store: Store) -> None:
    store.batches.create("b", "digest", 1)
    epoch = running_job(store, batch_id="b")
    store.calls.open("j", epoch, opens("a"))
    store.calls.claim("j", ["a"], "sub-1", LEASE_MS)
    finish_job(store, "j", epoch, EXHAUSTED)
    retry_job(store, "j")
    assert store.jobs.costs("j").pending_calls == store.batches.costs("b").pending_calls == 0


def test_no_further_call_of_a_job_that_is_about_to_end_is_begun(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a", "b"))
    store.calls.claim("j", ["a"], "sub-1", LEASE_MS)
    assert store.calls.stop("j", epoch) == 1
    assert store.calls.claim("j", ["b"], "sub-1", LEASE_MS) == [None]
    assert store.calls.renew("sub-1", {"j": ["a"]}, LEASE_MS).ended == {"j"}
    store.calls.settle("j", "sub-1", [settlement("a")])
    assert store.calls.stop("j", epoch) == 0
    with pytest.raises(Superseded):
        store.calls.stop("j", epoch + 1)


def test_a_job_that_is_to_end_after_its_calls_ends_once_none_is_in_flight(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a", "b"))
    store.calls.claim("j", ["a"], "sub-1", LEASE_MS)
    logs: dict[str, Any] = {"entries": Entries(["last"], 1), "events": ["ended"], "after_calls": True}
    assert store.jobs.end("j", epoch, EXHAUSTED, **logs) == 1
    assert (store.journals.read("j"), store.journals.read_events("j")) == ([], [])
    assert store.calls.claim("j", ["b"], "sub-1", LEASE_MS) == [None]
    store.calls.settle("j", "sub-1", [settlement("a")])
    for _ in range(2):  # a repeat after a lost reply
        end = store.jobs.end("j", epoch, EXHAUSTED, **logs)
        assert isinstance(end, JobEnd)
        record = store.jobs.get("j")
        assert end == (record.ended_ms, record.since_ms, record.costs)
        assert store.journals.read("j") == ["last"]
        assert [payload for _, payload in store.journals.read_events("j")] == ["ended"]
    assert store.jobs.end("j", epoch, Outcome(state=JobState.FAILED), entries=Entries(["late"], 1)) == 0
    assert store.journals.read("j") == ["last"]


def test_a_worker_that_takes_over_a_job_about_to_end_may_make_calls(store: Store) -> None:
    epoch = running_job(store, lease_ms=1)
    store.calls.open("j", epoch, opens("a"))
    store.calls.stop("j", epoch)
    while (newer := start_job(store, "j", "root-2", LEASE_MS)) is None:
        pass
    assert newer == epoch + 1
    assert store.calls.claim("j", ["a"], "sub-1", LEASE_MS) == ["request a"]
