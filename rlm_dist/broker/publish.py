"""Sending tasks: jobs to the root workers, calls to the sub workers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

# Imported whole: both load their slow parts only when an attribute is first used.
import celery
import kombu

from rlm_dist.broker.app import _PRIORITIES, AGAIN_QUEUE, ROOT_QUEUE, ROOT_TASK, SUB_QUEUE, SUB_TASK
from rlm_dist.schema import JobSpec


def send_root(app: celery.Celery, *specs: JobSpec, again: bool = False) -> None:
    """Put jobs on a queue of the root workers, each at its priority; sending a job twice does no harm.

    ``again`` is for jobs that have been through the queue before.
    """
    with app.producer_pool.acquire(block=True) as producer, producer.batch():  # type: ignore[attr-defined]  # newer than the stubs
        publish = _publisher(app, producer, ROOT_TASK, AGAIN_QUEUE if again else ROOT_QUEUE)
        for spec in specs:
            publish([spec.id], f"job={spec.id}", "{}", _PRIORITIES[spec.priority])


def send_sub(app: celery.Celery, job_id: str, turn: int, chunks: Sequence[Sequence[str]]) -> None:
    """Put calls of a job on the queue of the sub workers, each chunk as one task.

    Raises:
        kombu.exceptions.OperationalError, redis.RedisError: if the broker cannot be reached.
    """
    with app.producer_pool.acquire(block=True) as producer:
        publish = _publisher(app, producer, SUB_TASK, SUB_QUEUE)

        def publish_all() -> None:
            for chunk in chunks:
                calls = f"calls={len(chunk)} first={chunk[0]}"
                publish([job_id, list(chunk)], f"job={job_id} turn={turn}", calls, 0)

        uncertain: type[Exception] = kombu.exceptions.BatchPublishError  # type: ignore[attr-defined]  # newer than the stubs
        try:
            with producer.batch():  # type: ignore[attr-defined]  # newer than the stubs
                publish_all()
        except uncertain:  # it is unknown how many were sent; sending one twice does no harm
            publish_all()


def _publisher(
    app: celery.Celery, producer: kombu.Producer, task: str, queue_name: str
) -> Callable[[list[Any], str, str, int], None]:
    """A function that sends one task: its arguments, what Flower shows of them (two texts), its priority.

    The messages equal those of ``send_task``, which takes three times as long because it finds the route and
    declares the queue for each message.
    """
    make: Any = app.amqp.create_task_message  # unknown to the stubs
    # These are the same for all messages; Celery and kombu would look them up for each.
    common = {"kwargs": {}, "ignore_result": True, "origin": f"gen{os.getpid()}@{socket.gethostname()}"}
    serializer = app.conf.task_serializer

    def publish(args: list[Any], argsrepr: str, kwargsrepr: str, priority: int) -> None:
        message = make(kombu.uuid(), task, args=args, argsrepr=argsrepr, kwargsrepr=kwargsrepr, **common)
        producer.publish(
            message.body,
            exchange="",
            routing_key=queue_name,
            serializer=serializer,
            headers=message.headers,
            priority=priority,
            **message.properties,
        )

    return publish


def queued(app: celery.Celery, *queues: str) -> list[int]:
    """How many messages wait in each of these queues."""
    with app.producer_pool.acquire(block=True) as producer:
        channel: Any = producer.channel  # the stubs lack queue_declare
        return [int(channel.queue_declare(name).message_count) for name in queues]
