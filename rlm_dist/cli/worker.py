"""``rlm-dist worker``: becomes a Celery worker of one role or, with the embedded server, its parent."""

import os
import subprocess
from typing import Annotated

import typer

from rlm_dist.broker.app import worker_argv
from rlm_dist.errors import InputError
from rlm_dist.local.child_python import worker_environment
from rlm_dist.local.cluster import with_redis
from rlm_dist.local.folders import own_folder
from rlm_dist.local.lifeline import Lifeline
from rlm_dist.schema import MOST_DEPTH, Role
from rlm_dist.settings import load_settings


def worker(
    role: Annotated[Role, typer.Argument(help="The kind of worker.")],
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Jobs or calls at once. [default: RLM_ROOT/SUB_CONCURRENCY]")
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=0, max=MOST_DEPTH - 1, help="Of a root worker's jobs. [default: RLM_ROOT_DEPTH]"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The part of its name before the host. [default: the role]")
    ] = None,
    celery: Annotated[
        list[str] | None, typer.Argument(metavar="[-- CELERY OPTIONS]", help="Handed on to Celery's worker.")
    ] = None,
) -> None:
    """Run a worker: celery -A rlm_dist.ROLE_worker.app worker, with the right queue, pool and options."""
    if depth is not None and role is not Role.ROOT:
        raise InputError(("--depth: only root workers have one",))
    settings = load_settings(**({} if depth is None else {"root_depth": depth}))
    if name is None and role is Role.ROOT and settings.root_depth:
        name = f"{role}-depth{settings.root_depth}"
    argv = [*worker_argv(role, settings, concurrency=concurrency, name=name), *(celery or ())]
    os.chdir(own_folder(settings.home))  # Celery imports from the current folder, which may be anybody's
    if settings.redis_url is not None:
        # Signals then reach Celery itself, also in a container.
        os.execve(argv[0], argv, worker_environment(settings.variables()))
    # The embedded server runs as long as it has users. This process is one, so it stays as the parent.
    with with_redis(settings) as resolved, Lifeline() as lifeline:
        variables = worker_environment(resolved.variables()) | lifeline.variables
        with subprocess.Popen(argv, env=variables, pass_fds=(lifeline.descriptor,)) as process:
            raise typer.Exit(_outlast(process))


def _outlast(process: subprocess.Popen[bytes]) -> int:
    """Wait for the worker to end; on Ctrl-C, which it gets too, keep waiting."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
