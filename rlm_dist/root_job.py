"""One run of one job on a root worker: its REPL, its calls, its lease, and the engine between them.

While the job runs, a heartbeat renews its lease. What the heartbeat learns (cancelled, out of time, taken
over by another worker) stops whatever the job waits for: a cell, a root call, a sub-call.
"""

import time

from rlm_dist import engine
from rlm_dist.errors import Cancelled, LimitExceeded, RLMError, Superseded
from rlm_dist.events import Emit, Event, RootReplied
from rlm_dist.fanout import Fanout
from rlm_dist.journal import Journal
from rlm_dist.leases import LEASE_MS, RENEW_S, Every
from rlm_dist.models import JobSpec, Outcome
from rlm_dist.root_calls import RootCalls
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.store import Store


class RootJob:
    """A job that this worker holds at ``epoch``."""

    def __init__(
        self,
        *,
        spec: JobSpec,
        epoch: int,
        started_ms: int,
        store: Store,
        calls: RootCalls,
        fanout: Fanout,
        sandbox: Sandbox,
        emit: Emit,
    ) -> None:
        self._spec = spec
        self._epoch = epoch
        self._started_ms = started_ms
        self._store = store
        self._calls = calls
        self._fanout = fanout
        self._sandbox = sandbox
        self._sink = emit
        self._began = time.monotonic()
        self._over_time: LimitExceeded | None = None

    def run(self) -> Outcome:
        """Run the root loop to its end.

        Raises:
            Superseded: where another worker took the job over.
        """
        journal = Journal(
            self._store.read_journal(self._spec.id),
            lambda entry: self._store.append_journal(self._spec.id, self._epoch, entry),
        )
        heart = Every(self._beat, period_s=RENEW_S, name=f"lease-{self._spec.id}")
        try:
            self._sandbox.start()
            return engine.run(
                self._spec,
                complete=self._calls.complete,
                repl=_Repl(self._sandbox, self._fanout),
                journal=journal,
                emit=self._emit,
                budget=self._budget,
            )
        finally:
            heart.close()
            self._sandbox.close()
            self._fanout.close()

    def _emit(self, event: Event) -> None:
        if isinstance(event, RootReplied):
            self._fanout.turn = event.turn
        self._sink(event)

    def _beat(self) -> None:
        limit = self._spec.limits.max_seconds
        used = time.monotonic() - self._began
        if limit is not None and used > limit:
            self._stop(LimitExceeded("max_seconds", round(used, 1), limit))
        try:
            if self._store.renew_job(self._spec.id, self._epoch, LEASE_MS) == "cancelled":
                self._stop(Cancelled(self._spec.id))
        except Superseded as error:
            self._stop(error)

    def _stop(self, error: RLMError) -> None:
        self._calls.abort(error)
        self._fanout.abort(error)
        self._sandbox.abort(error)

    def _budget(self) -> str | None:
        return None


class _Repl:
    """The sandbox as the engine sees it: starting it again also starts the naming of its calls again."""

    def __init__(self, sandbox: Sandbox, fanout: Fanout) -> None:
        self._sandbox = sandbox
        self._fanout = fanout
        self.run = sandbox.run
        self.resolve = sandbox.resolve

    def restart(self) -> None:
        self._fanout.rewind()
        self._sandbox.restart()
