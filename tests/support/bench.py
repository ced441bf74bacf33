"""A cluster for a test: a Redis server, an endpoint's address, worker processes by role, and a client."""

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import redis

from rlm_dist.client.client import Client
from rlm_dist.schema import Role
from rlm_dist.settings import Settings
from rlm_dist.simulated import SimulatedEndpoint
from rlm_dist.store import Store, connect
from tests.support.key_leaks import end_all_jobs, leaked_keys
from tests.support.redis_servers import RedisServer
from tests.support.worker_processes import WorkerProcess

WAIT_S = 150.0


class Bench:
    """The cluster of an acceptance test: workers by role, and a client."""

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
        self._kept: list[WorkerProcess] = []
        self._closing = threading.Event()
        self._keeper: threading.Thread | None = None

    def start(
        self,
        role: Role,
        *,
        concurrency: int,
        options: Sequence[str] = (),
        **env: str,
    ) -> WorkerProcess:
        """Start a worker; ``wait_ready`` waits for all of them together, ``options`` are Celery's."""
        log = self.folder / f"{role}{len(self._workers)}.log"
        worker = WorkerProcess(
            role, env={**self.env, **env}, log=log, concurrency=concurrency, options=options
        )
        self._workers.append(worker)
        return worker

    def keep_alive(self, worker: WorkerProcess) -> WorkerProcess:
        """Start this worker again whenever it was killed, as whoever runs workers does."""
        self._kept.append(worker)
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, daemon=True)
            self._keeper.start()
        return worker

    def _keep(self) -> None:
        while not self._closing.wait(0.1):
            for worker in tuple(self._kept):
                worker.start_again()

    def wait_ready(self) -> None:
        """Wait for every worker started so far."""
        for worker in self._workers:
            worker.wait_ready()

    @property
    def workers(self) -> Sequence[WorkerProcess]:
        """Every worker started so far."""
        return self._workers

    def close(self) -> None:
        """Stop all workers and end all jobs; after that every key must have a TTL."""
        self._closing.set()
        if self._keeper is not None:
            self._keeper.join()
        for worker in self._workers:
            worker.__exit__(None, None, None)
        self.client.close()
        with connect(str(self.settings.redis_url), client_name="test") as client:
            end_all_jobs(Store(client, retention_s=self.settings.retention_s))
            assert leaked_keys(client) == []


MakeBench = Callable[[SimulatedEndpoint], Bench]


def open_bench(server: RedisServer, api_url: str, folder: Path) -> Bench:
    """Open a bench on an emptied server."""
    with redis.Redis.from_url(server.admin_url) as client:
        client.flushall()
    folder.mkdir(parents=True, exist_ok=True)
    return Bench(redis_url=server.url, api_url=api_url, folder=folder)


def submit(client: Client, name: str, context: str, query: str, **options: object) -> str:
    """Submit one job as a batch named ``name``; returns the job's id."""
    batch = client.submit_batch([{"id": name, "query": query, "context": context, **options}], name)
    (job,) = batch.jobs()
    return job.id


def job_id_of(name: str) -> str:
    """The id of such a job, which follows from the names of its batch and itself."""
    return f"j{hashlib.sha256(json.dumps([name, name]).encode()).hexdigest()[:20]}"
