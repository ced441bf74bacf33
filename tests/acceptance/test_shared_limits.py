"""All workers together keep a ceiling on calls in flight, and it does not keep a worker from stopping."""

import signal

import pytest

from rlm_dist.schema import Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.simulated.server import Latency
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


def test_a_ceiling_that_is_set_while_calls_run_holds_for_all_workers_until_it_is_raised(
    make_bench: MakeBench,
) -> None:
    with SimulatedEndpoint(latency=Latency(0.5)) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        for _ in range(2):
            bench.start(Role.SUB, concurrency=20)
        bench.wait_ready()
        lines = "\n".join(f"Who is number {n}?" for n in range(400))
        job = bench.client.submit(lines, "Label the first 400 lines.")
        wait_until(lambda: endpoint.served.in_flight >= 20, timeout_s=60)
        limits = bench.client.store.limits
        (scope,) = limits.scopes()

        limits.set_ceilings(scope.url, scope.model, {"in_flight": 2})
        wait_until(lambda: endpoint.served.in_flight <= 2)
        before = endpoint.served.requests
        in_flight: list[int] = []

        def many_more_were_made() -> bool:
            served = endpoint.served
            in_flight.append(served.in_flight)
            return served.requests >= before + 12

        wait_until(many_more_were_made)
        assert max(in_flight) == 2

        limits.set_ceilings(scope.url, scope.model, {"in_flight": 12})
        wait_until(lambda: endpoint.served.in_flight > 8)
        limits.set_ceilings(scope.url, scope.model, {"in_flight": None})
        assert job.result(150).answer_json == {"human being": 400}
        log = "".join(worker.text() for worker in bench.workers)
        assert log.count("ceilings_changed") == 3
