"""A call that needs more than it reserved gets it only within the budgets of its job and its batch."""

from functools import partial
from typing import Any

import redis

from rlm_dist.schema import JobState, Outcome, Role
from rlm_dist.store import Store
from tests.support.store_values import LEASE_MS, SHORT_MS, at_once, finish_job, opens, running_job, settlement
from tests.support.waiting import wait_until


def reserved(client: redis.Redis, name: str = "job:j") -> int:
    """What a ledger has reserved."""
    return int(client.hget(f"rlm:{name}:ledger", "reserved_nanousd") or 0)


def claimed(store: Store, *call_ids: str, nanousd: int = 10, **fields: Any) -> None:
    """A running job with claimed calls."""
    epoch = running_job(store, **fields)
    store.calls.open("j", epoch, opens(*call_ids, nanousd=nanousd))
    store.calls.claim("j", call_ids, "sub-1", LEASE_MS)


def test_more_is_reserved_up_to_the_budget_and_no_further(store: Store, redis_client: redis.Redis) -> None:
    claimed(store, "a", "b", max_nanousd=30)
    assert store.calls.reserve_more("j", "a", "sub-1", 20) is True
    assert reserved(redis_client) == 30
    assert store.calls.reserve_more("j", "b", "sub-1", 11) is False
    assert reserved(redis_client) == 30
    assert store.audits.job("j").differences == []


def test_the_budget_of_the_batch_holds_too(store: Store, redis_client: redis.Redis) -> None:
    store.batches.create("b", "digest", 1, max_nanousd=25)
    claimed(store, "a", "b", batch_id="b")
    assert store.calls.reserve_more("j", "a", "sub-1", 16) is False
    assert store.calls.reserve_more("j", "a", "sub-1", 15) is True
    assert (reserved(redis_client), reserved(redis_client, "batch:b")) == (25, 25)


def test_a_repeat_reserves_nothing_again_and_less_is_never_given_back(
    store: Store, redis_client: redis.Redis
) -> None:
    claimed(store, "a", max_nanousd=30)
    for nanousd in (20, 20, 5):
        assert store.calls.reserve_more("j", "a", "sub-1", nanousd) is True
    assert reserved(redis_client) == 20


def test_an_unknown_price_needs_a_job_without_a_budget_of_money(store: Store) -> None:
    claimed(store, "a", max_nanousd=30)
    assert store.calls.reserve_more("j", "a", "sub-1", None) is False
    assert store.calls.reserve_more("j", "a", "sub-1", 30) is True


def test_without_a_budget_nothing_is_refused(store: Store, redis_client: redis.Redis) -> None:
    claimed(store, "a")
    assert store.calls.reserve_more("j", "a", "sub-1", None) is True
    assert reserved(redis_client) == 10
    assert store.calls.reserve_more("j", "a", "sub-1", 10**12) is True


def test_the_whole_reservation_is_given_back_in_the_end(store: Store, redis_client: redis.Redis) -> None:
    claimed(store, "a", "b", max_nanousd=100)
    store.calls.reserve_more("j", "a", "sub-1", 50)
    store.calls.settle("j", "sub-1", [settlement("a", nanousd=40)])
    assert reserved(redis_client) == 10
    assert store.audits.job("j").differences == []


def test_a_call_of_the_root_model_is_known_by_its_epoch(store: Store) -> None:
    epoch = running_job(store, max_nanousd=30)
    store.calls.open("j", epoch, opens("r", nanousd=10, role=Role.ROOT))
    assert store.calls.reserve_more("j", "r", "root", 30) is True
    assert store.calls.reserve_more("j", "r", "root", 31) is False


def test_only_the_holder_of_a_running_call_reserves(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a", "open", nanousd=10))
    store.calls.claim("j", ["a"], "dead", SHORT_MS)
    wait_until(partial(store.calls.lost, "j", ["a"], LEASE_MS))
    store.calls.claim("j", ["a"], "sub-2", LEASE_MS)
    for call_id, owner in [("a", "dead"), ("open", "sub-2"), ("none", "sub-2")]:
        assert store.calls.reserve_more("j", call_id, owner, 20) is False
    finish_job(store, "j", epoch, Outcome(state=JobState.FAILED))
    assert store.calls.reserve_more("j", "a", "sub-2", 20) is False
    assert store.calls.reserve_more("gone", "a", "sub-2", 20) is False


def test_racing_calls_hold_the_budget(store: Store, redis_client: redis.Redis) -> None:
    ids = [f"c{n}" for n in range(16)]
    claimed(store, *ids, nanousd=10, max_nanousd=160 + 5 * 10)
    gained = at_once(16, lambda n: store.calls.reserve_more("j", ids[n], "sub-1", 20))
    assert sum(gained) == 5
    assert reserved(redis_client) == 210
