"""A whole cluster for a test: a real server, the simulated endpoint over HTTP, and worker processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from rlm_dist.client.client import Client
from rlm_dist.schema import Role
from rlm_dist.settings import Settings
from rlm_dist.simulated import SimulatedEndpoint
from rlm_dist.store import connect
from tests.acceptance.processes import WorkerProcess
from tests.key_leaks import end_all_jobs, leaked_keys
from tests.redis_servers import RedisServer


class Bench:
    """What an acceptance test starts and asks: workers by role, and a client."""

    def __init__(self, *, redis_url: str, api_url: str, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "RLM_REDIS_URL": redis_url,
            "RLM_API_URL": api_url,
            "RLM_HOME": str(folder / "home"),
        }
        self.settings = Settings(redis_url=redis_url, api_url=api_url, home=folder / "home")
        self.client = Client(self.settings)
        self._workers: list[WorkerProcess] = []

    def start(self, role: Role, *, concurrency: int, **env: str) -> WorkerProcess:
        """Start a worker; ``wait_ready`` waits for all of them together."""
        log = self.folder / f"{role}{len(self._workers)}.log"
        worker = WorkerProcess(role, env={**self.env, **env}, log=log, concurrency=concurrency)
        self._workers.append(worker)
        return worker

    def wait_ready(self) -> None:
        """Wait for every worker started so far."""
        for worker in self._workers:
            worker.wait_ready()

    def close(self) -> None:
        """End everything that was started, and every job; no key of theirs may then stay for ever."""
        for worker in self._workers:
            worker.__exit__(None, None, None)
        end_all_jobs(self.client.store)
        self.client.close()
        with connect(str(self.settings.redis_url), client_name="test") as client:
            assert leaked_keys(client) == []


MakeBench = Callable[[SimulatedEndpoint], Bench]


@pytest.fixture
def make_bench(redis_server: RedisServer, tmp_path: Path) -> Iterator[MakeBench]:
    """Benches over one server, empty at first, closed at the end of the test."""
    benches: list[Bench] = []
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()

    def make(endpoint: SimulatedEndpoint) -> Bench:
        folder = tmp_path / f"bench{len(benches)}"
        folder.mkdir()
        benches.append(Bench(redis_url=redis_server.url, api_url=endpoint.url, folder=folder))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()
