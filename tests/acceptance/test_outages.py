"""While an endpoint is away a batch waits or is paused; nothing fails, and nothing is paid twice."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rlm_dist.cli.batch_view import batch_lines
from rlm_dist.operations.pace import Pace
from rlm_dist.operations.progress import view
from rlm_dist.schema import BatchState, JobState, Role
from rlm_dist.simulated import Latency, SimulatedEndpoint
from tests.support.bench import Bench, MakeBench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

JOBS, CALLS = 12, 6


@contextmanager
def serving(port: int = 0) -> Iterator[SimulatedEndpoint]:
    """An endpoint slow enough to be stopped in the middle of a call."""
    with SimulatedEndpoint(latency=Latency(0.2), port=port) as endpoint:
        yield endpoint


def port_of(endpoint: SimulatedEndpoint) -> int:
    return int(endpoint.url.rpartition(":")[2].removesuffix("/v1"))


def started(bench: Bench, **env: str) -> None:
    bench.start(Role.ROOT, concurrency=4, **env)
    bench.start(Role.SUB, concurrency=8, **env)
    bench.wait_ready()


def items() -> list[dict[str, object]]:
    """Jobs that each make a few sub-calls."""
    context = "\n".join(f"Who is number {n}?" for n in range(CALLS))
    return [
        {"id": f"q{n}", "query": f"Label the first {CALLS} lines.", "context": f"{context}\n{n}"}
        for n in range(JOBS)
    ]


def test_a_batch_waits_for_an_endpoint_that_is_away_and_goes_on(make_bench: MakeBench) -> None:
    with serving() as before:
        bench = make_bench(before)
        started(bench)
        store = bench.client.store
        batch = bench.client.submit_batch(items(), max_seconds=3600)
        wait_until(lambda: before.served.answered >= CALLS)
    served = before.served

    def lines() -> list[str]:
        record = store.batches.get(batch.id)
        return list(batch_lines(record, view(store, record, Pace())))

    wait_until(lambda: any("endpoint away since" in line for line in lines()))
    record = store.batches.get(batch.id)
    assert (record.counts[JobState.FAILED], record.costs.failed_calls) == (0, 0)
    assert record.state is BatchState.RUNNING
    wait_until(lambda: store.batches.get(batch.id).calls_in_flight == 0)
    with serving(port_of(before)) as after:
        assert [result.state for result in batch.results()] == [JobState.SUCCEEDED] * JOBS
        costs = batch.cost()
        assert (costs.failed_calls, costs.duplicate_paid_calls) == (0, 0)
        assert costs.root_llm_calls + costs.sub_llm_calls == served.answered + after.served.answered
        assert costs.sub_llm_calls == JOBS * CALLS
    assert store.limits.away_urls() == set()


def test_after_too_long_an_outage_the_batch_is_paused_with_its_reason(make_bench: MakeBench) -> None:
    with serving() as before:
        bench = make_bench(before)
        started(bench, RLM_OUTAGE_S="2")
        store = bench.client.store
        batch = bench.client.submit_batch(items())
        wait_until(lambda: before.served.answered >= CALLS)
    reason = wait_until(lambda: store.batches.get(batch.id).pause_reason)
    assert "the endpoint has been away for" in (reason or "")
    wait_until(lambda: store.batches.get(batch.id).counts[JobState.RUNNING] == 0)
    counts = store.batches.get(batch.id).counts
    assert counts[JobState.FAILED] == 0
    with serving(port_of(before)):
        store.batches.resume(batch.id)
        assert [result.state for result in batch.results()] == [JobState.SUCCEEDED] * JOBS
        costs = batch.cost()
        assert (costs.failed_calls, costs.duplicate_paid_calls) == (0, 0)
