"""The two Celery tasks. Their messages carry ids only; the store has the rest.

SIGTERM, which Celery calls a warm shutdown: a root worker parks its jobs, so that another one goes on with
them at once; a sub worker ends its calls, and gives back the messages of those that it has not begun.
"""

import gc
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog
from celery import Celery
from celery.exceptions import Reject
from celery.signals import (
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)
from pydantic import TypeAdapter

from rlm_dist.broker_repair import repair_broker
from rlm_dist.celery_app import AGAIN_QUEUE, ROOT_TASK, SUB_TASK, queue
from rlm_dist.errors import RLMError
from rlm_dist.intake import limit_intake
from rlm_dist.llm.connection import preload
from rlm_dist.runtime import RootWorker, SubWorker, start_zygote
from rlm_dist.sandbox.zygote_process import ZygoteProcess
from rlm_dist.settings import Settings

log = structlog.get_logger()

_ID = TypeAdapter(str)
_IDS = TypeAdapter(list[str])


class _Sized(Protocol):
    """A Celery worker, of which we want to know how many threads it has."""

    concurrency: int


def add_root_task(app: Celery, settings: Settings) -> None:
    """Register ``rlm.root(job_id)``, run in pool processes that each have a ``RootWorker``."""
    workers: list[RootWorker] = []
    zygote = _shared_zygote(settings)
    repair_broker()
    # Only the parent hears of the shutdown; its pool processes share this byte with it.
    stopping = mmap.mmap(-1, 1)

    @worker_shutting_down.connect(weak=False)
    def stop_jobs(**_: object) -> None:
        stopping[0] = 1

    @worker_process_init.connect(weak=False)
    def start(**_: object) -> None:
        worker = RootWorker(app, settings, stopping=lambda: bool(stopping[0]), zygote=zygote())
        workers.append(worker)

    @worker_process_shutdown.connect(weak=False)
    def stop(**_: object) -> None:
        for worker in workers:
            worker.close()

    @worker_init.connect(weak=False)
    def take_up_again(**_: object) -> None:
        app.amqp.queues.select_add(queue(AGAIN_QUEUE))  # whatever -Q names

    # A collection writes into every object that it looks at: without this the pool's processes would soon
    # have pages of their own for all that was imported before they were forked.
    worker_init.connect(_load_and_freeze, weak=False)

    @app.task(name=ROOT_TASK)
    def root(job_id: str) -> None:
        with _no_values_in_errors():
            workers[0].run(_ID.validate_python(job_id, strict=True))


def add_sub_task(app: Celery, settings: Settings) -> None:
    """Register ``rlm.sub(job_id, call_ids)``, run in threads that share one ``SubWorker``."""
    workers: list[SubWorker] = []
    repair_broker()
    wake = limit_intake(app, lambda: not any(worker.calls.has_enough() for worker in workers))

    worker_init.connect(_load_and_freeze, weak=False)  # a whole one stops all calls for a tenth of a second

    @worker_init.connect(weak=False)
    def start(sender: _Sized, **_: object) -> None:
        workers.append(SubWorker(app, settings, slots=sender.concurrency, wants_more=wake))

    @worker_shutting_down.connect(weak=False)
    def drain(**_: object) -> None:
        for worker in workers:
            worker.calls.drain()

    @worker_shutdown.connect(weak=False)
    def stop(**_: object) -> None:
        for worker in workers:
            worker.close()

    @app.task(name=SUB_TASK)
    def sub(job_id: str, call_ids: list[str]) -> None:
        with _no_values_in_errors():
            done = workers[0].calls.run(
                _ID.validate_python(job_id, strict=True), _IDS.validate_python(call_ids)
            )
        if not done:
            raise Reject("the worker stops", requeue=True)


def _load_and_freeze(**_: object) -> None:
    """Load what would be loaded later, and have the garbage collector pass over all that is there by now."""
    preload()
    gc.collect()
    gc.freeze()


def _shared_zygote(settings: Settings) -> Callable[[], ZygoteProcess | None]:
    """Have the main process of a root worker keep a fork-server for its pool; gives the way to get at it."""
    running: list[ZygoteProcess] = []

    @worker_init.connect(weak=False)
    def start(**_: object) -> None:
        try:
            zygote = start_zygote(settings)
        except RLMError as error:  # each process of the pool then has one of its own
            log.warning("fork_server_not_shared", error=str(error))
            return
        if zygote is not None:
            running.append(zygote)

    @worker_shutdown.connect(weak=False)
    def stop(**_: object) -> None:
        for zygote in running:
            zygote.close()

    return lambda: next(iter(running), None)


@contextmanager
def _no_values_in_errors() -> Iterator[None]:
    """Celery logs what a task raises, and Flower shows it: the type of an error will do for both."""
    try:
        yield
    except Exception as error:
        log.exception("task_failed")
        raise RLMError(f"the task failed: {type(error).__name__}") from None
