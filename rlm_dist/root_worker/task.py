"""The Celery task ``rlm.root(job_id)``, and the life of the worker that runs it."""

import os
import threading
from typing import Protocol

from celery import Celery, Task
from celery.signals import worker_init, worker_shutdown, worker_shutting_down

from rlm_dist.broker.app import AGAIN_QUEUE, ROOT_TASK, queue
from rlm_dist.broker.backpressure import limit_intake
from rlm_dist.broker.event_batches import batch_events
from rlm_dist.broker.kombu_fixes import repair_broker
from rlm_dist.errors import NoAnswer
from rlm_dist.root_worker.task_state import root_request, show_outcome
from rlm_dist.root_worker.worker import RootWorker, sandbox_metric
from rlm_dist.schema import Role
from rlm_dist.settings import Settings
from rlm_dist.worker.metrics_port import MetricsPort
from rlm_dist.worker.revocation import cancel_revoked_jobs
from rlm_dist.worker.task_support import ID, load_and_freeze, no_values_in_errors

# After a cold shutdown (SIGQUIT) jobs may take so long to be parked; then the process ends without that.
_COLD_S = 5.0
_EXIT_COLD = 1


class _ThreadsWorker(Protocol):
    """A Celery worker; ``concurrency`` is its number of threads."""

    concurrency: int


def add_root_task(app: Celery, settings: Settings) -> None:
    """Register ``rlm.root(job_id)``, run in threads that share one ``RootWorker``."""
    workers: list[RootWorker] = []
    port = MetricsPort(settings, Role.ROOT)
    repair_broker()
    stopping = threading.Event()
    ending: list[threading.Timer] = []
    batch_events(app)
    wake = limit_intake(app, lambda: not stopping.is_set())

    worker_init.connect(load_and_freeze, weak=False)  # a full collection stops all jobs

    @worker_init.connect(weak=False)
    def start(sender: _ThreadsWorker, **_: object) -> None:
        metrics = port.open(sandbox_metric(settings))
        workers.append(
            RootWorker(app, settings, jobs=sender.concurrency, stopping=stopping.is_set, metrics=metrics)
        )

    if settings.root_depth == 0:
        # Also if -Q does not name it.
        worker_init.connect(lambda **_: app.amqp.queues.select_add(queue(AGAIN_QUEUE)), weak=False)

    @worker_shutting_down.connect(weak=False)
    def stop_jobs(**_: object) -> None:
        """Let the jobs be parked; this runs in a signal handler, which must not wait for a lock."""
        stopping.set()
        threading.Thread(target=wake, name="wake", daemon=True).start()

    def stop_soon() -> None:
        """The same, at a cold shutdown."""
        if not ending:
            ending.append(threading.Timer(_COLD_S, os._exit, (_EXIT_COLD,)))
            ending[0].daemon = True
            ending[0].start()
            stop_jobs()

    @worker_shutdown.connect(weak=False)
    def stop(**_: object) -> None:
        for worker in workers:
            worker.close()
        port.close()

    cancel_revoked_jobs(settings)

    @app.task(name=ROOT_TASK, bind=True, Request=root_request(wake, stop_soon), throws=(NoAnswer,))
    def root(self: Task[[str], None], job_id: str) -> None:
        with no_values_in_errors():
            outcome = workers[0].run(ID.validate_python(job_id, strict=True), str(self.request.id))
        if outcome is not None:
            show_outcome(job_id, outcome)
