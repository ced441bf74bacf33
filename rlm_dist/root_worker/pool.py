"""Celery's prefork pool, whose stop does not take a second and a half if it has nothing to do.

A stop of Celery's waits for a thread that looks after the processes every 0.8 s, and for another that looks
every 0.5 s. A pool that has no task under way needs neither: its processes are told to end, and awaited.
"""

from typing import Any

from billiard.pool import CLOSE, RUN
from celery.concurrency.prefork import TaskPool


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
