"""Celery's prefork pool, whose stop does not take two seconds if it has nothing to do.

A stop of Celery's waits for a thread that looks after the processes every 0.8 s, and for another that looks
every 0.5 s. A pool that has no task under way needs neither: its processes are told to end, and awaited.
"""

import threading
from typing import Any

from billiard.pool import CLOSE, RUN
from celery.concurrency.prefork import TaskPool
from kombu.asynchronous import get_event_loop


class PromptPool(TaskPool):
    """The pool of a root worker; with a task under way it stops as Celery's does."""

    _pool: Any

    def on_stop(self) -> None:
        """Stop the processes once their tasks have ended."""
        pool = self._pool
        if (
            pool is None or pool._state not in (RUN, CLOSE) or pool._cache
        ):  # the cache has each task that has not ended
            super().on_stop()
            return
        pool._state = CLOSE
        pool._worker_handler.close()  # it starts no process again
        pool._stop_task_handler(pool._task_handler)  # tells each process to end
        for process in pool._pool:
            process.join()
        pool._terminate.cancel()  # what would be done at exit is done, and waits for the same threads
        self._pool = None


def wake_main_loop() -> None:
    """Let the worker's event loop, which may sleep for a second, see at once that it is to stop.

    May be called in a signal handler: a thread takes the hub's lock, which the interrupted code may hold.
    """
    hub = get_event_loop()
    if hub is not None:
        threading.Thread(target=hub.call_soon, args=(_nothing,), name="wake", daemon=True).start()


def _nothing() -> None:
    """Do nothing: scheduling this call from another thread wakes the loop."""
