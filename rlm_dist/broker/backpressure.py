"""Backpressure: a worker takes messages only while it wants more work, whatever its number of threads.

One message of a sub task brings many calls, but Celery counts messages. A worker with 32 slots would take 32
messages, and withhold from other workers calls that it cannot run yet. Celery has no setting for this; its
own ``worker_disable_prefetch`` is implemented in the same way as this module.
"""

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep


def limit_intake(app: Celery, wants_more: Callable[[], bool]) -> Callable[[], None]:
    """Let the worker of ``app`` take messages only while ``wants_more()``.

    Returns a function to call, from any thread, when it wants more again, as its event loop may be asleep.
    """
    hubs: list[Any] = []

    class Intake(StartStopStep):
        """Installs the check before each message; started at each connection to the broker."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            """Put the check before Celery's own."""
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
    """Do nothing: scheduling this call wakes the loop."""
