"""The events of tasks leave a worker ten times a second, all of that time in one message.

Celery sends them in the next round of its loop, which is mostly each one alone; three messages for each job
then take more of a root worker's time than anything else that it does for the broker.
"""

from typing import Any

from celery import Celery
from celery.bootsteps import StartStopStep

_INTERVAL_S = 0.1


def batch_events(app: Celery) -> None:
    """Let the worker of ``app`` keep events back for a moment."""

    class EventBatches(StartStopStep):
        """Sends what has gathered; started at each connection to the broker, which has its own dispatcher."""

        requires = ("celery.worker.consumer.events:Events",)

        def start(self, parent: Any) -> None:
            """Send at intervals only. Celery still sends at once what fills its buffer."""
            self._dispatcher = dispatcher = parent.event_dispatcher
            if dispatcher is not None:  # else Celery's options turn events off
                dispatcher.on_send_buffered = None
                self._entry = parent.timer.call_repeatedly(_INTERVAL_S, dispatcher.flush)

        def stop(self, parent: Any) -> None:
            """Send the last ones."""
            if self._dispatcher is not None:
                parent.timer.cancel(self._entry)
                self._dispatcher.flush()

    app.steps["consumer"].add(EventBatches)
