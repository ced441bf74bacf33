"""One run of one job on a root worker: its REPL, its calls, its lease, and the engine between them.

From the moment that the job is taken up, a heartbeat renews its lease. What the heartbeat learns (cancelled,
out of time, paused, taken over by another worker, this worker is to stop) stops whatever the job waits for:
a cell, a root call, a sub-call.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from rlm_dist import chaos, engine
from rlm_dist.errors import CallError, Cancelled, LimitExceeded, Parked, RLMError, Superseded
from rlm_dist.events import REPLAY_DIVERGED, Emit, Event, Marked, RootReplied
from rlm_dist.fanout import Fanout
from rlm_dist.journal import Journal
from rlm_dist.leases import LEASE_MS, RENEW_S, Every
from rlm_dist.models import NANO, Answer, CellResult, JobRecord, Message, Outcome, Resolved
from rlm_dist.root_calls import RootCalls
from rlm_dist.sandbox.host import Sandbox
from rlm_dist.store import Store

_TELL_AT = 0.75


class Repl:
    """The sandbox as the engine sees it, with the job's fan-out behind its ``llm_query``."""

    def __init__(self, fanout: Fanout) -> None:
        self._fanout = fanout
        self._sandbox: Sandbox | None = None

    def query(self, prompts: Sequence[tuple[Message, ...]], model: str | None) -> list[Answer]:
        """What the sandbox is given as ``llm_query``; a call that fails every other one too ends the cell."""
        try:
            return self._fanout.query(prompts, model)
        except CallError as error:
            self.sandbox.abort(error)
            raise

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox that ``use`` was given."""
        assert self._sandbox is not None
        return self._sandbox

    def use(self, sandbox: Sandbox) -> None:
        """Run cells here from now on."""
        self._sandbox = sandbox

    def run(self, code: str, began_ns: int, /) -> CellResult:
        """Run a code block, whose clock starts at this time."""
        return self.sandbox.run(code, began_ns)

    def resolve(self, path: str, /) -> Resolved:
        """Look up a variable or a simple path."""
        return self.sandbox.resolve(path)

    def restart(self) -> None:
        """Begin again with nothing but the context; calls are named from the start again."""
        self._fanout.rewind()
        self.sandbox.restart()


class Held:
    """A job that this worker holds at ``record.epoch``: a heartbeat keeps it while the context is open.

    ``ran_ms`` is how long it has run up to now; its clock stands still while ``waits``, asked at each beat,
    says that it can do nothing, as the endpoint is away. ``each_beat`` is called with the heartbeat.
    """

    def __init__(
        self,
        record: JobRecord,
        store: Store,
        *,
        ran_ms: int,
        stopping: Callable[[], bool],
        waits: Callable[[], bool],
        each_beat: Callable[[], None],
    ) -> None:
        self._job_id = record.spec.id
        self._epoch = record.epoch
        self._limit_s = record.spec.limits.max_seconds
        self._store = store
        self._stopping = stopping
        self._waits = waits
        self._each_beat = each_beat
        self._error: RLMError | None = None
        self._stop: Callable[[RLMError], None] | None = None
        self._last_beat = time.monotonic()
        self._began = self._last_beat - ran_ms / 1000
        self._heart = Every(self._beat, period_s=RENEW_S, name=f"lease-{self._job_id}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._heart.close()

    @property
    def used_s(self) -> float:
        """How long the job has run, the runs of earlier holders included."""
        return time.monotonic() - self._began

    def when_lost(self, stop: Callable[[RLMError], None]) -> None:
        """Have ``stop`` called with the reason once the job is to be let go; at once where it is already."""
        self._stop = stop
        if self._error is not None:
            stop(self._error)

    def over_time(self) -> LimitExceeded | None:
        """The limit on the job's time, where it is over."""
        if self._limit_s is None or self.used_s <= self._limit_s:
            return None
        return LimitExceeded("max_seconds", round(self.used_s, 1), self._limit_s)

    def _beat(self) -> None:
        stopped_s = self._stopped_s()
        over = self.over_time()
        if over is not None:
            self._tell(over)
        if self._stopping():
            self._tell(Parked(self._job_id, "its worker stops"))
        try:
            told = self._store.renew_job(self._job_id, self._epoch, LEASE_MS, round(stopped_s * 1000))
        except Superseded as error:
            self._tell(error)
            return
        if told == "cancelled":
            self._tell(Cancelled(self._job_id))
        elif told == "paused":
            self._tell(Parked(self._job_id, "its batch is paused"))
        self._each_beat()

    def _stopped_s(self) -> float:
        """For how long the job's clock stood still since the last beat."""
        last, self._last_beat = self._last_beat, time.monotonic()
        stopped_s = self._last_beat - last if self._waits() else 0.0
        self._began += stopped_s
        return stopped_s

    def _tell(self, error: RLMError) -> None:
        self._error = self._error or error
        if self._stop is not None:
            self._stop(error)


class RootJob:
    """A job that this worker holds, with all that is needed to run it."""

    def __init__(
        self,
        *,
        record: JobRecord,
        held: Held,
        store: Store,
        calls: RootCalls,
        fanout: Fanout,
        repl: Repl,
        emit: Emit,
    ) -> None:
        self._spec = record.spec
        self._epoch = record.epoch
        self._held = held
        self._store = store
        self._calls = calls
        self._fanout = fanout
        self._repl = repl
        self._sink = emit
        self._diverged = 0

    def run(self) -> Outcome:
        """Run the root loop to its end.

        Raises:
            Superseded: where another worker took the job over.
            Parked: where the job is to be given back to the queue.
            RLMError: where the REPL cannot be started, or the store cannot be reached.
        """
        journal = Journal(self._store.read_journal(self._spec.id), self._write)
        self._held.when_lost(self._stop)
        try:
            self._repl.sandbox.start()
            return engine.run(
                self._spec,
                complete=self._calls.complete,
                repl=self._repl,
                journal=journal,
                emit=self._emit,
                budget=self._budget if self._limited else None,
            )
        finally:
            self._repl.sandbox.close()
            self._fanout.close()

    def _emit(self, event: Event) -> None:
        if isinstance(event, RootReplied):
            self._fanout.turn = event.turn
        if isinstance(event, Marked) and event.kind == REPLAY_DIVERGED:
            self._diverged += 1
            self._store.note_divergence(self._spec.id, self._epoch, self._diverged)
        self._sink(event)

    def _write(self, entry: str) -> None:
        chaos.point("journal.write", self._spec.id)
        self._store.append_journal(self._spec.id, self._epoch, entry)
        chaos.point("journal.written", self._spec.id)

    def _stop(self, error: RLMError) -> None:
        self._calls.abort(error)
        self._fanout.abort(error)
        self._repl.sandbox.abort(error)

    @property
    def _limited(self) -> bool:
        limits = self._spec.limits
        kinds = (limits.max_seconds, limits.max_nanousd, limits.max_tokens, limits.max_sub_calls)
        return any(limit is not None for limit in kinds)

    def _budget(self) -> str | None:
        """What is left, for the model, of every limit of which less than a quarter is."""
        over = self._held.over_time()
        if over is not None:
            raise over
        told = [
            f"{kind} {limit - used:.4g} of {limit:.4g}"
            for kind, used, limit in self._used()
            if used > _TELL_AT * limit
        ]
        return f"Little is left of your budget: {', '.join(told)}." if told else None

    def _used(self) -> Iterator[tuple[str, float, float]]:
        """Kind, used and limit of each limit that this job has."""
        limits = self._spec.limits
        if limits.max_seconds is not None:
            yield "seconds", self._held.used_s, limits.max_seconds
        if limits.max_nanousd is None and limits.max_tokens is None and limits.max_sub_calls is None:
            return
        costs = self._store.costs(self._spec.id)
        if limits.max_nanousd is not None and costs.total_cost is not None:
            yield "USD", costs.total_cost, limits.max_nanousd / NANO
        if limits.max_tokens is not None:
            yield "tokens", costs.root_llm_tokens + costs.sub_llm_tokens, limits.max_tokens
        if limits.max_sub_calls is not None:
            yield "sub-calls", costs.sub_llm_calls, limits.max_sub_calls
