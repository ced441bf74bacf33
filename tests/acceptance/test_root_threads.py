"""A root worker runs many jobs in one process: what it takes, and how it stops."""

import signal

import pytest
import redis

from rlm_dist.broker.app import ROOT_QUEUE
from rlm_dist.schema import Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import WAIT_S, MakeBench
from tests.support.waiting import wait_until

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

        bench.client.store.jobs.cancel(jobs.pop(0).id)
        wait_until(lambda: client.llen(ROOT_QUEUE) == 3)  # what has ended makes room
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(60) == 0
        assert bench.client.store.jobs.running() == []
        bench.start(Role.ROOT, concurrency=8).wait_ready()
        endpoint.release()
        for job in jobs:
            result = job.result(WAIT_S)
            assert (result.error, result.answer_json) == (None, ANSWER)
            assert result.costs.duplicate_paid_calls == 0


def test_at_a_cold_shutdown_it_parks_its_jobs_too(make_bench: MakeBench) -> None:
    with SimulatedEndpoint(faults=[Fault(kind="hold", role=Role.SUB)]) as endpoint:
        bench = make_bench(endpoint)
        worker = bench.start(Role.ROOT, concurrency=4)
        bench.start(Role.SUB, concurrency=8)
        bench.wait_ready()
        jobs = [bench.client.submit(f"{LINES}\n{n}", QUERY) for n in range(4)]
        wait_until(lambda: endpoint.served.in_flight == 2 * 4)
        worker.process.send_signal(signal.SIGTERM)
        worker.process.send_signal(signal.SIGQUIT)
        worker.process.wait(60)
        assert bench.client.store.jobs.running() == []
        bench.start(Role.ROOT, concurrency=4).wait_ready()
        endpoint.release()
        for job in jobs:
            result = job.result(WAIT_S)
            assert (result.error, result.answer_json) == (None, ANSWER)
            assert result.costs.duplicate_paid_calls == 0
            assert result.costs.sub_llm_calls == 2
