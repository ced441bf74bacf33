"""A root worker runs many jobs in one process: what it takes, and how it stops."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from rlm_dist.broker.app import ROOT_QUEUE
from rlm_dist.schema import JobState, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.store.jobs import ALONE_AFTER, MAX_RECOVERIES
from tests.support.bench import WAIT_S, MakeBench, job_id_of, submit
from tests.support.deaths import Deaths
from tests.support.waiting import wait_until
from tests.support.worker_processes import WorkerProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

LINES = "Who is number 1?\nWhere is number 2?"
QUERY = "Label the first 2 lines."
ANSWER = {"human being": 1, "location": 1}


def test_it_holds_no_more_messages_than_jobs_and_parks_all_at_once(make_bench: MakeBench) -> None:
    with SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        client = redis.Redis.from_url(str(bench.settings.redis_url))
        worker = bench.start(Role.ROOT, concurrency=8)
        bench.start(Role.SUB, concurrency=64)
        bench.wait_ready()
        jobs = [bench.client.submit(f"{LINES}\n{n}", QUERY) for n in range(12)]
        wait_until(lambda: endpoint.served.in_flight == 2 * 8)
        assert client.llen(ROOT_QUEUE) == 4
        assert client.zcard("rlm.unacked_index.root") == 0

        endpoint.release()  # what ends makes room at once
        endpoint.hold()
        wait_until(lambda: client.llen(ROOT_QUEUE) == 0)

        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(60) == 0
        assert bench.client.store.jobs.running() == []
        bench.start(Role.ROOT, concurrency=8).wait_ready()
        endpoint.release()
        for job in jobs:
            result = job.result(WAIT_S)
            assert (result.answer_json, result.costs.duplicate_paid_calls) == (ANSWER, 0)


def ends_cold(worker: WorkerProcess) -> None:
    worker.process.send_signal(signal.SIGTERM)
    worker.process.send_signal(signal.SIGQUIT)
    worker.process.wait(60)


@pytest.mark.parametrize("end", [ends_cold, WorkerProcess.kill])
def test_a_worker_that_ends_at_once_leaves_its_jobs_to_the_next(
    make_bench: MakeBench, end: Callable[[WorkerProcess], None]
) -> None:
    with SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        worker = bench.start(Role.ROOT, concurrency=4)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        jobs = [bench.client.submit(f"{LINES}\n{n}", QUERY) for n in range(4)]
        wait_until(lambda: endpoint.served.in_flight == 2 * 4)
        end(worker)
        bench.start(Role.ROOT, concurrency=4).wait_ready()
        endpoint.release()
        for job in jobs:
            result = job.result(WAIT_S)
            assert (result.answer_json, result.costs.duplicate_paid_calls) == (ANSWER, 0)
            assert result.costs.sub_llm_calls == 2


def test_a_job_that_kills_its_process_takes_the_others_along_twice_and_no_more(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    """It ends as poison, in a process of its own; the jobs beside it end with their answers."""
    deaths = Deaths(tmp_path / "deaths")
    with SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        worker = bench.start(Role.ROOT, concurrency=4, kept_alive=True, **deaths.environment)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        honest = [bench.client.submit(f"{LINES}\n{n}", QUERY) for n in range(3)]
        wait_until(lambda: endpoint.served.in_flight == 2 * 3)
        deaths.plan(job_id_of("poison"), *["root.started"] * (MAX_RECOVERIES + 1))
        result = bench.client.job(submit(bench.client, "poison", LINES, QUERY)).result(WAIT_S)
        assert result.error is not None
        assert (result.state, result.error.type) == (JobState.FAILED, "poison")
        assert worker.text().count(" ready.") == 1 + ALONE_AFTER
        endpoint.release()
        for job in honest:
            answered = job.result(WAIT_S)
            assert (answered.answer_json, answered.costs.duplicate_paid_calls) == (ANSWER, 0)
            assert worker.text().count(" ready.") == 1 + ALONE_AFTER
