"""Threads that run a step every few seconds, and a detector for times in which Redis was away."""

import threading
import time
from collections.abc import Callable

import structlog

from rlm_dist.schema.leases import LEASE_MS

log = structlog.get_logger()


class OutageDetector:
    """Detects that Redis was away: leases have then lapsed although their holders are alive.

    For a thread whose rounds should come every ``period_s``: it calls ``over`` at the end of each round,
    after Redis has answered.
    """

    def __init__(self, period_s: float) -> None:
        self._longest_s = 2 * period_s
        self._last = time.monotonic()
        self._not_before = 0.0

    def begin(self) -> None:
        """Begin a round after a time without rounds, which is then not taken for an outage."""
        self._last = time.monotonic()

    def over(self) -> bool:
        """Whether a lapsed lease means a dead holder: not within one lease's length after an outage."""
        now = time.monotonic()
        if now - self._last > self._longest_s:
            self._not_before = now + LEASE_MS / 1000
        self._last = now
        return now >= self._not_before


class PeriodicThread:
    """A daemon thread that calls ``step`` every ``period_s`` until closed; it logs errors and goes on.

    The first time is after ``period_s``, or ``at_once``.
    """

    def __init__(
        self, step: Callable[[], None], *, period_s: float, name: str, at_once: bool = False
    ) -> None:
        self._first_s = 0.0 if at_once else period_s
        self._step = step
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the current step; may be called from the step itself."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        pause_s = self._first_s
        while not self._stop.wait(pause_s):
            pause_s = self._period_s
            try:
                self._step()
            except Exception as error:  # noqa: BLE001  # a failed round must not end the later ones
                log.warning("periodic_step_failed", step=self._thread.name, error=type(error).__name__)
