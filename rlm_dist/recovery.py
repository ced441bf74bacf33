"""The reaper: puts jobs back on the queue that nobody works on and no message tells of.

Two kinds: jobs whose worker died (their lease has lapsed), and queued jobs whose message is gone (the queue
is empty and they still wait). ``start_job`` lets only one taker in, so a message too many does no harm. Every
worker process runs one.

After Redis was away, leases have lapsed although their holders live: the reaper then waits for one lease's
length, in which every living holder renews. A job that was meant for workers of another broker prefix is
left to these, and taken only where none of them lives.
"""

import time
from collections.abc import Iterable

import structlog
from celery import Celery

from rlm_dist.celery_app import queue_is_empty, send_root
from rlm_dist.errors import NotFound
from rlm_dist.leases import LEASE_MS, SWEEP_S, Every
from rlm_dist.models import Role
from rlm_dist.store import Store

log = structlog.get_logger()

_MOST_JOBS = 100
_WAITING_MS = 5_000


class Reaper:
    """A thread that looks for such jobs every few seconds."""

    def __init__(self, app: Celery, store: Store, *, prefix: str) -> None:
        self._app = app
        self._store = store
        self._prefix = prefix
        self._last_sweep = time.monotonic()
        self._not_before = 0.0
        self._every = Every(self._sweep, period_s=SWEEP_S, name="reaper")

    def close(self) -> None:
        """Stop looking."""
        self._every.close()

    def _sweep(self) -> None:
        self._store.now_ms()  # returns only once Redis can be reached
        now = time.monotonic()
        if now - self._last_sweep > 2 * SWEEP_S:
            self._not_before = now + LEASE_MS / 1000
        self._last_sweep = now
        if now < self._not_before:
            return
        self._send("job_lapsed", self._store.lapsed_jobs(_MOST_JOBS))
        if queue_is_empty(self._app):
            self._send("job_message_lost", self._store.waiting_jobs(_WAITING_MS, _MOST_JOBS))

    def _send(self, event: str, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            if self._ours(job_id):
                log.warning(event, job=job_id)
                send_root(self._app, job_id)

    def _ours(self, job_id: str) -> bool:
        try:
            prefix = self._store.job(job_id).spec.broker_prefix
        except NotFound:
            return False
        if prefix == self._prefix:
            return True
        return not any(name.startswith(f"{prefix}{Role.SUB}@") for name in self._store.live_workers())
