"""How long a lease lasts and how often its holder renews it: one set of numbers for roots and subs.

A lease is lost at most ``LEASE_MS`` after its holder died, and looked for every ``SWEEP_S``: together under
the 15 s within which a job goes on elsewhere. Cancelling is seen at a renewal, so within ``RENEW_S``.
"""

import threading
from collections.abc import Callable

import structlog

LEASE_MS = 10_000
RENEW_S = 1.0
SWEEP_S = 3.0

log = structlog.get_logger()


class Every:
    """A daemon thread that calls ``step`` every ``period_s`` until closed; an error is logged, not fatal."""

    def __init__(self, step: Callable[[], None], *, period_s: float, name: str) -> None:
        self._step = step
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the step under way; may be called from the step itself."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self._step()
            except Exception as error:  # noqa: BLE001  # a bad round must not end the rounds after it
                log.warning("periodic_step_failed", step=self._thread.name, error=type(error).__name__)
