"""The port of a worker's metrics: in use, not asked for, and after the death of the worker that had it."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from rlm_dist.broker.app import make_app
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


def test_a_job_that_a_killed_worker_had_is_a_recovery_and_its_folder_goes_with_the_next(
    make_bench: MakeBench,
) -> None:
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
        second = bench.start(Role.ROOT, concurrency=1, RLM_METRICS_PORT=url.rpartition(":")[2]).wait_ready()
        wait_until(lambda: scrape(url).value("rlm_jobs_started_total") is not None)
        assert scrape(url).total("rlm_turns_total") == 0  # nothing of the worker that was killed
        endpoint.release()
        assert bench.client.job(job_id).result(WAIT_S).state is JobState.SUCCEEDED
        wait_until(lambda: scrape(url).total("rlm_jobs_ended_total", state="succeeded") == 1)
        assert scrape(url).value("rlm_job_recoveries_total") == 1
        second.terminate()
        assert list((Path(bench.env["RLM_HOME"]) / "metrics").iterdir()) == []


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


def test_the_process_that_follows_a_killed_one_in_its_slot_counts_on(make_bench: MakeBench) -> None:
    with SimulatedEndpoint() as endpoint:
        bench = make_bench(endpoint)
        root = bench.start(Role.ROOT, concurrency=1, **ON)
        bench.start(Role.SUB, concurrency=4)
        bench.wait_ready()
        url = metrics_url(root)
        for number, name in enumerate(("before", "after"), 1):
            job_id = submit(bench.client, name, LINES, QUERY)
            assert bench.client.job(job_id).result(WAIT_S).state is JobState.SUCCEEDED
            wait_until(lambda number=number: scrape(url).total("rlm_jobs_ended_total") == number)  # type: ignore[misc]
            with make_app(bench.settings) as app:
                stats: dict[str, Any] = app.control.inspect(timeout=5).stats() or {}
            (pid,) = next(found["pool"]["processes"] for name, found in stats.items() if "root" in name)
            os.kill(pid, signal.SIGKILL)
