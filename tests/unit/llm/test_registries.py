"""What a process keeps for each model is bounded: the names of models come from jobs."""

import asyncio

import pytest

from rlm_dist.llm import limiter as limiter_module
from rlm_dist.llm.connection import MAX_DIALECTS, Connection
from rlm_dist.llm.limiter import MAX_IDLE, LimiterRegistry
from rlm_dist.llm.request_dialects import Dialect
from rlm_dist.schema.limits import Ceilings, Report, Scope, Share


def test_idle_limiters_are_dropped_and_those_in_use_are_kept() -> None:
    async def run() -> None:
        limits = LimiterRegistry()
        busy = limits.limiter("http://e/v1", "busy")
        permit = await busy.acquire("j", 1, 1.0)
        for number in range(5 * MAX_IDLE):
            limits.limiter("http://e/v1", f"m{number}")
        assert len(limits._limiters) <= MAX_IDLE
        assert limits.limiter("http://e/v1", "busy") is busy
        busy.release(permit)
        await limits.give_back()

    asyncio.run(run())


def test_a_limiter_that_comes_again_is_another_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reports count from 1 again, which the store would take for late ones of the same holder."""
    monkeypatch.setattr(limiter_module, "MAX_IDLE", 1)
    holders: list[tuple[str, str, int]] = []

    def share(scope: Scope, holder: str, report: Report, _: Ceilings, __: int) -> Share:
        holders.append((scope.model, holder, report.number))
        return Share(in_flight=10, epoch=0)

    async def call(limits: LimiterRegistry, model: str) -> None:
        limiter = limits.limiter("http://e/v1", model)
        limiter.release(await limiter.acquire("j", 1, 10.0))
        while not limiter.idle:  # its share is given back soon after its last call
            await asyncio.sleep(0.01)

    async def run() -> None:
        limits = LimiterRegistry(share, owner="w")
        for model in ("a", "b", "a"):
            await call(limits, model)
            assert len(limits._limiters) == 1
        await limits.give_back()

    asyncio.run(run())
    first_reports = [(model, holder) for model, holder, number in holders if number == 1]
    assert [model for model, _ in first_reports] == ["a", "b", "a"]
    assert len(set(first_reports)) == 3
    assert all(holder.startswith("w:") for _, holder in first_reports)


def test_dialects_are_kept_only_if_learnt_and_the_oldest_are_dropped() -> None:
    async def run() -> None:
        connection = Connection(url="http://e/v1", key="", headers={}, timeout_s=1)
        for number in range(2 * MAX_DIALECTS):
            connection._dialect(f"m{number}")
        assert not connection._dialects
        for number in range(2 * MAX_DIALECTS):
            connection._learn(f"m{number}", Dialect(stream=True))
        assert len(connection._dialects) == MAX_DIALECTS
        assert connection._dialect(f"m{2 * MAX_DIALECTS - 1}").stream
        assert not connection._dialect("m0").stream
        await connection.close()

    asyncio.run(run())
