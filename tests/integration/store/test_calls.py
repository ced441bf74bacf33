"""Calls in the store: claimed by one worker, paid and counted once, within budgets that also stop racers."""

from dataclasses import replace

import pytest
import redis

from rlm_dist.errors import NotFound, UnknownPrice
from rlm_dist.schema import BatchState, CallResult, JobState, Outcome, Role, Usage
from rlm_dist.store import CallRefused, CallState, OpenCall, Settlement, Spend, Store
from rlm_dist.store.calls import MAX_LAPSES
from tests.support.store_values import (
    LEASE_MS,
    SHORT_MS,
    at_once,
    counted,
    finish_job,
    opens,
    running_job,
    settlement,
)
from tests.support.waiting import wait_until

NEW, PENDING, SETTLED = CallState.NEW, CallState.PENDING, CallState.SETTLED
FAILED = Outcome(state=JobState.FAILED)


def ledger(client: redis.Redis, key: str = "rlm:job:j:ledger") -> dict[str, int]:
    """The ledger's fields as numbers, without zeros."""
    return {str(field): int(value) for field, value in client.hgetall(key).items() if int(value)}


def test_the_life_of_a_call(store: Store) -> None:
    epoch = running_job(store)
    assert store.calls.open("j", epoch, opens("a", "b")) == [NEW, NEW]
    assert store.calls.open("j", epoch, opens("a")) == [PENDING]
    assert store.calls.claim("j", ["a", "unknown"], "sub-1", LEASE_MS) == ["request a", None]
    assert store.calls.claim("j", ["a"], "sub-1", LEASE_MS) == [None]
    assert store.calls.answers("j", ["a"]) == [None]
    assert store.calls.settle("j", "sub-1", [settlement("a")]) == [True]
    assert store.calls.open("j", epoch, opens("a", "b")) == [SETTLED, PENDING]
    assert store.calls.claim("j", ["a"], "sub-2", LEASE_MS) == [None]
    assert store.calls.answers("j", ["a", "b"]) == ["result a", None]
    assert store.calls.answers("j", []) == []


def test_of_many_racers_each_call_is_claimed_by_one(store: Store) -> None:
    epoch = running_job(store)
    ids = [f"c{n}" for n in range(40)]
    store.calls.open("j", epoch, opens(*ids))
    won = at_once(30, lambda n: store.calls.claim("j", ids, f"sub-{n % 3}", LEASE_MS))
    for index, name in enumerate(ids):
        assert counted([row[index] for row in won], f"request {name}") == 1


def test_what_is_settled_twice_is_paid_twice_and_committed_once(
    store: Store, redis_client: redis.Redis
) -> None:
    epoch = running_job(store)
    ids = [f"c{n}" for n in range(20)]
    store.calls.open("j", epoch, opens(*ids, nanousd=9, tokens=99))

    def settle(number: int) -> list[bool]:
        paid = [settlement(name, nanousd=3) for name in ids]
        firsts = store.calls.settle("j", f"sub-{number}", paid)
        assert store.calls.settle("j", f"sub-{number}", paid) == firsts  # a repeat, not a second payment
        return firsts

    firsts = at_once(200, settle)
    assert [sum(column) for column in zip(*firsts, strict=True)] == [1] * 20
    assert ledger(redis_client) == {
        "sub_calls": 20,
        "spent_nanousd": 200 * 20 * 3,
        "spent_tokens": 200 * 20 * 12,
        "committed_nanousd": 20 * 3,
        "committed_tokens": 20 * 12,
        "duplicate_paid_calls": 199 * 20,
        "line:sub:calls:m": 200 * 20,
        "line:sub:input:m": 200 * 20 * 10,
        "line:sub:output:m": 200 * 20 * 2,
        "line:sub:nanousd:m": 200 * 20 * 3,
    }
    assert len(store.calls.replies("j", "0", 10)) == 20


def test_racing_opens_never_overrun_a_budget(store: Store) -> None:
    epoch = running_job(store, max_nanousd=50)
    states = at_once(200, lambda n: store.calls.open("j", epoch, opens(f"c{n}", nanousd=1))[0])
    assert counted(states, NEW) == 50
    assert counted(states, CallRefused("max_usd", 50e-9, 50e-9, 1e-9)) == 150


def test_a_batch_budget_holds_over_its_jobs(store: Store) -> None:
    store.batches.create("b", "digest", 2, max_tokens=50)
    epochs = [running_job(store, name, batch_id="b") for name in ("j", "k")]

    def work(number: int) -> CallState | CallRefused:
        job = number % 2
        return store.calls.open("jk"[job], epochs[job], opens(f"c{number}", tokens=1))[0]

    states = at_once(120, work)
    assert counted(states, NEW) == 50
    assert counted(states, CallRefused("batch_max_tokens", 50, 50, 1)) == 70


def test_settling_gives_back_what_was_not_used(store: Store) -> None:
    epoch = running_job(store, max_nanousd=100)
    assert store.calls.open("j", epoch, opens("a", "b", nanousd=60)) == [
        NEW,
        CallRefused("max_usd", 60e-9, 1e-7, 60e-9),
    ]
    store.calls.settle("j", "sub-1", [settlement("a", nanousd=40)])
    assert store.calls.open("j", epoch, opens("b", "c", nanousd=60)) == [
        NEW,
        CallRefused("max_usd", 1e-7, 1e-7, 60e-9),
    ]


def test_a_job_that_ends_gives_its_reservations_back_to_the_batch(
    store: Store, redis_client: redis.Redis
) -> None:
    store.batches.create("b", "digest", 2, max_nanousd=100)
    epoch = running_job(store, batch_id="b")
    store.calls.open("j", epoch, opens("a", "b", nanousd=50))
    finish_job(store, "j", epoch, FAILED)
    store.calls.settle("j", "sub-1", [settlement("a", nanousd=30)])
    assert "reserved_nanousd" not in ledger(redis_client)
    assert ledger(redis_client, "rlm:batch:b:ledger")["spent_nanousd"] == 30
    assert "reserved_nanousd" not in ledger(redis_client, "rlm:batch:b:ledger")
    other = running_job(store, "k", batch_id="b")
    assert store.calls.open("k", other, opens("a", "b", nanousd=70)) == [
        NEW,
        CallRefused("batch_max_usd", 1e-7, 1e-7, 70e-9),
    ]


def test_a_call_of_unknown_price_is_opened_only_where_no_money_is_counted(store: Store) -> None:
    """A budget of money, of the job or its batch, could not be kept."""
    calls = [OpenCall("a", "request", 1, None)]
    refused = [CallRefused("unpriced", 0, 0)]
    assert isinstance(refused[0].error("m"), UnknownPrice)
    assert store.calls.open("free", running_job(store, "free"), calls) == [NEW]
    assert store.calls.open("j", running_job(store, max_nanousd=10**9), calls) == refused
    store.batches.create("b", "digest", 1, max_tokens=100)
    epoch = running_job(store, "k", batch_id="b")
    assert store.calls.open("k", epoch, calls) == [NEW]
    store.batches.set_budget("b", 10**9)
    assert store.calls.open("k", epoch, [OpenCall("b", "request", 1, None)]) == refused


def test_a_budget_of_a_batch_is_raised(store: Store) -> None:
    store.batches.create("b", "digest", 1, max_nanousd=10, max_tokens=10)
    epoch = running_job(store, batch_id="b")
    calls = opens("a", "b", nanousd=8, tokens=8)
    assert store.calls.open("j", epoch, calls) == [NEW, CallRefused("batch_max_usd", 8e-9, 10e-9, 8e-9)]
    store.batches.set_budget("b", 16)
    assert store.calls.open("j", epoch, calls) == [PENDING, CallRefused("batch_max_tokens", 8, 10, 8)]
    store.batches.set_budget("b", None, 16)
    assert store.calls.open("j", epoch, calls) == [PENDING, NEW]
    with pytest.raises(NotFound):
        store.batches.set_budget("nobody", 16)


def test_root_calls_are_no_sub_calls_but_cost_the_same(store: Store) -> None:
    epoch = running_job(store, max_sub_calls=1, max_tokens=30)
    assert store.calls.open("j", epoch, opens("r", tokens=10, role=Role.ROOT)) == [NEW]
    assert store.calls.open("j", epoch, opens("a", "b", tokens=10)) == [
        NEW,
        CallRefused("max_sub_calls", 1, 1),
    ]
    assert store.calls.open("j", epoch, opens("r2", tokens=20, role=Role.ROOT)) == [
        CallRefused("max_tokens", 20, 30, 20)
    ]


def test_money_of_a_call_without_price_is_unknown(store: Store) -> None:
    store.batches.create("b", "digest")
    epoch = running_job(store, batch_id="b")
    store.calls.open("j", epoch, opens("a", "b", "r"))
    paid = [
        settlement("a", nanousd=None, model="who:knows"),
        settlement("b", nanousd=5, cached=4),
        settlement("r", nanousd=7, role=Role.ROOT),
    ]
    store.calls.settle("j", "sub-1", paid)
    costs = store.jobs.costs("j")
    assert (costs.total_cost, costs.sub_llm_cost, costs.root_llm_cost) == (None, None, 7e-9)
    assert (costs.sub_llm_calls, costs.sub_llm_tokens, costs.sub_cached_tokens) == (2, 24, 4)
    lines = {(line.role, line.model): line.cost for line in store.jobs.model_costs("j")}
    assert lines == {("root", "m"): 7e-9, ("sub", "m"): 5e-9, ("sub", "who:knows"): None}
    assert store.batches.costs("b") == costs
    assert store.batches.model_costs("b") == store.jobs.model_costs("j")
    assert store.batches.get("b").costs == store.jobs.get("j").costs == costs


def test_failed_and_wasted_attempts_are_counted(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a", "b"))
    wasted = Spend("m", Usage(input_tokens=5, estimated=True), 2)
    done = Spend("m", Usage(input_tokens=5, output_tokens=1), 3)
    store.calls.settle(
        "j",
        "sub-1",
        [
            Settlement("a", Role.SUB, "failure", None),
            Settlement("b", Role.SUB, "answer", done, wasted=[wasted, wasted]),
        ],
    )
    costs = store.jobs.costs("j")
    assert (costs.failed_calls, costs.sub_llm_calls, costs.estimated_calls) == (1, 3, 2)
    assert (costs.sub_llm_tokens, costs.total_cost, costs.duplicate_paid_calls) == (16, 7e-9, 0)


def test_an_answer_that_was_cut_off_is_counted_once(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a", "b"))
    cut = replace(settlement("a"), truncated=True)
    for settled in ([cut, settlement("b")], [cut], [replace(settlement("a"), truncated=True)]):
        store.calls.settle("j", "sub-1", settled)
    assert store.jobs.costs("j").truncated_calls == 1


def test_a_repeat_of_an_aborted_attempt_is_not_charged_again(store: Store) -> None:
    """Its reply was lost, and meanwhile another worker has answered the call."""
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    aborted = Settlement("a", Role.SUB, "", None, wasted=[Spend("m", Usage(input_tokens=5), 2)])
    for each in (aborted, settlement("a"), aborted):
        store.calls.settle("j", "sub-1", [each])
    costs = store.jobs.costs("j")
    assert (costs.sub_llm_calls, costs.total_cost, costs.duplicate_paid_calls) == (2, 3e-9, 0)


def test_a_lapsed_claim_goes_to_another_and_the_first_answer_wins(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    store.calls.claim("j", ["a"], "sub-1", SHORT_MS)
    wait_until(lambda: store.calls.claim("j", ["a"], "sub-2", LEASE_MS) == ["request a"])
    slow, fast = settlement("a"), settlement("a")
    assert store.calls.settle("j", "sub-1", [slow]) == [True]
    assert store.calls.settle("j", "sub-2", [fast]) == [False]
    assert store.calls.settle("j", "sub-2", [fast]) == [False]
    assert store.jobs.costs("j").duplicate_paid_calls == 1
    assert store.jobs.costs("j").total_cost == 2e-9


def test_a_call_whose_workers_die_again_and_again_is_ended_as_failed(
    store: Store, redis_client: redis.Redis
) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a", "b", tokens=5))
    for _ in range(MAX_LAPSES + 1):
        assert store.calls.claim("j", ["a"], "sub-1", 0) == ["request a"]
    assert store.calls.claim("j", ["a", "b"], "sub-2", LEASE_MS) == [None, "request b"]
    (packed,) = store.calls.answers("j", ["a"])
    failure = CallResult.model_validate_json(packed or "").failure
    assert failure is not None
    assert "died during the call more than 3 times" in failure.message
    assert store.calls.replies("j", "0", block_ms=1)[0].call_id == "a"
    assert store.jobs.costs("j").failed_calls == 1
    assert store.jobs.costs("j").duplicate_paid_calls == MAX_LAPSES + 1
    assert store.calls.claim("j", ["a"], "sub-2", LEASE_MS) == [None]
    assert store.calls.settle("j", "sub-2", [settlement("b")]) == [True]
    assert "reserved_tokens" not in ledger(redis_client)


def test_calls_that_nobody_works_on_are_told_once(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("new", "dropped", "done", "live"))
    store.calls.claim("j", ["dropped"], "sub-1", SHORT_MS)
    store.calls.claim("j", ["live"], "sub-1", LEASE_MS)
    store.calls.settle("j", "sub-1", [settlement("done")])
    ids = ["new", "dropped", "done", "live", "unknown"]
    assert wait_until(lambda: store.calls.lost("j", ids, LEASE_MS)) == ["dropped"]
    assert store.calls.lost("j", ids, LEASE_MS) == []
    assert wait_until(lambda: store.calls.lost("j", ids[:1], SHORT_MS)) == ["new"]
    assert wait_until(lambda: store.calls.lost("j", ids[1:], SHORT_MS)) == ["dropped"]


def test_renewing_keeps_claims_and_tells_of_cancelled_jobs(store: Store) -> None:
    epoch = running_job(store)
    running_job(store, "k")
    store.calls.open("j", epoch, opens("a"))
    store.calls.claim("j", ["a"], "sub-1", SHORT_MS)
    assert store.calls.renew("sub-1", {"j": ["a"]}, LEASE_MS) == (set(), set())
    store.calls.renew("sub-2", {"j": ["a"]}, 0)
    assert store.calls.lost("j", ["a"], 0) == []
    store.jobs.cancel("k")
    unwanted = store.calls.renew("sub-1", {"j": ["a"], "k": ["a"], "gone": ["a"]}, LEASE_MS)
    assert unwanted == ({"k", "gone"}, set())
    assert store.calls.renew("sub-1", {}, LEASE_MS) == (set(), set())
    finish_job(store, "j", epoch, Outcome(state=JobState.EXHAUSTED))
    assert store.calls.renew("sub-1", {"j": ["a"]}, LEASE_MS) == (
        set(),
        {"j"},
    )  # calls on the wire will be billed


def test_a_cancelled_job_gives_no_claims(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    store.jobs.cancel("j")
    assert store.calls.claim("j", ["a"], "sub-1", LEASE_MS) == [None]


def test_replies_are_read_from_a_cursor_with_the_results_that_are_short(store: Store) -> None:
    store.calls.open("j", running_job(store), opens("a", "b", tokens=5))
    store.calls.settle("j", "sub-1", [settlement("a")])
    (first,) = store.calls.replies("j", "0", 10)
    assert [first.packed] == store.calls.answers("j", ["a"])
    assert (first.call_id, store.calls.replies("j", first.cursor, 10)) == ("a", [])
    store.calls.settle("j", "sub-1", [replace(settlement("b"), result_json="long" * 300)])
    assert [each[1:] for each in store.calls.replies("j", first.cursor, 10)] == [("b", None)]


def test_no_more_replies_are_kept_than_anybody_waits_for(store: Store, redis_client: redis.Redis) -> None:
    ids = [f"c{n}" for n in range(9000)]
    store.calls.open("j", running_job(store), opens(*ids, tokens=5))
    store.calls.settle("j", "sub-1", [settlement(name) for name in ids])
    assert 8192 <= redis_client.xlen("rlm:job:j:replies") < 8400
    assert all(store.calls.answers("j", ids))


def test_thousands_of_calls_go_in_pieces(store: Store) -> None:
    epoch = running_job(store, max_sub_calls=2500)
    calls = [OpenCall(f"c{n}", "r", 1, 1) for n in range(2600)]
    states = store.calls.open("j", epoch, calls)
    assert (counted(states, NEW), counted(states, CallRefused("max_sub_calls", 2500, 2500))) == (2500, 100)
    ids = [call.call_id for call in calls]
    assert sum(won is not None for won in store.calls.claim("j", ids, "sub-1", LEASE_MS)) == 2500
    assert all(store.calls.settle("j", "sub-1", [settlement(name) for name in ids[:2500]]))
    assert store.jobs.costs("j").sub_llm_calls == 2500


def test_large_sums_stay_exact(store: Store, redis_client: redis.Redis) -> None:
    epoch = running_job(store, max_nanousd=10**16)
    store.calls.open("j", epoch, opens("a", "b", nanousd=10**15 + 1))
    store.calls.settle(
        "j", "sub-1", [settlement("a", nanousd=10**15 + 1), settlement("b", nanousd=10**15 + 2)]
    )
    assert ledger(redis_client)["spent_nanousd"] == 2 * 10**15 + 3
    assert "reserved_nanousd" not in ledger(redis_client)


@pytest.mark.parametrize("role", list(Role))
def test_a_call_that_is_given_back_costs_nothing_and_can_be_made_again(store: Store, role: Role) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a", nanousd=5, tokens=7, role=role))
    if role is Role.SUB:
        assert store.calls.claim("j", ["a"], "sub-1", LEASE_MS) == ["request a"]
    returned = replace(settlement("a", role=role), spend=None, returned="")
    owner = "root-1" if role is Role.ROOT else "sub-1"
    assert store.calls.settle("j", owner, [returned]) == [False]
    again = CallState.PENDING if role is Role.SUB else CallState.NEW
    assert store.calls.open("j", epoch, opens("a", nanousd=5, tokens=7, role=role)) == [again]
    if role is Role.SUB:
        assert store.calls.lost("j", ["a"], LEASE_MS) == ["a"]
        assert store.calls.claim("j", ["a"], "sub-2", LEASE_MS) == ["request a"]
    assert store.calls.settle("j", "sub-2", [settlement("a", role=role)]) == [True]
    costs = store.jobs.costs("j")
    assert (costs.failed_calls, costs.duplicate_paid_calls) == (0, 0)


def test_what_another_worker_holds_is_not_given_back(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    store.calls.claim("j", ["a"], "sub-1", LEASE_MS)
    assert store.calls.settle("j", "sub-2", [replace(settlement("a"), spend=None, returned="")]) == [False]
    assert store.calls.claim("j", ["a"], "sub-3", LEASE_MS) == [None]


def test_a_call_that_pauses_its_batch_is_a_failure_where_there_is_none(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    store.calls.claim("j", ["a"], "sub-1", LEASE_MS)
    assert store.calls.settle("j", "sub-1", [replace(settlement("a"), spend=None, returned="no money")]) == [
        True
    ]
    assert store.calls.answers("j", ["a"]) == ["result a"]
    assert store.jobs.costs("j").failed_calls == 1


def test_a_batch_is_paused_with_the_reason_that_came_first(store: Store) -> None:
    store.batches.create("b", "digest")
    epoch = running_job(store, batch_id="b")
    store.calls.open("j", epoch, opens("a", "b"))
    store.calls.claim("j", ["a", "b"], "sub-1", LEASE_MS)
    for call_id, why in (("a", "no money"), ("b", "no key")):
        store.calls.settle("j", "sub-1", [replace(settlement(call_id), spend=None, returned=why)])
    assert store.batches.get("b").state is BatchState.PAUSED
    assert store.batches.get("b").pause_reason == "no money"
    store.batches.resume("b")
    assert store.batches.get("b").pause_reason is None


def test_retries_are_counted_once_for_job_and_batch(store: Store) -> None:
    store.batches.create("b", "digest")
    epoch = running_job(store, batch_id="b")
    store.calls.open("j", epoch, opens("a", "b"))
    settled = [replace(settlement("a"), retries=3, rate_limited=2), settlement("b")]
    for _ in range(2):
        store.calls.settle("j", "sub-1", settled)
    for costs in (store.jobs.costs("j"), store.batches.costs("b")):
        assert (costs.retries, costs.rate_limited) == (3, 2)
