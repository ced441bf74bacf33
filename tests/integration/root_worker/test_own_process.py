"""A job runs in a process of its own, which ends with the job, or parks it when its worker stops."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from rlm_dist.client.client import Client
from rlm_dist.root_worker.own_process import OwnProcesses
from rlm_dist.schema import JobState
from rlm_dist.settings import Settings
from rlm_dist.worker.metrics import WorkerMetrics
from rlm_dist.worker.model_names import ModelNames


@pytest.fixture
def client(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client whose settings are those of this process's environment; no endpoint is there."""
    settings = Settings(redis_url=redis_url, api_url="http://127.0.0.1:9/v1", home=tmp_path)
    for name, value in settings.variables().items():
        monkeypatch.setenv(name, value)
    with Client(settings) as client:
        yield client


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> WorkerMetrics:
    return WorkerMetrics(registry, ModelNames())


def test_a_job_runs_to_its_end_and_its_worker_counts_it(
    client: Client, metrics: WorkerMetrics, registry: CollectorRegistry
) -> None:
    job = client.submit("c", "q", program="FINAL(6 * 7)")
    OwnProcesses(lambda: False, metrics).run(job.id, "a-task")
    record = job.record()
    assert (record.state, record.epoch) == (JobState.SUCCEEDED, 1)
    assert job.result().answer_json == 42
    assert registry.get_sample_value("rlm_jobs_started_total") == 1
    assert registry.get_sample_value("rlm_turns_total") == 1
    assert registry.get_sample_value("rlm_jobs_ended_total", {"state": "succeeded"}) == 1


def test_a_job_is_parked_when_its_worker_stops(
    client: Client, metrics: WorkerMetrics, registry: CollectorRegistry
) -> None:
    """Its code goes on until then."""
    job = client.submit("c", "q", program="import time\nwhile True: time.sleep(0.1)")

    def runs() -> bool:
        return job.record().state is JobState.RUNNING

    OwnProcesses(runs, metrics).run(job.id, "a-task")
    assert job.record().state is JobState.QUEUED
    assert registry.get_sample_value("rlm_jobs_started_total") == 1
    assert registry.get_sample_value("rlm_jobs_ended_total", {"state": "succeeded"}) == 0
