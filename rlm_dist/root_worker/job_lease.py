"""The lease of a job: a heartbeat renews it, and learns when the run has to end.

Invariant: the first reason to end the run is the one that is reported; later reasons do not replace it.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from rlm_dist.errors import Cancelled, LimitExceeded, Parked, RLMError, Superseded
from rlm_dist.root_worker.lease_keeper import LeaseKeeper
from rlm_dist.schema import JobRecord
from rlm_dist.store.jobs import Renewal, RenewalReply

log = structlog.get_logger()


class JobLease:
    """The lease of a job at ``record.epoch``: ``keeper`` renews it while this context is open.

    ``ran_ms`` is how long the job has run before. Its clock stops while the endpoint is away.
    ``store_trace`` is called about once a second.
    """

    def __init__(
        self, record: JobRecord, keeper: LeaseKeeper, *, ran_ms: int, store_trace: Callable[[], None]
    ) -> None:
        self._job_id = record.spec.id
        self._epoch = record.epoch
        self._limit_s = record.spec.limits.max_seconds
        self._keeper = keeper
        self._store_trace = store_trace
        self._error: RLMError | None = None
        self._stops: list[Callable[[RLMError], None]] = []
        self._stopper: threading.Thread | None = None
        self._last_beat = time.monotonic()
        self._began = self._last_beat - ran_ms / 1000

    def __enter__(self) -> Self:
        self._keeper.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.remove(self)
        self._stops.clear()  # they refer to what refers to this: the job would stay in memory for a while

    @property
    def used_s(self) -> float:
        """How long the job has run, including its runs on earlier holders."""
        return time.monotonic() - self._began

    @property
    def left_s(self) -> float | None:
        """How long the job may still run; None if it has no time limit."""
        return None if self._limit_s is None else max(0.0, self._limit_s - self.used_s)

    def on_lost(self, stop: Callable[[RLMError], None]) -> None:
        """Call ``stop`` with the reason when the run has to end; at once if it already has to."""
        self._stops.append(stop)
        if self._error is not None:
            stop(self._error)

    def over_time(self) -> LimitExceeded | None:
        """The error for the job's time limit, if that is exceeded."""
        if self._limit_s is None or self.used_s <= self._limit_s:
            return None
        return LimitExceeded("max_seconds", round(self.used_s, 1), self._limit_s)

    def renewal(self, *, waits: bool, stopping: bool) -> Renewal:
        """What the next renewal says; if ``stopping``, or the job's time is up, the run has to end."""
        last, self._last_beat = self._last_beat, time.monotonic()
        stopped_s = self._last_beat - last if waits else 0.0
        self._began += stopped_s
        timeout = self.over_time()
        if timeout is not None:
            self._lose(timeout)
        if stopping:
            self._lose(Parked(self._job_id, "its worker stops"))
        return Renewal(self._job_id, self._epoch, round(stopped_s * 1000))

    def renewed(self, reply: RenewalReply) -> None:
        """Take note of the reply to the renewal: the run may have to end."""
        if reply == "superseded":
            self._lose(Superseded(self._job_id, self._epoch))
        elif reply == "cancelled":
            self._lose(Cancelled(self._job_id))
        elif reply == "paused":
            self._lose(Parked(self._job_id, "its batch is paused"))

    def flush(self) -> None:
        """Store the trace so far; if that fails, the next time stores it."""
        try:
            self._store_trace()
        except Exception as error:  # noqa: BLE001  # the traces of other jobs are stored all the same
            log.warning("trace_not_stored", job=self._job_id, error=type(error).__name__)

    def _lose(self, error: RLMError) -> None:
        """Stop the run in a thread: what the job waits for may hold a lock for long."""
        self._error = self._error or error
        if self._stopper is None or not self._stopper.is_alive():
            stopper = threading.Thread(
                target=self._stop, args=(error,), name=f"stop-{self._job_id}", daemon=True
            )
            try:
                stopper.start()
            except RuntimeError:  # no thread is left: the next round tries again
                log.warning("stop_not_started", job=self._job_id)
            else:
                self._stopper = stopper

    def _stop(self, error: RLMError) -> None:
        for stop in tuple(self._stops):
            try:
                stop(error)
            except Exception as failure:  # noqa: BLE001  # the next round tries again
                log.warning("stop_failed", job=self._job_id, error=type(failure).__name__)
