"""A worker takes messages only while it wants more work, whatever its number of threads.

A message of a sub task brings many calls. Celery counts messages: a worker with 32 slots would take 32 of
them, and keep from the others what it cannot run yet. Celery has no setting for that; its own
``worker_disable_prefetch`` is made in the same way as this.
"""

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep


def limit_intake(app: Celery, wants_more: Callable[[], bool]) -> Callable[[], None]:
    """Have the worker of ``app`` take messages only while ``wants_more()``.

    Returns what is to be called, from any thread, when it wants more again: its event loop may be asleep.
    """
    hubs: list[Any] = []

    class Intake(StartStopStep):
        """Asks before each message; runs at each connection to the broker."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            """Put the question before Celery's own."""
            qos = parent.task_consumer.channel.qos
            can_consume = qos.can_consume
            qos.can_consume = lambda: wants_more() and can_consume()
            hubs[:] = [parent.hub]

    def wake() -> None:
        for hub in hubs:
            hub.call_soon(_nothing)

    app.steps["consumer"].add(Intake)
    return wake


def _nothing() -> None:
    """Only wakes the loop."""
