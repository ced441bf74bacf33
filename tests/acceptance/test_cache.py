"""`submit --cache`: a later batch does not pay again for answers that an earlier one received."""

import pytest

from rlm_dist.schema import Role
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import MakeBench

pytestmark = pytest.mark.acceptance


def test_a_second_batch_takes_the_answers_of_the_first(make_bench: MakeBench) -> None:
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        lines = "\n".join(f"Who is number {n}?" for n in range(20))
        item = {"id": "q", "query": "Label the first 20 lines.", "context": lines}
        costs = []
        for cache in (True, True, False):
            batch = bench.client.submit_batch([item], cache=cache)
            assert [result.answer_json for result in batch.results()] == [{"human being": 20}]
            costs.append(batch.cost())
        assert [cost.cache_hits for cost in costs] == [0, 20, 0]
        assert [cost.sub_llm_calls for cost in costs] == [20, 0, 20]
        assert [cost.sub_llm_tokens > 0 for cost in costs] == [True, False, True]
        assert endpoint.served.by_role["sub"] == 40
