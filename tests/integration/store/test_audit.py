"""The sums in the ledgers are recomputed from their charges; a wrong sum is found."""

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import redis

from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import BatchState, JobState, Outcome, Role, Usage
from rlm_dist.store import Audit, Difference, Settlement, Spend, Store
from tests.support.store_values import (
    LEASE_MS,
    SHORT_MS,
    at_once,
    finish_job,
    opens,
    retry_job,
    running_job,
    settlement,
)
from tests.support.waiting import wait_until

BROKEN: dict[str, Any] = {"input_tokens": "x"}
JOBS = ("j", "k")
IDS = [f"c{n}" for n in range(30)]


def attempt(call_id: str, dice: random.Random) -> Settlement:
    """One way for a call to end: paid, failed or aborted, with wasted attempts and unknown prices."""
    spend = Spend("my model", Usage(input_tokens=7, output_tokens=2), dice.choice([None, 3]))
    wasted = [Spend("m", Usage(input_tokens=5, estimated=True), 2)] * dice.randrange(3)
    failed, aborted = dice.random() < 0.3, dice.random() < 0.1
    result = "" if aborted else "result"
    return Settlement(call_id, Role.SUB, result, None if failed or aborted else spend, wasted)


def chaos(store: Store, epochs: Sequence[int], rounds: int = 6) -> None:
    """Half of the calls are claimed and lost; all are settled by several workers, twice each."""
    for name, epoch in zip(JOBS, epochs, strict=True):
        store.calls.open(name, epoch, opens("r", nanousd=9, tokens=9, role=Role.ROOT))
        store.calls.open(name, epoch, opens(*IDS, "open", nanousd=5, tokens=20))
        store.calls.settle(name, "root", [settlement("r", role=Role.ROOT)])
        store.calls.claim(name, IDS[::2], "dead", SHORT_MS)
        wait_until(partial(store.calls.lost, name, IDS, LEASE_MS))

    def work(number: int) -> None:
        dice = random.Random(number)
        paid = [attempt(name, dice) for name in dice.sample(IDS, 20)]
        for job in JOBS:
            store.calls.settle(job, f"sub-{number}", paid)
            store.calls.settle(job, f"sub-{number}", paid)

    at_once(rounds, work)


def test_charges_add_up_to_the_sums_whatever_happened(store: Store) -> None:
    """They do while jobs run, after they have ended, and for their batch."""
    store.batches.create("b", "digest", 2)
    epochs = [running_job(store, name, batch_id="b", index=n) for n, name in enumerate(JOBS)]
    store.batches.seal("b")
    chaos(store, epochs)
    running = store.audits.job("j")
    assert running.differences == []
    assert running.charges > len(IDS)
    costs = store.jobs.costs("j")
    assert min(costs.duplicate_paid_calls, costs.failed_calls, costs.estimated_calls) > 0
    with pytest.raises(InputError, match="batch b is running"):
        store.audits.batch("b", BatchState.RUNNING)
    finish_job(store, "j", epochs[0], Outcome(state=JobState.FAILED))
    finish_job(store, "k", epochs[1], Outcome(state=JobState.SUCCEEDED))
    store.calls.settle("k", "late", [settlement("open", nanousd=100)])
    assert store.audits.job("j") == running
    assert store.audits.batch("b", store.batches.get("b").state) == Audit(2 * running.charges + 1, [])


def test_a_retried_job_keeps_its_charges(store: Store) -> None:
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a", "b"))
    store.calls.settle("j", "sub", [settlement("a"), Settlement("b", Role.SUB, "failure", None)])
    finish_job(store, "j", epoch, Outcome(state=JobState.FAILED))
    retry_job(store, "j")
    store.calls.settle("j", "sub", [settlement("b")])
    assert store.audits.job("j") == Audit(2, [])


def test_a_sum_that_is_off_is_found(store: Store, redis_client: redis.Redis) -> None:
    store.batches.create("b", "digest", 2)
    epochs = [running_job(store, name, batch_id="b", index=n) for n, name in enumerate(JOBS)]
    store.batches.seal("b")
    chaos(store, epochs)
    for name, epoch in zip(JOBS, epochs, strict=True):
        finish_job(store, name, epoch, Outcome(state=JobState.SUCCEEDED))
    right = int(redis_client.hget("rlm:job:k:ledger", "spent_nanousd") or 0)
    redis_client.hincrby("rlm:job:k:ledger", "spent_nanousd", 1)
    redis_client.hincrby("rlm:batch:b:ledger", "reserved_tokens", 7)
    redis_client.hset("rlm:batch:b:ledger", "line:sub:calls:nobody", 1)
    assert store.audits.batch("b", BatchState.COMPLETED).differences == [
        Difference("job k", "spent_nanousd", right + 1, right),
        Difference("batch b", "line:sub:calls:nobody", 1, 0),
        Difference("batch b", "reserved_tokens", 7, 0),
    ]
    redis_client.lpop("rlm:job:j:charges")
    assert {each.ledger for each in store.audits.job("j").differences} == {"job j"}
    with pytest.raises(NotFound):
        store.audits.job("nobody")


def test_a_ledger_names_so_many_models_and_books_the_others_in_one_line(store: Store) -> None:
    """The sums stay exact: by job, by batch, and as they are recomputed from the charges."""
    store.batches.create("b", "digest")
    epoch = running_job(store, batch_id="b")
    names = [f"m{n}" for n in range(100)]
    store.calls.open("j", epoch, opens(*names, "again"))
    store.calls.claim("j", [*names, "again"], "sub-1", 60_000)
    store.calls.settle("j", "sub-1", [settlement(name, model=name) for name in names])
    store.calls.settle("j", "sub-1", [settlement("again", model="m0")])
    lines = {line.model: line for line in store.jobs.model_costs("j")}
    assert set(lines) == {*names[:32], "(other)"}
    assert (lines["(other)"].calls, lines["(other)"].input_tokens) == (68, 680)
    assert lines["m0"].calls == 2
    assert sum(line.calls for line in lines.values()) == store.jobs.costs("j").sub_llm_calls == 101
    assert store.audits.job("j").differences == []
    finish_job(store, "j", epoch, Outcome(state=JobState.SUCCEEDED, answer="a"))
    store.batches.seal("b")
    assert store.audits.batch("b", store.batches.get("b").state).differences == []


@pytest.mark.parametrize(
    ("spend", "money"),
    [
        (Spend("m", Usage.model_construct(**BROKEN), 1), 0),
        (Spend("m", Usage(input_tokens=10**30), 1), 0),
        (Spend("m", Usage(output_tokens=-1), 1), 0),
        (Spend("m", Usage(), 10**17), 0),
        (Spend("m", Usage(), -5), 0),
        (Spend("m" * 10_000, Usage(), 7), 7),
    ],
)
def test_a_settlement_that_cannot_be_booked_fails_alone(store: Store, spend: Spend, money: int) -> None:
    """Nothing of its script is written halfway: its neighbours are booked, and the ledger is right."""
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a", "bad", "b"))
    store.calls.claim("j", ["a", "bad", "b"], "sub-1", 60_000)
    bad = Settlement("bad", Role.SUB, "result bad", spend)
    assert store.calls.settle("j", "sub-1", [settlement("a"), bad, settlement("b")]) == [True] * 3
    assert None not in store.calls.answers("j", ["a", "bad", "b"])
    assert store.jobs.costs("j").total_cost == (2 + money) / 10**9
    assert all(len(line.model) <= 200 for line in store.jobs.model_costs("j"))
    assert store.audits.job("j").differences == []


def test_a_batch_names_so_many_models_whatever_its_jobs_name(store: Store) -> None:
    """What its ledger has no line for is booked as another in the job, too, so that all sums agree."""
    store.batches.create("b", "digest")
    for number in range(10):
        job, names = f"j{number}", [f"m{number}-{n}" for n in range(30)] + ["m0-0"]
        epoch = running_job(store, job, batch_id="b")
        store.calls.open(job, epoch, opens(*names))
        store.calls.claim(job, names, "sub-1", 60_000)
        store.calls.settle(job, "sub-1", [settlement(name, model=name) for name in names])
        assert store.audits.job(job).differences == []
        finish_job(store, job, epoch, Outcome(state=JobState.SUCCEEDED, answer="a"))
    store.batches.seal("b")
    last = {line.model for line in store.jobs.model_costs("j9")}
    assert last == {"m0-0", "(other)"}  # a name that the batch has may still be new in a job
    lines = {line.model: line.calls for line in store.batches.model_costs("b")}
    assert len(lines) <= 256 + 1
    assert (lines["m0-0"], sum(lines.values())) == (11, 10 * 31)
    assert store.audits.batch("b", BatchState.COMPLETED).differences == []
