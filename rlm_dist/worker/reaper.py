"""The reaper: puts jobs back on the queue that no worker runs and that have no message in the queue.

There are two kinds: jobs whose worker died (their lease has lapsed), and jobs that wait although the queues
are empty, because their message was lost. If the queues are never empty, the jobs that have waited longest
are sent again, a few at a time, so a lost message costs its job some time, but not its turn.
``JobStore.take_up`` lets only one worker start a job, so an extra message does no harm. Every worker process
runs a reaper.

After Redis was away, leases have lapsed although their holders are alive: the reaper then waits for one
lease's length, in which every living holder renews. A job for workers with another broker prefix is left to
them, and sent from here only if none of them is alive.
"""

from collections.abc import Iterable
from contextlib import suppress

import structlog
from celery import Celery

from rlm_dist.broker.app import AGAIN_QUEUE, root_queue
from rlm_dist.broker.publish import queued, send_root
from rlm_dist.errors import NotFound
from rlm_dist.schema import Role
from rlm_dist.schema.leases import SWEEP_S
from rlm_dist.store import Store
from rlm_dist.worker.heartbeats import OutageDetector, PeriodicThread

log = structlog.get_logger()

_MAX_JOBS = 100
_WAITING_MS = 5_000
_LONG_WAITING_MS = 60_000
_FEW_JOBS = 10


class Reaper:
    """A thread that looks for such jobs every ``SWEEP_S`` seconds."""

    def __init__(self, app: Celery, store: Store, *, prefix: str, max_depth: int = 1) -> None:
        """``max_depth`` is that of the deepest jobs that are served; each depth has its queue."""
        self._app = app
        self._store = store
        self._prefix = prefix
        self._queues = [AGAIN_QUEUE, *(root_queue(depth) for depth in range(max_depth))]
        self._outages = OutageDetector(SWEEP_S)
        self._thread = PeriodicThread(self._sweep, period_s=SWEEP_S, name="reaper")

    def close(self) -> None:
        """Stop looking."""
        self._thread.close()

    def _sweep(self) -> None:
        self._store.connection.now_ms()  # returns only once Redis can be reached
        if not self._outages.over():
            return
        self._send("job_lapsed", self._store.jobs.lapsed(_MAX_JOBS))
        again, *new = queued(self._app, *self._queues)
        if not any(new) and not again:
            self._send("job_message_lost", self._store.jobs.waiting(_WAITING_MS, _MAX_JOBS))
        elif not again:
            self._send("job_waits_long", self._store.jobs.waiting(_LONG_WAITING_MS, _FEW_JOBS))

    def _send(self, event: str, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            with suppress(NotFound):
                spec = self._store.jobs.get(job_id).spec
                if self._may_send(spec.broker_prefix):
                    log.warning(event, job=job_id)
                    send_root(self._app, spec, again=True)

    def _may_send(self, prefix: str) -> bool:
        if prefix == self._prefix:
            return True
        return not any(name.startswith(f"{prefix}{Role.SUB}@") for name in self._store.workers.live())
