"""Redis and worker processes on this machine, if none are configured.

If ``RLM_REDIS_URL`` is unset, the embedded server of ``RLM_HOME`` is used, and started if it does not run. A
cluster that ``rlm-dist up`` keeps for the same ``RLM_HOME`` holds ``<home>/up.lock``, which the kernel frees
when the cluster dies.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlm_dist.broker.app import make_app, worker_argv
from rlm_dist.errors import InputError
from rlm_dist.local.file_lock import is_free, locked
from rlm_dist.local.folders import own_folder
from rlm_dist.local.processes import Cluster
from rlm_dist.local.redis.server import server
from rlm_dist.schema import Role
from rlm_dist.settings import Settings

_READY_S = 120.0
_PING_S = 1.0


@contextmanager
def with_redis(settings: Settings) -> Iterator[Settings]:
    """Yield the settings with the addresses of Redis and the blob store; the server runs while this is open.

    Raises:
        Unreachable: if the embedded server cannot be started.
    """
    if settings.redis_url is not None:
        yield settings.model_copy(update={"blob_url": settings.blob_url or "redis"})
        return
    with server(settings.home) as url:
        blob_url = settings.blob_url or str(own_folder(settings.home / "blobs"))
        yield settings.model_copy(update={"redis_url": url, "blob_url": blob_url})


def own_queue(settings: Settings) -> Settings:
    """The settings with queues that only workers with equal settings share.

    Two programs that use one embedded server each bring workers with their own endpoint and key. A job must
    not reach a worker that calls another endpoint.
    """
    # The server's port changes at each start, but jobs that an earlier program left behind are still ours.
    stable_settings = settings.model_copy(update={"redis_url": None})
    lines = "\n".join(f"{name}={value}" for name, value in sorted(stable_settings.variables().items()))
    digest = hashlib.sha256(lines.encode(errors="surrogatepass")).hexdigest()[:16]
    return settings.model_copy(update={"broker_prefix": f"rlm.{digest}."})


@contextmanager
def workers(
    settings: Settings,
    *,
    roots: int,
    subs: int,
    others: Mapping[str, Sequence[str]] | None = None,
    depths: Sequence[int] | None = None,
) -> Iterator[Cluster]:
    """Run worker processes, and other commands beside them, while the context is open.

    There are ``roots`` root workers for each of ``depths``; the default is all that the installation serves.

    Raises:
        Unreachable: if one of them does not come up; the error has the end of its log.
    """
    # Two such clusters may share one Redis, so the names of their workers must differ.
    names = {
        **{f"{Role.SUB}{number + 1}": Role.SUB for number in range(subs)},
        **dict.fromkeys(own := _roots(settings, roots, depths), Role.ROOT),
    }
    commands: dict[str, Sequence[str]] = {
        name: worker_argv(role, settings, name=f"{name}-{os.getpid()}") for name, role in names.items()
    }
    commands |= others or {}
    cluster = Cluster(commands, environment=settings.variables(), folder=settings.home, own=own)
    expected = {f"{name}-{os.getpid()}" for name in names}
    with make_app(settings) as app:

        def ready() -> bool:
            replies = app.control.ping(timeout=_PING_S) or []
            return expected <= {node.partition("@")[0] for reply in replies for node in reply}

        with cluster:
            cluster.wait_ready(ready, _READY_S)
            yield cluster


def _roots(settings: Settings, count: int, depths: Sequence[int] | None) -> dict[str, dict[str, str]]:
    """The names of root workers, ``count`` for each depth, and the variable that each has of its own."""
    return {
        f"{Role.ROOT}{number + 1}" + (f"-depth{depth}" if depth else ""): {"RLM_ROOT_DEPTH": str(depth)}
        for depth in (range(settings.max_depth) if depths is None else depths)
        for number in range(count)
    }


def no_worker(depths: Sequence[int], why: str) -> str:
    """What to say if no root worker listens for jobs of these depths, which are needed for ``why``."""
    shown = ", ".join(map(str, depths))
    commands = ", ".join(f"rlm-dist worker root --depth {depth}" for depth in depths)
    return (
        f"{why} needs root workers for child jobs, and none is running for depth {shown}: start "
        f"{commands}; or set RLM_MAX_DEPTH={max(depths) + 1} for rlm-dist up"
    )


def is_up(home: Path) -> bool:
    """Whether ``rlm-dist up`` keeps a cluster for this home."""
    lock = home / "up.lock"
    return lock.exists() and not is_free(lock)


@contextmanager
def hold_up(home: Path) -> Iterator[None]:
    """Be the only cluster of this home while the context is open.

    Raises:
        InputError: if the home has a cluster already.
    """
    own_folder(home)
    try:
        with locked(home / "up.lock", timeout_s=0):
            yield
    except TimeoutError:
        raise InputError((f"RLM_HOME: a cluster is already up for {home}",)) from None
