"""The Python API with nothing configured: it starts its own server and workers, and stops them at the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.blobs.store import open_blobs
from rlm_dist.client.client import Client
from rlm_dist.contexts.encoding import encode, store_context
from rlm_dist.local.cluster import own_queue
from rlm_dist.local.home import with_redis
from rlm_dist.local.redis.paths import ServerPaths, answers
from rlm_dist.rlm_repl import RLM_REPL
from rlm_dist.schema import JobSpec, JobState
from rlm_dist.settings import Settings
from rlm_dist.simulated import SimulatedEndpoint
from rlm_dist.store import Store, connect

pytestmark = pytest.mark.acceptance


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings, also in the environment, that name an endpoint but no Redis."""
    with SimulatedEndpoint() as endpoint:
        monkeypatch.delenv("RLM_REDIS_URL", raising=False)
        monkeypatch.setenv("RLM_API_URL", endpoint.url)
        monkeypatch.setenv("RLM_HOME", str(tmp_path))
        monkeypatch.setenv("RLM_ROOT_CONCURRENCY", "1")
        yield Settings()


def test_a_job_is_run_and_found_again_and_nothing_stays(settings: Settings) -> None:
    lines = [f"line {number}" for number in range(40)]
    with Client(settings) as client:
        job = client.submit(lines, "How many?")
        result = job.result(timeout=120)
        record = ServerPaths(settings.home).read()
        assert record is not None
    assert result.state == JobState.SUCCEEDED
    assert result.costs.root_llm_calls > 0
    assert not answers(record)
    with Client(settings) as client:
        assert client.job(job.id).result(timeout=0) == result


def test_a_job_that_was_left_in_the_queue_is_run_by_the_next_client(settings: Settings) -> None:
    """A client that dies between storing a job and sending it leaves no message; the next to wait runs it."""
    with with_redis(settings) as resolved:
        own = own_queue(resolved)
        ref = store_context(encode("text"), open_blobs(own.blob_url, home=own.home, client=None))
        spec = JobSpec(
            id="left", custom_id="left", query="How many?", context=ref, broker_prefix=own.broker_prefix
        )
        with connect(str(own.redis_url), client_name="test") as connection:
            Store(connection, retention_s=own.retention_s).jobs.create([spec])
    # Only the job keeps a reference to the client.
    assert Client(settings).job("left").result(timeout=120).state == JobState.SUCCEEDED


def test_the_seeds_class_needs_nothing_else(settings: Settings) -> None:
    with RLM_REPL(max_iterations=5) as rlm:
        assert rlm.completion("text", "How many?")
        assert rlm.cost_summary()["root_llm_calls"]
