"""The port of a worker's metrics: in use, not asked for, and after the death of the worker that had it."""

import socket

import pytest

from rlm_dist.schema import JobState, Role
from rlm_dist.simulated import Fault, SimulatedEndpoint
from tests.support.bench import WAIT_S, MakeBench, submit
from tests.support.scrapes import scrape
from tests.support.waiting import wait_until
from tests.support.worker_processes import metrics_url

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

LINES = "\n".join(f"Who is number {n}?" for n in range(4))
QUERY = "Label the first 4 lines."
ON = {"RLM_METRICS_PORT": "0"}


def test_a_port_in_use_is_said_and_the_worker_works(make_bench: MakeBench) -> None:
    with SimulatedEndpoint() as endpoint, socket.create_server(("127.0.0.1", 0)) as taken:
        bench = make_bench(endpoint)
        port = str(taken.getsockname()[1])
        workers = [bench.start(role, concurrency=1, RLM_METRICS_PORT=port) for role in Role]
        bench.wait_ready()
        job_id = submit(bench.client, "j", LINES, QUERY)
        assert bench.client.job(job_id).result(WAIT_S).state is JobState.SUCCEEDED
        for worker in workers:
            (line,) = [line for line in worker.text().splitlines() if "event=metrics_not_served" in line]
            assert f"port={port}" in line
            assert "in use" in line
            assert "metrics_served" not in worker.text()


def test_a_job_that_a_killed_worker_had_is_a_recovery(make_bench: MakeBench) -> None:
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        endpoint.faults = (Fault(kind="hold", role=Role.ROOT),)
        first = bench.start(Role.ROOT, concurrency=1, **ON)
        bench.start(Role.SUB, concurrency=1)
        bench.wait_ready()
        job_id = submit(bench.client, "j", LINES, QUERY)
        wait_until(lambda: endpoint.served.in_flight == 1)
        url = metrics_url(first)
        wait_until(lambda: scrape(url).value("rlm_jobs_started_total") == 1)
        assert scrape(url).value("rlm_job_recoveries_total") == 0
        first.kill()
        bench.start(Role.ROOT, concurrency=1, RLM_METRICS_PORT=url.rpartition(":")[2]).wait_ready()
        wait_until(lambda: scrape(url).value("rlm_jobs_started_total") is not None)
        assert scrape(url).total("rlm_turns_total") == 0  # nothing of the worker that was killed
        endpoint.release()
        assert bench.client.job(job_id).result(WAIT_S).state is JobState.SUCCEEDED
        wait_until(lambda: scrape(url).total("rlm_jobs_ended_total", state="succeeded") == 1)
        assert scrape(url).value("rlm_job_recoveries_total") == 1


def test_calls_that_died_with_a_sub_worker_are_counted_as_paid_twice(make_bench: MakeBench) -> None:
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        endpoint.faults = (Fault(kind="hold", role=Role.SUB),)
        root = bench.start(Role.ROOT, concurrency=1, **ON)
        first = bench.start(Role.SUB, concurrency=4)
        bench.wait_ready()
        job_id = submit(bench.client, "j", LINES, QUERY)
        wait_until(lambda: endpoint.served.in_flight == 4)
        first.kill()
        bench.start(Role.SUB, concurrency=4).wait_ready()
        endpoint.release()
        result = bench.client.job(job_id).result(WAIT_S)
        assert result.costs.duplicate_paid_calls == 4
        url = metrics_url(root)
        wait_until(lambda: scrape(url).total("rlm_jobs_ended_total") == 1)
        assert scrape(url).value("rlm_duplicate_paid_calls_total") == 4
