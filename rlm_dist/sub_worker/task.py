"""The Celery task ``rlm.sub(job_id, call_ids)``, and the life of the worker that runs it."""

from typing import Protocol

from celery import Celery, Task
from celery.exceptions import Reject
from celery.signals import (
    worker_init,
    worker_shutdown,
    worker_shutting_down,
)

from rlm_dist.broker.app import SUB_TASK
from rlm_dist.broker.backpressure import limit_intake
from rlm_dist.broker.event_batches import batch_events
from rlm_dist.broker.kombu_fixes import repair_broker
from rlm_dist.broker.pool import defer_end
from rlm_dist.otel.spans import HEADER
from rlm_dist.schema import Role
from rlm_dist.settings import Settings
from rlm_dist.sub_worker.worker import SubWorker
from rlm_dist.worker.metrics_port import MetricsPort
from rlm_dist.worker.revocation import UnstoppableRequest, cancel_revoked_jobs
from rlm_dist.worker.task_support import ID, IDS, load_and_freeze, no_values_in_errors


class _Sized(Protocol):
    """A Celery worker; ``concurrency`` is its number of slots."""

    concurrency: int


def add_sub_task(app: Celery, settings: Settings) -> None:
    """Register ``rlm.sub(job_id, call_ids)``, all of whose tasks in a process share one ``SubWorker``."""
    workers: list[SubWorker] = []
    port = MetricsPort(settings, Role.SUB)
    repair_broker()
    batch_events(app)
    wake = limit_intake(app, lambda: not any(worker.calls.has_enough() for worker in workers))

    worker_init.connect(
        load_and_freeze, weak=False
    )  # a full collection stops all calls for a tenth of a second

    @worker_init.connect(weak=False)
    def start(sender: _Sized, **_: object) -> None:
        metrics = port.open()
        workers.append(SubWorker(app, settings, slots=sender.concurrency, wants_more=wake, metrics=metrics))

    @worker_shutting_down.connect(weak=False)
    def drain(**_: object) -> None:
        for worker in workers:
            worker.calls.drain()

    @worker_shutdown.connect(weak=False)
    def stop(**_: object) -> None:
        for worker in workers:
            worker.close()
        port.close()

    cancel_revoked_jobs(settings)

    @app.task(name=SUB_TASK, bind=True, Request=UnstoppableRequest)
    def sub(self: Task[[str, list[str]], None], job_id: str, call_ids: list[str]) -> None:
        with no_values_in_errors():
            calls = workers[0].calls
            brought = (
                ID.validate_python(job_id, strict=True),
                IDS.validate_python(call_ids),
                getattr(self.request, HEADER, None),
            )
            if defer_end(
                lambda end: calls.begin(*brought, lambda done: end(None if done else _given_back()))
            ):
                return
            is_complete = calls.run(*brought)  # somebody has chosen another pool by -P
        if not is_complete:
            raise _given_back()


def _given_back() -> Reject:
    return Reject("the worker stops", requeue=True)
