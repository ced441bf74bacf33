"""Celery's pool of threads for tasks that wait for others' work, without a thread for each that waits.

A message of a sub task brings calls, and is acknowledged when they have ended. Celery knows a task as ended
when its function returns, so each message would need a thread that sleeps, and 8,192 messages of one call
each would need 8,192 threads. Here a task's function may call ``defer_end``: it returns, its thread takes the
next message, and Celery hears of the task's end when that comes.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency import thread
from celery.concurrency.base import apply_target

# What a task's function says later: None if the task is done, or the error that it ends with.
End = Callable[[Exception | None], None]

_celerys: Any = thread  # the stubs lack some of it
_THREADS = 4  # they only hand tasks over and acknowledge them
_this_thread = threading.local()


def defer_end(begin: Callable[[End], None]) -> bool:
    """Let the current task end when ``begin``'s argument is called, from any thread; it may be at once.

    ``begin`` is called after the task's function has returned. False, and nothing is deferred, if the
    task does not run in this pool.
    """
    if not getattr(_this_thread, "may_defer", False):
        return False
    _this_thread.begin = begin
    return True


class DeferredEndPool(thread.TaskPool):
    """A few threads for any number of tasks; ``limit``, the worker's concurrency, is only shown to others."""

    executor: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor.shutdown()
        self.executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="tasks")
        self._open = 0
        self._changed = threading.Condition()

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> Any:
        """Run a task's function; ``callback`` gets its result when the task has ended."""
        with self._changed:
            self._open += 1
        call = partial(apply_target, target, args or (), kwargs, accept_callback=accept_callback)
        return _celerys.ApplyResult(self.executor.submit(self._run, call, callback))

    def on_stop(self) -> None:
        """Wait until every task has ended."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open)
        super().on_stop()

    def _run(self, call: Callable[..., Any], callback: Any) -> None:
        began = time.monotonic()
        is_deferred = False

        def returned(result: Any) -> None:
            nonlocal is_deferred
            if _this_thread.begin is None:
                callback(result)
                return
            _this_thread.begin(partial(self._end, callback, result, began))
            is_deferred = True

        _this_thread.begin, _this_thread.may_defer = None, True
        try:
            call(callback=returned)
        finally:
            _this_thread.begin = None
            if not is_deferred:
                self._close_one()

    def _end(self, callback: Any, result: Any, began: float, error: Exception | None) -> None:
        """Tell Celery in a thread of this pool, as whoever calls this has other things to do."""
        failed, value, _ = result
        seconds = time.monotonic() - began
        outcome = (failed, value, seconds) if error is None else (True, _information(error), seconds)
        self.executor.submit(self._tell, callback, outcome)

    def _tell(self, callback: Any, outcome: Any) -> None:
        try:
            callback(outcome)
        finally:
            self._close_one()

    def _close_one(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()


def _information(error: Exception) -> ExceptionInfo:
    """An error in the form in which Celery hands it on."""
    try:
        raise error
    except Exception:  # noqa: BLE001  # it is the one raised above
        return ExceptionInfo(internal=True)
