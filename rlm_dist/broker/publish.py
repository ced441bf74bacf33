"""Sending tasks: jobs to the root workers, calls to the sub workers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from typing import Any, NamedTuple

# Imported whole: both load their slow parts only when an attribute is first used.
import celery
import kombu

from rlm_dist.broker.app import _PRIORITIES, ROOT_TASK, SUB_QUEUE, SUB_TASK, root_queue
from rlm_dist.broker.task_ids import root_task_id, sub_task_id
from rlm_dist.one_line import one_line
from rlm_dist.otel.spans import HEADER
from rlm_dist.schema import JobSpec

_MAX_ID_CHARS = 64


class _Task(NamedTuple):
    """One task: its id, its arguments, what tools show of them (two texts), and what it belongs to."""

    id: str
    args: list[Any]
    argsrepr: str
    kwargsrepr: str
    job_id: str
    batch_id: str | None
    root_task_id: str | None = None
    traceparent: str | None = None
    priority: int = _PRIORITIES["normal"]


def send_root(app: celery.Celery, *specs: JobSpec, again: bool = False, retried: bool = False) -> None:
    """Put jobs on the queue of their depth, each at its priority; sending a job twice does no harm.

    ``again`` is for jobs that have been through the queue before, ``retried`` for those that had ended.
    """
    with app.producer_pool.acquire(block=True) as producer, producer.batch():  # type: ignore[attr-defined]  # newer than the stubs
        publish = cache(lambda queue_name: _publisher(app, producer, ROOT_TASK, queue_name))
        for spec in specs:
            batch = f"batch={spec.batch_id} " if spec.batch_id else ""
            task_id = root_task_id(spec.id, again=again or retried)
            publish(root_queue(spec.depth, again=again))(
                _Task(
                    id=task_id,
                    args=[spec.id],
                    argsrepr=f"job={spec.id}",
                    kwargsrepr=f"{batch}id={one_line(spec.custom_id[:_MAX_ID_CHARS])}",
                    job_id=spec.id,
                    batch_id=spec.batch_id,
                    priority=_PRIORITIES[spec.priority],
                )
            )


class SubTasks:
    """What the sub tasks of one run of a job share, and the numbers in their ids."""

    def __init__(self, spec: JobSpec, *, epoch: int, root_task_id: str) -> None:
        self.job_id = spec.id
        self.batch_id = spec.batch_id
        self.root_task_id = root_task_id
        self._epoch = epoch
        self._numbers = count(1)

    def next_id(self) -> str:
        """The id of one more sub task; may be called from several threads."""
        return sub_task_id(self.job_id, self._epoch, next(self._numbers))


def send_sub(
    app: celery.Celery,
    tasks: SubTasks,
    turn: int,
    chunks: Sequence[Sequence[str]],
    traceparent: str | None = None,
) -> None:
    """Put calls of a job on the queue of the sub workers, each chunk as one task.

    ``traceparent`` goes along in a header.

    Raises:
        kombu.exceptions.OperationalError, redis.RedisError: if the broker cannot be reached.
    """
    with app.producer_pool.acquire(block=True) as producer:
        publish = _publisher(app, producer, SUB_TASK, SUB_QUEUE)

        def publish_all() -> None:
            for chunk in chunks:
                publish(
                    _Task(
                        id=tasks.next_id(),
                        args=[tasks.job_id, list(chunk)],
                        argsrepr=f"job={tasks.job_id} turn={turn}",
                        kwargsrepr=f"calls={len(chunk)} first={chunk[0]}",
                        job_id=tasks.job_id,
                        batch_id=tasks.batch_id,
                        root_task_id=tasks.root_task_id,
                        traceparent=traceparent,
                    )
                )

        uncertain: type[Exception] = kombu.exceptions.BatchPublishError  # type: ignore[attr-defined]  # newer than the stubs
        try:
            with producer.batch():  # type: ignore[attr-defined]  # newer than the stubs
                publish_all()
        except uncertain:  # it is unknown how many were sent; sending one twice does no harm
            publish_all()


def _publisher(
    app: celery.Celery, producer: kombu.Producer, name: str, queue_name: str
) -> Callable[[_Task], None]:
    """A function that sends one task of this name.

    The messages equal those of ``send_task``, which takes three times as long because it finds the route and
    declares the queue for each message. Flower shows ``shadow`` as the task's name, and makes a metric's
    label of it, so it names the batch and not the job. ``revoke_by_stamped_headers`` looks at ``stamps``.
    """
    make: Any = app.amqp.create_task_message  # unknown to the stubs
    # These are the same for all messages; Celery and kombu would look them up for each.
    # The states of root tasks are stored if CELERY_RESULT_BACKEND names a place for them.
    ignored = name != ROOT_TASK or not app.conf.result_backend
    common = {"kwargs": {}, "ignore_result": ignored, "origin": f"gen{os.getpid()}@{socket.gethostname()}"}
    serializer = app.conf.task_serializer

    def publish(task: _Task) -> None:
        stamps = {"job": task.job_id} | ({"batch": task.batch_id} if task.batch_id else {})
        message = make(
            task.id,
            name,
            args=task.args,
            argsrepr=task.argsrepr,
            kwargsrepr=task.kwargsrepr,
            root_id=task.root_task_id,
            parent_id=task.root_task_id,
            shadow=f"{name} {task.batch_id}" if task.batch_id else name,
            stamped_headers=list(stamps),
            **stamps,
            **common,
        )
        producer.publish(
            message.body,
            exchange="",
            routing_key=queue_name,
            serializer=serializer,
            headers=message.headers | ({HEADER: task.traceparent} if task.traceparent else {}),
            priority=task.priority,
            **message.properties,
        )

    return publish


def queued(app: celery.Celery, *queues: str) -> list[int]:
    """How many messages wait in each of these queues."""
    with app.producer_pool.acquire(block=True) as producer:
        channel: Any = producer.channel  # the stubs lack queue_declare
        return [int(channel.queue_declare(name).message_count) for name in queues]
