"""A cluster to be measured: an embedded server, the simulated endpoint, and worker processes, all real."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis

from rlm_dist.bench.machine import cpu_s
from rlm_dist.client.client import Client
from rlm_dist.client.handles import Job
from rlm_dist.local.child_python import import_variables, module_command
from rlm_dist.local.cluster import workers
from rlm_dist.local.redis.server import server
from rlm_dist.schema import JobState, Result, Role
from rlm_dist.settings import Settings
from rlm_dist.simulated.server import ROOT_MODEL, SUB_MODEL

_WAIT_S = 1800.0


class Used(NamedTuple):
    """CPU seconds of the parts of a cluster."""

    root_s: float
    sub_s: float
    redis_s: float
    endpoint_s: float

    def since(self, before: "Used") -> "Used":
        """The usage since ``before``."""
        return Used(*(now - then for now, then in zip(self, before, strict=True)))

    @property
    def ours_s(self) -> float:
        """The usage of everything but the endpoint."""
        return self.root_s + self.sub_s + self.redis_s


class ServedEndpoint(NamedTuple):
    """The simulated endpoint as a process."""

    url: str
    pid: int
    latency_s: float


class Rig:
    """A running cluster with its client."""

    def __init__(self, client: Client, served: ServedEndpoint, pids: dict[str, int]) -> None:
        self.client = client
        self.endpoint = served
        assert client.settings.redis_url is not None
        self.redis = redis.Redis.from_url(client.settings.redis_url, decode_responses=True)
        self._pids = pids

    def pids(self, role: Role) -> list[int]:
        """The worker processes of a role."""
        return [pid for name, pid in self._pids.items() if name.startswith(role)]

    def used(self) -> Used:
        """The usage since the start."""
        info: Any = self.redis.info("cpu")
        return Used(
            root_s=cpu_s(self.pids(Role.ROOT)),
            sub_s=cpu_s(self.pids(Role.SUB)),
            redis_s=info["used_cpu_sys"] + info["used_cpu_user"],
            endpoint_s=cpu_s([self.endpoint.pid]),
        )

    def run(self, context: object, query: str) -> Result:
        """Run one job to its success."""
        return finished(self.client.submit(context, query))

    def close(self) -> None:
        """Close the connection made here."""
        self.redis.close()


def finished(job: Job) -> Result:
    """Wait for the job's success; anything else ends the benchmark."""
    result = job.result(_WAIT_S)
    if result.state is not JobState.SUCCEEDED:
        raise RuntimeError(f"a job of the benchmark ended as {result.state}: {result.error}")
    return result


def measured(module: str, *arguments: object) -> Any:
    """Run a module of this package in a separate process, and return the JSON that it prints."""
    done = subprocess.run(command(module, arguments), env=environment(), check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def settings_of(
    home: Path, api_url: str, redis_url: str, *, root_slots: int, slots: int, metrics_port: int | None = None
) -> Settings:
    """The settings of a cluster that is measured: one simulated endpoint, all in its own folder."""
    return Settings(
        api_url=api_url,
        sub_api_url=api_url,
        endpoints=Path(os.devnull),
        model=ROOT_MODEL,
        sub_model=SUB_MODEL,
        home=home,
        redis_url=redis_url,
        blob_url=str(home / "blobs"),
        root_concurrency=root_slots,
        sub_concurrency=slots,
        log_level="error",
        metrics_port=metrics_port,
    )


@contextmanager
def endpoint(latency_s: float) -> Iterator[ServedEndpoint]:
    """Serve while the context is open; every answer takes ``latency_s``."""
    with subprocess.Popen(
        command("endpoint", [latency_s]), env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        said = json.loads(process.stdout.readline())
        try:
            yield ServedEndpoint(said["url"], said["pid"], latency_s)
        finally:
            process.stdin.close()


@contextmanager
def rig(
    home: Path,
    served: ServedEndpoint,
    *,
    roots: int = 1,
    root_slots: int = 1,
    subs: int = 1,
    slots: int = 256,
    metrics_port: int | None = None,
    max_depth: int = 1,
) -> Iterator[Rig]:
    """A cluster that runs while the context is open; ``home`` is its own folder.

    It has ``roots`` root workers for each depth below ``max_depth``.
    """
    with ExitStack() as held:
        redis_url = held.enter_context(server(home))
        settings = settings_of(
            home, served.url, redis_url, root_slots=root_slots, slots=slots, metrics_port=metrics_port
        ).model_copy(update={"max_depth": max_depth})
        cluster = held.enter_context(workers(settings, roots=roots, subs=subs))
        client = held.enter_context(Client(settings))
        made = Rig(client, served, cluster.pids())
        held.callback(made.close)
        yield made


def command(module: str, arguments: Sequence[object]) -> list[str]:
    """The command line of a module of this package."""
    return module_command(f"rlm_dist.bench.{module}", *map(str, arguments))


def environment() -> dict[str, str]:
    """The environment of such a process."""
    return {**os.environ, **import_variables()}
