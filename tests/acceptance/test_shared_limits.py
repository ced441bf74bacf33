"""All workers together keep a ceiling on calls in flight, and it does not keep a worker from stopping."""

import signal

import pytest

from rlm_dist.schema import Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import MakeBench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance


def test_a_worker_that_stops_gives_back_the_calls_that_wait(make_bench: MakeBench) -> None:
    """Two workers share two permits; the stopped one ends its calls on the wire, the other makes the rest."""
    with SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        leaving = bench.start(Role.SUB, concurrency=16, RLM_MAX_IN_FLIGHT="2")
        bench.wait_ready()
        lines = "\n".join(f"Who is number {n}?" for n in range(40))
        job = bench.client.submit(lines, "Label the first 40 lines.")
        wait_until(lambda: endpoint.served.in_flight == 2)
        bench.start(Role.SUB, concurrency=16, RLM_MAX_IN_FLIGHT="2")
        bench.wait_ready()
        leaving.process.send_signal(signal.SIGTERM)
        endpoint.release()
        leaving.process.wait(60)
        result = job.result(150)
        assert result.answer_json == {"human being": 40}
        assert endpoint.served.by_role["sub"] == 40
        assert endpoint.served.max_in_flight == 2
        assert (result.costs.failed_calls, result.costs.duplicate_paid_calls) == (0, 0)
