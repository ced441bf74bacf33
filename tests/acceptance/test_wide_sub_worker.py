"""A sub worker has as many calls in flight as slots, however many that are, and a few threads."""

from pathlib import Path

import pytest

from rlm_dist.schema import Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import MakeBench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

SLOTS, CALLS = 1200, 1400


def test_every_slot_of_a_wide_worker_is_used(make_bench: MakeBench) -> None:
    """No time is measured: the endpoint holds the calls until one is in flight for each slot."""
    with SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        worker = bench.start(Role.SUB, concurrency=SLOTS)
        bench.wait_ready()
        # Until the worker's slots are known, a job has few calls under way, and here none of them ends.
        wait_until(lambda: bench.client.store.workers.fair_window().calls == 2 * SLOTS)
        job = bench.client.submit("Who is it?\n" * CALLS, f"Label the first {CALLS} lines.")
        wait_until(lambda: endpoint.served.in_flight == SLOTS)
        assert len(list(Path(f"/proc/{worker.process.pid}/task").iterdir())) < 60
        endpoint.release()
        assert job.result(120).answer_json == {"human being": CALLS}
        assert endpoint.served.max_in_flight == SLOTS
