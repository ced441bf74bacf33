"""One run of one job on a root worker: the engine, with the job's REPL, calls and lease.

A heartbeat renews the lease from the start of the job. If it learns that the run must end (the job is
cancelled, out of time, paused or taken over by another worker, or this worker stops), it aborts whatever the
job waits for: a cell, a root call or a sub-call.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.engine import loop as engine
from rlm_dist.engine.compaction import RootWindow
from rlm_dist.engine.journal import BudgetHint, Journal
from rlm_dist.engine.prompts.families import PromptTexts
from rlm_dist.errors import NotFound, RLMError
from rlm_dist.root_worker.answer_review import AnswerReview
from rlm_dist.root_worker.children import ChildJobs
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.job_lease import JobLease
from rlm_dist.root_worker.journal_writer import JournalWriter
from rlm_dist.root_worker.repl import JobRepl
from rlm_dist.root_worker.root_calls import RootCalls
from rlm_dist.root_worker.run_counts import RunCounts
from rlm_dist.root_worker.session_rebuild import SessionRebuild
from rlm_dist.schema import NANO, Completion, Message, Outcome
from rlm_dist.schema.events import REPLAY_DIVERGED, Emit, Event, Marked, RootReplied
from rlm_dist.store import Store
from rlm_dist.store.jobs import TakenJob
from rlm_dist.worker.accounts import Accounts

_WARN_AT = 0.75


class RootJob:
    """A job leased by this worker, or one sample of it, with everything needed to run it."""

    def __init__(
        self,
        *,
        taken: TakenJob,
        lease: JobLease,
        store: Store,
        payloads: Payloads,
        calls: RootCalls,
        fan_out: FanOut,
        journal: JournalWriter,
        repl: JobRepl,
        emit: Emit,
        accounts: Accounts,
        review: AnswerReview | None = None,
        children: ChildJobs | None = None,
        window: RootWindow,
        texts: PromptTexts | None,
        sample: int = 0,
        counts: RunCounts,
    ) -> None:
        """The samples of a job share ``counts``."""
        self._children = children
        self._window = window
        self._texts = texts
        self._sample = sample
        self._counts = counts
        self._spec = taken.record.spec
        self._epoch = taken.record.epoch
        self._lease = lease
        self._store = store
        self._payloads = payloads
        self._calls = calls
        self._fan_out = fan_out
        self._journal = journal
        self._repl = repl
        self._sink = emit
        self._review = review
        self._accounts = accounts
        self._has_journal = taken.has_journal
        self._shares_budget = taken.shares_budget

    def run(self) -> Outcome:
        """Run the root loop to its end; the last entries of the journal wait for its outcome to be stored.

        Raises:
            Superseded: if another worker took the job over.
            Parked: if the job has to go back to the queue.
            RLMError: if the REPL cannot be started, or the store cannot be reached.
        """
        session = self._session_of()
        keeps_code = self._spec.session is not None
        entries = self._journal.read() if self._has_journal else ()
        journal = Journal(entries, self._journal.write, self._sample, keeps_code=keeps_code)
        self._lease.on_lost(self.stop)
        try:
            self._repl.sandbox.start()
            outcome = engine.run(
                self._spec,
                complete=self._complete,
                repl=self._repl,
                journal=journal,
                emit=self._emit,
                budget=self._budget if self._has_limits or self._has_budget else None,
                review=self._review,
                window=self._window,
                texts=self._texts,
                tools=self._repl.tool_docs,
                begin_session=None if session is None else partial(session.begin, journal),
            )
            if session is not None:
                with suppress(NotFound):  # the answer is good all the same
                    session.keep()
            return outcome
        finally:
            self._repl.close()
            self._fan_out.close()
            if self._children is not None:
                self._children.close()

    def _session_of(self) -> SessionRebuild | None:
        """What the job's session has to rebuild; None if there is nothing."""
        place = self._spec.session
        if place is None or not (place.position or place.added):
            return None
        return SessionRebuild(
            self._spec, place, store=self._store, payloads=self._payloads,
            accounts=self._accounts, repl=self._repl, emit=self._emit,
        )  # fmt: skip

    def _emit(self, event: Event) -> None:
        if isinstance(event, Marked) and event.kind == REPLAY_DIVERGED:
            self._counts.diverge(partial(self._store.jobs.note_divergence, self._spec.id, self._epoch))
        elif isinstance(event, RootReplied):
            self._counts.begin_turn(self._sample, event.turn)
        self._sink(event)

    def flush(self) -> None:
        """Store the entries of the journal that wait.

        Raises:
            Superseded: if another worker took the job over.
            LimitExceeded: if the job has no room for them.
        """
        self._journal.flush()

    def leave_room(self) -> None:
        """Give free what the run kept of the budgets, if other samples of the job go on."""
        self._calls.leave_room()

    def stop(self, error: RLMError) -> None:
        """Stop whatever the run waits for, because of ``error``."""
        self._calls.abort(error)
        self._fan_out.abort(error)
        if self._children is not None:
            self._children.abort(error)
        self._repl.abort(error)
        if self._review is not None:
            self._review.abort(error)

    @property
    def _has_limits(self) -> bool:
        """Whether the job is limited in what needs no room to be kept for its next root calls."""
        limits = self._spec.limits
        return limits.max_seconds is not None or limits.max_sub_calls is not None

    @property
    def _has_budget(self) -> bool:
        """Whether money or tokens are limited; one that is shared counts if it was set at the start."""
        limits = self._spec.limits
        return self._shares_budget or limits.max_nanousd is not None or limits.max_tokens is not None

    def _complete(self, messages: Sequence[Message]) -> Completion:
        completion = self._calls.complete(messages)
        if self._has_budget:
            self._calls.keep_room()
        return completion

    def _budget(self, chars: int) -> BudgetHint:
        """Notes to the model on limits with less than a quarter left, and whether only one turn is left.

        The next request has this many characters.
        """
        error = self._lease.over_time()
        if error is not None:
            raise error
        notes = [
            f"{kind} {limit - used:.4g} of {limit:.4g}"
            for kind, used, limit in self._used()
            if used > _WARN_AT * limit
        ]
        text = f"Little is left of your budget: {', '.join(notes)}." if notes else None
        return BudgetHint(text, self._calls.keep_room_for_two(chars) if self._has_budget else None)

    def _used(self) -> Iterator[tuple[str, float, float]]:
        """The kind, the amount used and the limit, for each limit that this job has."""
        limits = self._spec.limits
        if limits.max_seconds is not None:
            yield "seconds", self._lease.used_s, limits.max_seconds
        near = limits.max_sub_calls is not None and (
            self._spec.samples > 1 or self._fan_out.asked > _WARN_AT * limits.max_sub_calls
        )
        if limits.max_nanousd is None and limits.max_tokens is None and not near:
            return  # most jobs are far from their limit: do not read the ledger after each turn
        costs = self._store.jobs.costs(self._spec.id)
        if limits.max_nanousd is not None and costs.total_cost is not None:
            yield "USD", costs.total_cost, limits.max_nanousd / NANO
        if limits.max_tokens is not None:
            yield "tokens", costs.root_llm_tokens + costs.sub_llm_tokens, limits.max_tokens
        if limits.max_sub_calls is not None:
            yield "sub-calls", costs.sub_llm_calls, limits.max_sub_calls
