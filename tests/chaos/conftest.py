"""A cluster for a whole module of chaos: workers that die at points which a test writes into files."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from rlm_dist.client.client import Client
from rlm_dist.worker import failpoints
from tests.acceptance.conftest import Bench
from tests.redis_servers import RedisServer, flavours, free_port, running

WAIT_S = 150.0


class Deaths:
    """Where jobs are to meet their worker's death: one file a job, one line a death."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.environment = {failpoints.VARIABLE: f"@{folder}"}

    def plan(self, job_id: str, *points: str) -> None:
        """Have the process that comes to these points with this job die there, one after another."""
        new = self.folder / "new"
        new.write_text("\n".join(points))
        new.rename(self.folder / job_id)

    def outstanding(self, job_id: str) -> bool:
        """Whether a death that was planned has not come."""
        return (self.folder / job_id).exists()


class AofServer:
    """A server that writes each change to its disk before it answers, and can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._stack = ExitStack()
        self.server = self.start()

    def start(self) -> RedisServer:
        """Start it, with what is on its disk."""
        options = ("--appendonly", "yes", "--appendfsync", "always")
        opened = running(flavours()["valkey"], self._folder, *options, port=self._port)
        return self._stack.enter_context(opened)

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        self._stack.close()

    def client(self) -> redis.Redis:
        """A new client of it."""
        return redis.Redis.from_url(self.server.url, decode_responses=True)


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Deaths:
    """No deaths yet."""
    return Deaths(tmp_path_factory.mktemp("chaos") / "deaths")


@pytest.fixture(scope="module")
def chaos_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of the module's own."""
    with running(flavours()["valkey"], tmp_path_factory.mktemp("chaos-redis")) as server:
        yield server


def open_bench(server: RedisServer, api_url: str, folder: Path) -> Bench:
    """A bench on an empty server."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    folder.mkdir(parents=True, exist_ok=True)
    return Bench(redis_url=server.url, api_url=api_url, folder=folder)


def submit(client: Client, name: str, context: str, query: str, **options: object) -> str:
    """Submit one job as a batch of that name; returns its id."""
    batch = client.submit_batch([{"id": name, "query": query, "context": context, **options}], name)
    (job,) = batch.jobs()
    return job.id


def job_id_of(name: str) -> str:
    """The id that the job will have: it follows from the names of its batch and itself."""
    return f"j{hashlib.sha256(json.dumps([name, name]).encode()).hexdigest()[:20]}"
