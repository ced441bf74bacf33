"""What a command works with: settings that name a Redis server, and worker processes where it needs them.

Where ``RLM_REDIS_URL`` is unset, the embedded server of ``RLM_HOME`` is used, and started if need be. A
cluster that ``rlm-dist up`` keeps for the same ``RLM_HOME`` holds ``<home>/up.lock``, which the kernel frees
when it dies; what it tells of itself stands in that file.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from rlm_dist.blobs import open_blobs
from rlm_dist.celery_app import make_app, worker_argv
from rlm_dist.cli.output import Output
from rlm_dist.embedded import Cluster, server
from rlm_dist.errors import InputError
from rlm_dist.flock import is_free, locked
from rlm_dist.models import PromptFamily, Role, Wire
from rlm_dist.settings import Settings
from rlm_dist.store import Store, connect
from rlm_dist.texts import Texts

_READY_S = 120.0
_PING_S = 1.0


@contextmanager
def with_redis(settings: Settings) -> Iterator[Settings]:
    """Yield the settings with addresses of Redis and of the blob store, over a server that runs meanwhile.

    Raises:
        Unreachable: where the embedded server cannot be started.
    """
    if settings.redis_url is not None:
        yield settings.model_copy(update={"blob_url": settings.blob_url or "redis"})
        return
    with server(settings.home) as url:
        blob_url = settings.blob_url or str(settings.home / "blobs")
        yield settings.model_copy(update={"redis_url": url, "blob_url": blob_url})


@contextmanager
def workers(
    settings: Settings, *, roots: int, subs: int, others: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Cluster]:
    """Run worker processes, and other commands beside them, while the context is open.

    Raises:
        Unreachable: where one of them does not come up; the text has its last words.
    """
    # Two of these may share one Redis: the names of their workers must differ.
    names = [
        (role, f"{role}{n + 1}")
        for role, count in ((Role.ROOT, roots), (Role.SUB, subs))
        for n in range(count)
    ]
    commands: dict[str, Sequence[str]] = {
        name: worker_argv(role, settings, name=f"{name}-{os.getpid()}") for role, name in names
    }
    cluster = Cluster(
        {**commands, **(others or {})},
        environment=settings.variables(),
        log_dir=settings.home / "logs",
    )
    control = make_app(settings).control
    expected = {f"{name}-{os.getpid()}" for _, name in names}

    def ready() -> bool:
        answered = {node.partition("@")[0] for reply in control.ping(timeout=_PING_S) for node in reply}
        return expected <= answered

    with cluster:
        cluster.wait_ready(ready, _READY_S)
        yield cluster


class Presence(Wire):
    """What ``rlm-dist up`` tells of its cluster: the prompts that suit the model of its workers."""

    prompts: PromptFamily


def presence(home: Path) -> Presence | None:
    """What is told of the cluster that is up for this home; None where there is none."""
    lock = home / "up.lock"
    if not lock.exists() or is_free(lock):
        return None
    try:
        return Presence.model_validate_json(lock.read_text())
    except ValidationError:  # it is coming up right now
        return None


@contextmanager
def hold_up(home: Path, told: Presence) -> Iterator[None]:
    """Be the one cluster of this home while the context is open.

    Raises:
        InputError: where there is one already.
    """
    home.mkdir(parents=True, exist_ok=True)
    try:
        with locked(home / "up.lock", timeout_s=0) as descriptor:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, told.model_dump_json().encode())
            yield
    except TimeoutError:
        raise InputError((f"RLM_HOME: a cluster is up for {home} already",)) from None


@contextmanager
def enough_workers(settings: Settings, *, own: bool, out: Output) -> Iterator[None]:
    """See that jobs are run: start workers where the server is the embedded one and no cluster is up."""
    if not own or presence(settings.home) is not None:
        yield
        return
    out.note("starting a root and a sub worker")
    with workers(settings, roots=1, subs=1):
        yield


@contextmanager
def open_stores(settings: Settings) -> Iterator[tuple[Store, Texts]]:
    """The store and the long texts of its jobs.

    Raises:
        Unreachable: where Redis does not answer.
    """
    with with_redis(settings) as resolved:
        assert resolved.redis_url is not None
        client = connect(resolved.redis_url, client_name="rlm-cli")
        try:
            store = Store(client, retention_s=settings.retention_s)
            blobs = open_blobs(resolved.blob_url, home=resolved.home, client=client)
            yield store, Texts(store=store, blobs=blobs)
        finally:
            client.close()
