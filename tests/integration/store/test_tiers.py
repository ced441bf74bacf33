"""The ledger has lines by tier, and the parts of tokens; both follow from the charges."""

from typing import Any

import pytest
import redis

from rlm_dist.schema import NANO, ModelCosts, Role, Usage
from rlm_dist.store import Settlement, Spend, Store
from tests.support.store_values import opens, running_job, settlement


def paid(call_id: str, model: str, nanousd: int | None, *, billed: bool = False, **parts: Any) -> Settlement:
    """A served call of 100 tokens in and 50 out."""
    usage = Usage(input_tokens=100, output_tokens=50, **parts)
    return Settlement(call_id, Role.SUB, "result", Spend(model, usage, nanousd, billed=billed))


@pytest.fixture
def settled(store: Store) -> Store:
    """A job whose calls were served in several tiers, by models with odd names."""
    store.batches.create("b", "digest", 1)
    epoch = running_job(store, batch_id="b")
    store.calls.open("j", epoch, opens(*"abcdef"))
    store.calls.settle(
        "j",
        "sub-1",
        [
            paid("a", "qwen:7b@x, y", 10, tier="flex", reasoning_tokens=30),
            paid("b", "qwen:7b@x, y", 20),
            paid("c", "qwen:7b@x, y", 40, tier="default", billed=True, cache_write_tokens=7),
            paid("d", "m", 80, tier="priority", input_audio_tokens=5, output_audio_tokens=6),
            paid("e", "m", None, tier="other"),
            settlement("f", nanousd=160, role=Role.ROOT),
        ],
    )
    return store


def test_each_role_model_and_tier_has_a_line(settled: Store) -> None:
    def line(model: str, tier: str, cost: int | None, calls: int = 1, **parts: int) -> ModelCosts:
        return ModelCosts(
            role=Role.SUB, model=model, tier=tier, calls=calls, input_tokens=100 * calls, cached_tokens=0,
            output_tokens=50 * calls, cost=None if cost is None else cost / NANO, **parts,
        )  # fmt: skip

    root, *subs = settled.jobs.model_costs("j")
    assert (root.role, root.model, root.tier, root.cost) == (Role.ROOT, "m", "default", 160 / NANO)
    assert subs == [
        line("m", "other", None),
        line("m", "priority", 80, audio_tokens=11),
        line("qwen:7b@x, y", "default", 60, 2, billed_calls=1, cache_write_tokens=7),
        line("qwen:7b@x, y", "flex", 10, reasoning_tokens=30),
    ]
    assert settled.batches.model_costs("b") == [root, *subs]


def test_money_is_split_by_tier(settled: Store) -> None:
    costs = settled.jobs.costs("j")
    assert costs.tiers == {"default": 220 / NANO, "flex": 10 / NANO, "priority": 80 / NANO, "other": None}
    assert (costs.root_llm_cost, costs.sub_llm_cost, costs.total_cost) == (160 / NANO, None, None)
    assert (costs.sub_llm_calls, costs.sub_input_tokens, costs.sub_output_tokens) == (5, 500, 250)


def test_a_job_that_spent_nothing_has_no_tiers(store: Store) -> None:
    running_job(store)
    assert store.jobs.costs("j").tiers == {}


def test_the_lines_follow_from_the_charges(settled: Store) -> None:
    assert settled.audits.job("j").differences == []


def test_charges_and_lines_of_the_default_tier_are_as_they_were(
    store: Store, redis_client: redis.Redis
) -> None:
    """So ledgers of earlier versions are read, and checked, as they stand."""
    epoch = running_job(store)
    store.calls.open("j", epoch, opens("a"))
    store.calls.settle("j", "sub-1", [settlement("a", nanousd=3, model="my model", cached=4)])
    assert redis_client.lrange("rlm:job:j:charges", 0, -1) == ["a sub 10 4 2 0 3 my model"]
    ledger = redis_client.hgetall("rlm:job:j:ledger")
    assert {name for name in map(str, ledger) if name.startswith("line:")} == {
        f"line:sub:{metric}:my model" for metric in ("calls", "input", "cached", "output", "nanousd")
    }
