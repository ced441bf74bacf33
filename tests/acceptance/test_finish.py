"""Hung jobs are ended through real workers."""

import pytest

from rlm_dist.schema import BatchState, JobState, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import MakeBench
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance


@pytest.mark.parametrize("role", [Role.ROOT, Role.SUB])
def test_a_hung_job_is_ended_its_worker_goes_on_and_a_retry_answers(
    make_bench: MakeBench, role: Role
) -> None:
    """The endpoint never answers: the job ends, its request is aborted, its worker is free for the retry."""
    with SimulatedEndpoint(faults=[Fault(kind="hang", role=role)]) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=2)
        bench.wait_ready()
        context = "The magic number for copper-fox is 7654321.\n"
        item = {"id": "q", "query": "What is the magic number for copper-fox?", "context": context}
        batch = bench.client.submit_batch([item])
        (job,) = batch.jobs()
        wait_until(lambda: batch.record().calls_in_flight == 1 and endpoint.served.in_flight == 1)
        assert bench.client.store.jobs.end_stalled(batch.id, 3600) == []
        assert wait_until(lambda: bench.client.store.jobs.end_stalled(batch.id, 0)) == [job.id]
        wait_until(lambda: endpoint.served.in_flight == 0)
        assert batch.status() is BatchState.COMPLETED
        wait_until(lambda: batch.record().calls_in_flight == 0)  # as its workers report it, once a second
        ended = job.result(timeout=0)
        assert (ended.state, ended.error and ended.error.type) == (JobState.FAILED, "stalled")
        endpoint.faults = ()
        assert bench.client.retry(batch.id) == 1
        assert job.result(timeout=120).answer == "7654321"
        assert batch.status() is BatchState.COMPLETED
