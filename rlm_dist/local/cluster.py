"""Worker processes on this machine, and the queues that they share with nobody else."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rlm_dist.broker.app import APPS, worker_options
from rlm_dist.local.child_python import module_command
from rlm_dist.local.preload import Preload
from rlm_dist.local.processes import Cluster
from rlm_dist.schema import Role
from rlm_dist.settings import Settings

_READY_S = 120.0


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
    preloaded: Preload | None = None,
) -> Iterator[Cluster]:
    """Run worker processes, and other commands beside them, while the context is open.

    There are ``roots`` root workers for each of ``depths``; the default is all that the installation serves.
    ``preloaded`` forks the workers.

    Raises:
        Unreachable: if one of them does not come up; the error has the end of its log.
    """
    # Two such clusters may share one Redis, so the names of their workers must differ.
    names = {
        **{f"{Role.SUB}{number + 1}": Role.SUB for number in range(subs)},
        **dict.fromkeys(own := _roots(settings, roots, depths), Role.ROOT),
    }
    commands: dict[str, Sequence[str]] = {
        name: module_command(
            "rlm_dist.local.worker_command", APPS[role], *worker_options(settings, f"{name}-{os.getpid()}")
        )
        for name, role in names.items()
    }
    commands |= others or {}
    cluster = Cluster(
        commands,
        environment=settings.variables(),
        folder=settings.home,
        own=own,
        preloaded=preloaded,
        forkable=names,
    )
    with cluster:
        cluster.wait_ready(lambda: cluster.are_ready(names), _READY_S)
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
