"""The Celery task ``rlm.root(job_id)``, and the life of the worker that runs it."""

import mmap
from collections.abc import Callable
from typing import Any

import structlog
from billiard import current_process
from celery import Celery, Task
from celery.signals import (
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)

from rlm_dist.broker.app import AGAIN_QUEUE, ROOT_TASK, queue
from rlm_dist.broker.kombu_fixes import repair_broker
from rlm_dist.errors import NoAnswer, RLMError
from rlm_dist.root_worker.task_state import RootRequest, show_outcome
from rlm_dist.root_worker.worker import RootWorker, sandbox_metric, start_fork_server
from rlm_dist.sandbox.fork_server_process import ForkServerProcess
from rlm_dist.schema import Role
from rlm_dist.settings import Settings
from rlm_dist.worker.metrics_port import MetricsPort
from rlm_dist.worker.revocation import cancel_revoked_jobs
from rlm_dist.worker.task_support import ID, load_and_freeze, no_values_in_errors

log = structlog.get_logger()


def add_root_task(app: Celery, settings: Settings) -> None:
    """Register ``rlm.root(job_id)``, run in pool processes that each have a ``RootWorker``."""
    workers: list[RootWorker] = []
    fork_server = _shared_fork_server(settings)
    port = MetricsPort(settings, Role.ROOT)
    repair_broker()
    # Only the parent gets the shutdown signal; its pool processes share this byte with it.
    stopping = mmap.mmap(-1, 1)

    @worker_shutting_down.connect(weak=False)
    def stop_jobs(**_: object) -> None:
        stopping[0] = 1

    @worker_process_init.connect(weak=False)
    def start(**_: object) -> None:
        worker = RootWorker(
            app,
            settings,
            stopping=lambda: bool(stopping[0]),
            fork_server=fork_server(),
            metrics=port.of_slot(_slot()),
        )
        workers.append(worker)

    @worker_process_shutdown.connect(weak=False)
    def stop(**_: object) -> None:
        port.close_slot()  # before what may take longer than Celery waits
        for worker in workers:
            worker.close()

    @worker_init.connect(weak=False)
    def serve_metrics(**_: object) -> None:
        port.open_for_slots(sandbox_metric(settings))

    @worker_shutdown.connect(weak=False)
    def close_metrics(**_: object) -> None:
        port.close()

    if settings.root_depth == 0:
        # Also if -Q does not name it.
        worker_init.connect(lambda **_: app.amqp.queues.select_add(queue(AGAIN_QUEUE)), weak=False)

    # A garbage collection writes to every object that it visits: without this, each process of the pool would
    # soon have its own copy of the pages with everything imported before the fork.
    worker_init.connect(load_and_freeze, weak=False)

    cancel_revoked_jobs(settings)

    @app.task(name=ROOT_TASK, bind=True, Request=RootRequest, throws=(NoAnswer,))
    def root(self: Task[[str], None], job_id: str) -> None:
        with no_values_in_errors():
            outcome = workers[0].run(ID.validate_python(job_id, strict=True), str(self.request.id))
        if outcome is not None:
            show_outcome(job_id, outcome)


def _slot() -> int:
    """The slot of this process in its pool; the process that replaces it gets the same."""
    process: Any = current_process()  # the stubs lack it
    return int(process.index)


def _shared_fork_server(settings: Settings) -> Callable[[], ForkServerProcess | None]:
    """Let a root worker's main process run a fork-server for its pool; the result returns it, or None."""
    running: list[ForkServerProcess] = []

    @worker_init.connect(weak=False)
    def start(**_: object) -> None:
        try:
            fork_server = start_fork_server(settings)
        except RLMError as error:  # then each process of the pool starts its own
            log.warning("fork_server_not_shared", error=str(error))
            return
        if fork_server is not None:
            running.append(fork_server)

    @worker_shutdown.connect(weak=False)
    def stop(**_: object) -> None:
        for fork_server in running:
            fork_server.close()

    return lambda: next(iter(running), None)
