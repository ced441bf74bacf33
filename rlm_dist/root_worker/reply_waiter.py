"""What a fan-out and the child jobs of a run share: waiting for replies, and how the waiting ends."""

import threading
from collections.abc import Callable

import structlog

from rlm_dist.errors import LimitExceeded, ReplLost, RLMError
from rlm_dist.schema import ReachedLimit

log = structlog.get_logger()


class ReplyWaiter:
    """Lets threads wait for replies that one other thread reads; a subclass says in ``_follow`` how."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._changed = threading.Condition()
        self._limits: dict[str, ReachedLimit] = {}
        self._error: RLMError | None = None
        self._waiting: set[object] = set()  # one for each request that waits
        self._closed = False
        self._reader: threading.Thread | None = None

    def take_limits(self) -> tuple[ReachedLimit, ...]:
        """The limits that requests did not fit into since the last call of this method, each once."""
        with self._changed:
            limits, self._limits = self._limits, {}
        return tuple(limits.values())

    def abort(self, error: RLMError) -> None:
        """Make every waiting and every later request raise ``error``; what was requested goes on."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def drop_waiting(self) -> None:
        """Make each request that waits now raise ReplLost: who asked is gone; what was requested goes on."""
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the reader thread; what was requested goes on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._reader is not None:
            self._reader.join()

    def _follow(self) -> None:
        """Read replies until ``_closed``; runs in the reader thread."""
        raise NotImplementedError

    def _start_reader(self) -> None:
        """Start the reader thread if it does not run, with the lock held."""
        if self._reader is None:
            name = f"{type(self).__name__}-{self._job_id}"
            self._reader = threading.Thread(target=self._read, name=name, daemon=True)
            self._reader.start()

    def _wait(self, ready: Callable[[], bool]) -> None:
        """Wait until ``ready()``, with the lock held.

        Raises:
            ReplLost: after ``drop_waiting``.
            RLMError: the error passed to ``abort``.
        """
        request = object()
        self._waiting.add(request)
        try:
            self._changed.wait_for(lambda: ready() or self._error is not None or request not in self._waiting)
            if self._error is not None:
                raise self._error
            if request not in self._waiting:
                raise ReplLost
        finally:
            self._waiting.discard(request)

    def _note_limit(self, error: LimitExceeded) -> None:
        with self._changed:
            self._limits.setdefault(error.kind, ReachedLimit(*error.args))

    def _read(self) -> None:
        try:
            self._follow()
        except RLMError as error:
            self.abort(error)
        except Exception as error:
            log.exception("reply_reader_failed", job=self._job_id)
            self.abort(RLMError(f"reading the replies failed: {type(error).__name__}"))
