"""A spent quota or a wrong key, which only a person can fix, pauses the batch and loses nothing."""

import pytest
from pydantic import JsonValue

from rlm_dist.schema import BatchState, JobState, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import MakeBench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

NO_MONEY: dict[str, JsonValue] = {"message": "You have spent it all", "code": "insufficient_quota"}


@pytest.mark.parametrize(
    ("role", "status", "error", "said"),
    [
        pytest.param(Role.SUB, 429, NO_MONEY, "You have spent it all", id="quota"),
        pytest.param(Role.ROOT, 401, None, "the key is missing or wrong", id="key", marks=pytest.mark.long),
    ],
)
def test_a_batch_is_paused_and_goes_on_when_it_is_resumed(
    make_bench: MakeBench, role: Role, status: int, error: dict[str, JsonValue] | None, said: str
) -> None:
    """Neither the refused calls nor their jobs fail; the batch reports what the endpoint said."""
    faults = [Fault(kind="status", role=role, status=status, error=error)]
    with SimulatedEndpoint(faults=faults) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=2)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        store = bench.client.store
        query = "Label the first 4 lines."
        items = [{"id": f"q{n}", "query": query, "context": f"Who?\nWhere?\nWhen?\n{n}?"} for n in range(4)]
        batch = bench.client.submit_batch(items)
        reason = wait_until(lambda: store.batches.get(batch.id).pause_reason)
        assert said in (reason or "")
        assert store.batches.get(batch.id).state is BatchState.PAUSED
        wait_until(lambda: store.batches.get(batch.id).counts[JobState.QUEUED] == 4)
        endpoint.faults = ()
        store.batches.resume(batch.id)
        assert store.batches.get(batch.id).pause_reason is None
        assert [result.state for result in batch.results()] == [JobState.SUCCEEDED] * 4
        costs = batch.cost()
        assert (costs.failed_calls, costs.duplicate_paid_calls) == (0, 0)
