"""A sub worker with thousands of calls in flight and in line is stopped, or killed."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rlm_dist.schema import Result, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import Bench, open_bench
from tests.support.redis_servers import RedisServer
from tests.support.waiting import wait_until
from tests.support.worker_processes import WorkerProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.long, pytest.mark.timeout(600)]

SLOTS, CALLS = 2000, 3500
CLAIMED = SLOTS + SLOTS // 8  # a worker claims some calls ahead
WAIT_S = 400.0
STOP_S = 60


class Wide(NamedTuple):
    """A worker with a request in flight for each slot, and the other calls of its job in line."""

    bench: Bench
    endpoint: SimulatedEndpoint
    worker: WorkerProcess
    job_id: str

    def result(self) -> Result:
        """Wait for the job's end, by another worker; the answers must be right."""
        result = self.bench.client.job(self.job_id).result(WAIT_S)
        assert result.answer_json == {"human being": CALLS}
        assert result.costs.sub_llm_calls == CALLS
        return result

    def paid(self) -> int:
        """The sub-calls that the endpoint has answered."""
        return self.endpoint.served.by_role[Role.SUB]


@pytest.fixture
def wide(chaos_redis: RedisServer, tmp_path: Path) -> Iterator[Wide]:
    with SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = open_bench(chaos_redis, endpoint.url, tmp_path)
        try:
            bench.start(Role.ROOT, concurrency=1)
            worker = bench.start(Role.SUB, concurrency=SLOTS)
            bench.wait_ready()
            wait_until(lambda: bench.client.store.workers.fair_window().calls == 2 * SLOTS)
            job = bench.client.submit("Who is it?\n" * CALLS, f"Label the first {CALLS} lines.")
            wait_until(lambda: endpoint.served.in_flight == SLOTS, timeout_s=120)
            yield Wide(bench, endpoint, worker, job.id)
        finally:
            endpoint.release()
            bench.close()


def test_a_worker_that_is_stopped_loses_nothing(wide: Wide) -> None:
    """What is in flight is answered and kept, what waits goes to another worker; none is paid twice."""
    wide.worker.process.send_signal(signal.SIGTERM)
    other = wide.bench.start(Role.SUB, concurrency=SLOTS).wait_ready()
    wide.endpoint.release()
    assert wide.worker.process.wait(STOP_S) == 0
    result = wide.result()
    assert wide.paid() == CALLS
    assert result.costs.duplicate_paid_calls == 0
    assert other.process.poll() is None


def test_the_calls_of_a_killed_worker_are_made_by_another(wide: Wide) -> None:
    """The endpoint saw those in flight twice; the ledger has each call once."""
    wide.worker.kill()
    wide.bench.start(Role.SUB, concurrency=SLOTS).wait_ready()
    wide.endpoint.release()
    result = wide.result()
    assert CALLS <= wide.paid() <= CALLS + SLOTS
    assert wide.paid() - CALLS <= result.costs.duplicate_paid_calls <= CLAIMED
