"""The lease of a job: a heartbeat renews it, and learns when the run has to end.

Invariant: the first reason to end the run is the one that is reported; later reasons do not replace it.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rlm_dist.errors import Cancelled, LimitExceeded, Parked, RLMError, Superseded
from rlm_dist.schema import JobRecord
from rlm_dist.schema.leases import LEASE_MS, RENEW_S
from rlm_dist.store import JobStore
from rlm_dist.worker.heartbeats import PeriodicThread


class JobLease:
    """The lease of a job at ``record.epoch``: a heartbeat renews it while this context is open.

    ``ran_ms`` is how long the job has run before. Its clock stops while ``waits()``, called at each beat, is
    true: the job can do nothing, as the endpoint is away. ``each_beat`` is called after each renewal.
    """

    def __init__(
        self,
        record: JobRecord,
        jobs: JobStore,
        *,
        ran_ms: int,
        stopping: Callable[[], bool],
        waits: Callable[[], bool],
        each_beat: Callable[[], None],
    ) -> None:
        self._job_id = record.spec.id
        self._epoch = record.epoch
        self._limit_s = record.spec.limits.max_seconds
        self._jobs = jobs
        self._stopping = stopping
        self._waits = waits
        self._each_beat = each_beat
        self._error: RLMError | None = None
        self._stops: list[Callable[[RLMError], None]] = []
        self._last_beat = time.monotonic()
        self._began = self._last_beat - ran_ms / 1000
        self._heart = PeriodicThread(self._beat, period_s=RENEW_S, name=f"lease-{self._job_id}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._heart.close()

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

    def _beat(self) -> None:
        stopped_s = self._stopped_s()
        timeout = self.over_time()
        if timeout is not None:
            self._lose(timeout)
        if self._stopping():
            self._lose(Parked(self._job_id, "its worker stops"))
        try:
            state = self._jobs.renew(self._job_id, self._epoch, LEASE_MS, round(stopped_s * 1000))
        except Superseded as error:
            self._lose(error)
            return
        if state == "cancelled":
            self._lose(Cancelled(self._job_id))
        elif state == "paused":
            self._lose(Parked(self._job_id, "its batch is paused"))
        self._each_beat()

    def _stopped_s(self) -> float:
        """How long the job's clock stood still since the last beat; moves the start of the clock by that."""
        last, self._last_beat = self._last_beat, time.monotonic()
        stopped_s = self._last_beat - last if self._waits() else 0.0
        self._began += stopped_s
        return stopped_s

    def _lose(self, error: RLMError) -> None:
        self._error = self._error or error
        for stop in tuple(self._stops):
            stop(error)
