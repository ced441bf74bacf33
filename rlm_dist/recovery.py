"""The reaper: puts jobs whose worker died back on the queue. Every worker process runs one.

A job whose lease has lapsed is sent again; ``start_job`` lets only one taker in, so two reapers do no harm.
After Redis was away, leases have lapsed although their holders live: the reaper then waits for one lease's
length, in which every living holder renews.
"""

import time

import structlog
from celery import Celery

from rlm_dist.celery_app import send_root
from rlm_dist.leases import LEASE_MS, SWEEP_S, Every
from rlm_dist.store import Store

log = structlog.get_logger()

_MOST_JOBS = 100


class Reaper:
    """A thread that looks for lapsed jobs every few seconds."""

    def __init__(self, app: Celery, store: Store) -> None:
        self._app = app
        self._store = store
        self._last_sweep = time.monotonic()
        self._not_before = 0.0
        self._every = Every(self._sweep, period_s=SWEEP_S, name="reaper")

    def close(self) -> None:
        """Stop looking."""
        self._every.close()

    def _sweep(self) -> None:
        lapsed = self._store.lapsed_jobs(_MOST_JOBS)
        now = time.monotonic()
        if now - self._last_sweep > 2 * SWEEP_S:
            self._not_before = now + LEASE_MS / 1000
        self._last_sweep = now
        if now < self._not_before:
            return
        for job_id in lapsed:
            log.warning("job_lapsed", job=job_id)
            send_root(self._app, job_id)
