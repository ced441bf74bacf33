"""The sums in the ledgers are recomputed from what they were made of; a sum that is off is found."""

import random
from collections.abc import Sequence
from functools import partial

import pytest
import redis

from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import BatchState, JobState, Outcome, Role, Usage
from rlm_dist.store import Audit, Difference, Settlement, Spend, Store
from tests.integration.store_making import LEASE_MS, SHORT_MS, at_once, opens, running_job, settlement
from tests.waiting import wait_until

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
        store.open_calls(name, epoch, opens("r", nanousd=9, tokens=9, role=Role.ROOT))
        store.open_calls(name, epoch, opens(*IDS, "open", nanousd=5, tokens=20))
        store.settle(name, "root", [settlement("r", role=Role.ROOT)])
        store.claim(name, IDS[::2], "dead", SHORT_MS)
        wait_until(partial(store.lost_calls, name, IDS, LEASE_MS))

    def work(number: int) -> None:
        dice = random.Random(number)
        paid = [attempt(name, dice) for name in dice.sample(IDS, 20)]
        for job in JOBS:
            store.settle(job, f"sub-{number}", paid)
            store.settle(job, f"sub-{number}", paid)

    at_once(rounds, work)


def test_charges_add_up_to_the_sums_whatever_happened(store: Store) -> None:
    """While jobs run, after they ended, and for their batch."""
    store.create_batch("b", "digest", 2)
    epochs = [running_job(store, name, batch_id="b", index=n) for n, name in enumerate(JOBS)]
    store.seal_batch("b")
    chaos(store, epochs)
    running = store.audit_job("j")
    assert running.differences == []
    assert running.charges > len(IDS)
    costs = store.costs("j")
    assert min(costs.duplicate_paid_calls, costs.failed_calls, costs.estimated_calls) > 0
    with pytest.raises(InputError, match="batch b is running"):
        store.audit_batch("b", BatchState.RUNNING)
    store.finish_job("j", epochs[0], Outcome(state=JobState.FAILED))
    store.finish_job("k", epochs[1], Outcome(state=JobState.SUCCEEDED))
    store.settle("k", "late", [settlement("open", nanousd=100)])
    assert store.audit_job("j") == running
    assert store.audit_batch("b", store.batch("b").state) == Audit(2 * running.charges + 1, [])


def test_a_retried_job_keeps_its_charges(store: Store) -> None:
    epoch = running_job(store)
    store.open_calls("j", epoch, opens("a", "b"))
    store.settle("j", "sub", [settlement("a"), Settlement("b", Role.SUB, "failure", None)])
    store.finish_job("j", epoch, Outcome(state=JobState.FAILED))
    store.retry_job("j")
    store.settle("j", "sub", [settlement("b")])
    assert store.audit_job("j") == Audit(2, [])


def test_a_sum_that_is_off_is_found(store: Store, redis_client: redis.Redis) -> None:
    store.create_batch("b", "digest", 2)
    epochs = [running_job(store, name, batch_id="b", index=n) for n, name in enumerate(JOBS)]
    store.seal_batch("b")
    chaos(store, epochs)
    for name, epoch in zip(JOBS, epochs, strict=True):
        store.finish_job(name, epoch, Outcome(state=JobState.SUCCEEDED))
    right = int(redis_client.hget("rlm:job:k:ledger", "spent_nanousd") or 0)
    redis_client.hincrby("rlm:job:k:ledger", "spent_nanousd", 1)
    redis_client.hincrby("rlm:batch:b:ledger", "reserved_tokens", 7)
    redis_client.hset("rlm:batch:b:ledger", "line:sub:calls:nobody", 1)
    assert store.audit_batch("b", BatchState.COMPLETED).differences == [
        Difference("job k", "spent_nanousd", right + 1, right),
        Difference("batch b", "line:sub:calls:nobody", 1, 0),
        Difference("batch b", "reserved_tokens", 7, 0),
    ]
    redis_client.lpop("rlm:job:j:charges")
    assert {each.ledger for each in store.audit_job("j").differences} == {"job j"}
    with pytest.raises(NotFound):
        store.audit_job("nobody")
