"""Celery's task events, as Flower and other monitors receive them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery


class TaskEvents:
    """The events of all tasks since the start, in order."""

    def __init__(self) -> None:
        self.heard = threading.Event()  # set once any worker was heard
        self._events: list[dict[str, Any]] = []

    def note(self, event: dict[str, Any]) -> None:
        """Keep one event, if it is about a task."""
        self.heard.set()
        if event["type"].startswith("task-"):
            self._events.append(event)

    def types(self, task_id: str) -> list[str]:
        """The types of the events of one task, in order, without "task-"."""
        return [event["type"].removeprefix("task-") for event in self.of(task_id)]

    def of(self, task_id: str) -> list[dict[str, Any]]:
        """The events of one task, in order."""
        return [event for event in self._events if event["uuid"] == task_id]

    def ids(self, job_id: str) -> set[str]:
        """The ids of all tasks of a job."""
        return {event["uuid"] for event in self._events if event["uuid"].split(".")[0] == job_id}

    def text(self) -> str:
        """All that the events say."""
        return json.dumps(self._events, default=str)


@contextmanager
def task_events(app: Celery) -> Iterator[TaskEvents]:
    """Receive the events of workers, which must be ready, while the context is open."""
    events = TaskEvents()
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.note})
        thread = threading.Thread(target=receiver.capture, daemon=True)  # asks the workers for a heartbeat
        thread.start()
        assert events.heard.wait(60)
        try:
            yield events
        finally:
            receiver.should_stop = True
            thread.join()
