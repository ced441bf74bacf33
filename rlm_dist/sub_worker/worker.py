"""The worker process that runs sub-calls, many at once, and renews their leases."""

from collections.abc import Callable

from celery import Celery

from rlm_dist.schema import Role
from rlm_dist.schema.leases import LEASE_MS, RENEW_S
from rlm_dist.settings import Settings
from rlm_dist.sub_worker.calls import SubCalls
from rlm_dist.worker.heartbeats import PeriodicThread
from rlm_dist.worker.metrics import Unmeasured
from rlm_dist.worker.process import Worker


class SubWorker(Worker):
    """A process that runs sub-calls, many at once; ``wants_more`` is that of ``SubCalls``."""

    def __init__(
        self,
        app: Celery,
        settings: Settings,
        *,
        slots: int,
        wants_more: Callable[[], None],
        metrics: Unmeasured,
    ) -> None:
        super().__init__(app, settings, Role.SUB, slots=slots, metrics=metrics)
        self._slots = slots
        self.calls = SubCalls(
            calls=self.store.calls, payloads=self.payloads, llm=self.llm, accounts=self.accounts,
            owner=self.owner, slots=slots, wants_more=wants_more, spans=self.spans,
        )  # fmt: skip
        self._heart = PeriodicThread(self._beat, period_s=RENEW_S, name="leases")

    def close(self) -> None:
        """Close the threads and connections made here."""
        self._heart.close()
        self.calls.close()
        super().close()

    def _beat(self) -> None:
        self.store.workers.announce_slots(self.owner, self._slots, ttl_ms=LEASE_MS)
        leased = self.calls.held()
        if leased:
            unwanted = self.store.calls.renew(self.owner, leased, LEASE_MS)
            self.calls.abort(unwanted.cancelled)
            for job_id in unwanted.ended:
                self.llm.drop(job_id)
        self.calls.look()
