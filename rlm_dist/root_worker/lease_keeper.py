"""The leases of all jobs of a process, renewed together; and the traces of these jobs, stored beside that.

Invariant: no job can delay the renewal of another's lease. The renewals are one trip to Redis. What a job has
to do when its run must end, and to store its trace, happens in other threads.
"""

import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from rlm_dist.errors import Unreachable
from rlm_dist.schema.leases import LEASE_MS, RENEW_S
from rlm_dist.store.jobs import JobStore, Renewal, RenewalReply
from rlm_dist.worker.heartbeats import PeriodicThread

log = structlog.get_logger()


class KeptLease(Protocol):
    """One job's lease; none of these methods waits for anything but ``flush``."""

    def renewal(self, *, waits: bool, stopping: bool) -> Renewal: ...

    def renewed(self, reply: RenewalReply) -> None: ...

    def flush(self) -> None: ...


class LeaseKeeper:
    """Renews leases every ``RENEW_S``, in one thread, and lets each store its trace as often, in another.

    ``waits()`` says that no job can do anything, as the endpoint is away; ``stopping()`` that this process
    stops.
    """

    def __init__(self, jobs: JobStore, *, stopping: Callable[[], bool], waits: Callable[[], bool]) -> None:
        self._jobs = jobs
        self._stopping = stopping
        self._waits = waits
        self._lock = threading.Lock()
        self._renewing = threading.Lock()  # held during a round of renewals
        self._leases: list[KeptLease] = []
        self._heart = PeriodicThread(self.beat, period_s=RENEW_S, name="leases")
        self._flusher = PeriodicThread(self._flush, period_s=RENEW_S, name="traces")

    def close(self) -> None:
        """Stop renewing."""
        self._heart.close()
        self._flusher.close()

    def add(self, lease: KeptLease) -> None:
        """Renew this lease from the next round on."""
        with self._lock:
            self._leases.append(lease)

    def remove(self, lease: KeptLease) -> None:
        """Renew it no more: once this returns, no renewal of it is under way."""
        with self._lock:
            self._leases.remove(lease)
        with self._renewing:
            pass

    def beat(self) -> None:
        """Renew all leases now."""
        if not self._kept():
            return
        waits, stopping = self._waits(), self._stopping()
        with self._renewing:
            leases = self._kept()
            renewals = [lease.renewal(waits=waits, stopping=stopping) for lease in leases]
            replies = self._replies(renewals)
        for lease, reply in zip(leases, replies, strict=True):
            if reply is not None:
                lease.renewed(reply)

    def _kept(self) -> list[KeptLease]:
        with self._lock:
            return list(self._leases)

    def _replies(self, renewals: list[Renewal]) -> list[RenewalReply | None]:
        """The replies in order; None for a job whose state Redis cannot handle, which hits no other job."""
        try:
            return list(self._jobs.renew_all(renewals, LEASE_MS))
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001  # the error of one job
            log.warning("renewals_failed", error=type(error).__name__)
        return [self._reply(renewal) for renewal in renewals]

    def _reply(self, renewal: Renewal) -> RenewalReply | None:
        try:
            (reply,) = self._jobs.renew_all([renewal], LEASE_MS)
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001
            log.warning("renewal_failed", job=renewal.job_id, error=type(error).__name__)
            return None
        return reply

    def _flush(self) -> None:
        for lease in self._kept():
            lease.flush()
