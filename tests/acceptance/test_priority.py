"""Jobs that wait for a root worker start in order of priority, then of submission."""

import pytest

from rlm_dist.schema import Priority, Role
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import MakeBench

pytestmark = pytest.mark.acceptance

SUBMITTED: tuple[Priority, ...] = ("low", "normal", "high", "low", "high", "normal")


def test_waiting_jobs_start_by_priority(make_bench: MakeBench) -> None:
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        question = "What is the magic number for blue-cat?"
        jobs = [
            bench.client.submit("The magic number for blue-cat is 4711.", question, priority=priority)
            for priority in SUBMITTED
        ]
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=2)
        for job in jobs:
            assert job.result(120).answer == "4711"
        records = [bench.client.store.jobs.get(job.id) for job in jobs]
        started = sorted(records, key=lambda record: record.started_ms or 0)
        assert [records.index(record) for record in started] == [2, 4, 1, 5, 0, 3]
