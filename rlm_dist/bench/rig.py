"""A cluster to be measured: an embedded server, the simulated endpoint, and worker processes, all real."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis

from rlm_dist.bench.machine import cpu_s
from rlm_dist.child_python import import_variables, module_command
from rlm_dist.client import Client
from rlm_dist.embedded import server
from rlm_dist.handles import Job
from rlm_dist.local_cluster import workers
from rlm_dist.models import JobState, Role
from rlm_dist.settings import Settings
from rlm_dist.texts import Texts
from rlm_dist.trace import Traced, read_trace

WAIT_S = 600.0


class Used(NamedTuple):
    """CPU seconds of the parts of a cluster, and the commands that its server ran."""

    root_s: float
    sub_s: float
    redis_s: float
    endpoint_s: float
    commands: int

    def since(self, before: "Used") -> "Used":
        """What was used from ``before`` to now."""
        return Used(*(now - then for now, then in zip(self, before, strict=True)))  # type: ignore[arg-type]

    @property
    def ours_s(self) -> float:
        """All but the endpoint."""
        return self.root_s + self.sub_s + self.redis_s


class Rig:
    """A running cluster with its client."""

    def __init__(self, client: Client, endpoint: "Endpoint", pids: dict[str, int]) -> None:
        self.client = client
        self.endpoint = endpoint
        self.pids = pids
        assert client.settings.redis_url is not None
        self._redis = redis.Redis.from_url(client.settings.redis_url, decode_responses=True)

    def used(self) -> Used:
        """What was used since the start."""
        info: Any = self._redis.info("everything")
        stats: Any = self._redis.info("commandstats")
        return Used(
            root_s=cpu_s(pid for name, pid in self.pids.items() if name.startswith(Role.ROOT)),
            sub_s=cpu_s(pid for name, pid in self.pids.items() if name.startswith(Role.SUB)),
            redis_s=info["used_cpu_sys"] + info["used_cpu_user"],
            endpoint_s=cpu_s([self.endpoint.pid]),
            commands=sum(stat["calls"] for stat in stats.values()),
        )

    def run(self, context: object, query: str, **limits: Any) -> list[Traced]:
        """Run one job to its success; returns its trace, timed by the server's clock."""
        job = self.client.submit(context, query, **limits)
        finished(job)
        texts = Texts(store=self.client.store, blobs=self.client.blobs)
        return list(read_trace(self.client.store, job.id, texts))

    def close(self) -> None:
        """Close the connection made here."""
        self._redis.close()


class Endpoint(NamedTuple):
    """The simulated endpoint as a process."""

    url: str
    pid: int


def finished(job: Job) -> None:
    """Wait for the job's success; anything else ends the benchmark."""
    result = job.result(WAIT_S)
    if result.state is not JobState.SUCCEEDED:
        raise RuntimeError(f"a job of the benchmark ended as {result.state}: {result.error}")


@contextmanager
def endpoint(latency_s: float) -> Iterator[Endpoint]:
    """Serve while the context is open; every answer takes ``latency_s``."""
    command = module_command("rlm_dist.simulated", "--latency-s", str(latency_s), "--exit-with-stdin")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | import_variables()
    ) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        try:
            yield Endpoint(said["url"], said["pid"])
        finally:
            process.terminate()


@contextmanager
def rig(
    home: Path, served: Endpoint, *, roots: int = 1, root_slots: int = 1, subs: int = 1, slots: int = 256
) -> Iterator[Rig]:
    """A cluster that runs while the context is open; ``home`` is its own folder."""
    with ExitStack() as held:
        settings = Settings(
            api_url=served.url,
            model="simulated-root",
            sub_model="simulated-sub",
            home=home,
            redis_url=held.enter_context(server(home)),
            blob_url=str(home / "blobs"),
            root_concurrency=root_slots,
            sub_concurrency=slots,
            log_level="warning",
        )
        cluster = held.enter_context(workers(settings, roots=roots, subs=subs))
        client = held.enter_context(Client(settings))
        made = Rig(client, served, cluster.pids())
        held.callback(made.close)
        yield made
