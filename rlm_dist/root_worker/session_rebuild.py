"""Rebuilds what the earlier queries of a session left in the REPL, before the next query begins.

The journaled cells of the earlier jobs run again, in order. Their sub-calls are answered from what those jobs
stored under their own call ids: no model is asked, and nothing is paid. A job that ended without an answer
counts, too: its cells ran. A cell that ended the REPL, or that its job's end cut off, left no variables.
"""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.engine.journal import Journal, RecordedCell
from rlm_dist.engine.prompts.sessions import EarlierQuery, earlier_queries
from rlm_dist.errors import InputError, NotFound, ReplayDiverged, SandboxError
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.repl import JobRepl
from rlm_dist.sandbox.host import EndedQuery
from rlm_dist.schema import CallFailure, CallResult, JobRecord, JobSpec, Outcome, SessionPlace
from rlm_dist.schema.events import REPLAY_DIVERGED, Emit, Marked
from rlm_dist.store import OpenCall, Store, Window
from rlm_dist.worker.accounts import Accounts

_HISTORY_CHARS = 1_000_000  # of each query and of each answer in ``session_history``
_AT_ONCE = 4096
_NOT_MADE = CallResult(
    failure=CallFailure(kind="limit", message="not made: an earlier query of the session did not make it"),
    attempts=0,
).model_dump_json()


class EarlierCalls(FanOut):
    """Serves the ``llm_query`` of a job that has ended from what it stored; it makes no call."""

    def __init__(self, spec: JobSpec, *, store: Store, payloads: Payloads, accounts: Accounts) -> None:
        super().__init__(
            spec=spec, epoch=0, store=store, payloads=payloads, accounts=accounts,
            send=lambda *_: None, queue_is_empty=lambda: False, emit=lambda _: None,
        )  # fmt: skip
        self._window, self._window_at = Window(_AT_ONCE, 1), math.inf  # there is no queue to share

    def _open(self, piece: Sequence[OpenCall], model: str, query: object) -> int:
        ids = [call.call_id for call in piece]
        results = self._store.calls.answers(self._spec.id, ids)
        self._receive({call_id: packed or _NOT_MADE for call_id, packed in zip(ids, results, strict=True)})
        return 0  # counted as cache hits they would change what the earlier job cost

    def _start_reader(self) -> None:
        """Nothing is awaited."""


class _EarlierJob(NamedTuple):
    spec: JobSpec
    outcome: Outcome
    cells: list[RecordedCell]
    calls: EarlierCalls

    @property
    def ended(self) -> EndedQuery:
        answer = self.outcome.answer
        return EndedQuery(self.spec.query[:_HISTORY_CHARS], answer and answer[:_HISTORY_CHARS])


class SessionRebuild:
    """The earlier queries of one job's session."""

    def __init__(
        self, spec: JobSpec, place: SessionPlace, *,
        store: Store, payloads: Payloads, accounts: Accounts, repl: JobRepl, emit: Emit,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._place = place
        self._store = store
        self._payloads = payloads
        self._accounts = accounts
        self._repl = repl
        self._emit = emit
        self._jobs: list[_EarlierJob] = []

    def begin(self, journal: Journal) -> tuple[str, int]:
        """Rebuild the variables; return what to tell the model of them, and the number of their blocks.

        Raises:
            NotFound: if the session's retention is over.
            InputError: if an earlier query has not ended.
            SandboxError: if the variables cannot be rebuilt.
            ReplayDiverged: if a cell differs from its journal and the job is to fail then.
            BlobError: if a part of an earlier job is gone.
        """
        self._jobs = self._read()
        start_s = time.monotonic()
        variables = self._run_again(report=True)
        self._repl.on_restart = self._run_again
        cells = sum(len(job.cells) for job in self._jobs)
        if self._jobs:
            detail = (
                f"query {self._place.position + 1} of session {self._place.id}; blocks run again: {cells}"
            )
            self._mark("session_rebuilt", f"{detail}, in {time.monotonic() - start_s:.2f} s")
        queries = [EarlierQuery(job.spec.query, job.outcome.state, job.outcome.answer) for job in self._jobs]
        return journal.session(lambda: earlier_queries(queries, variables)), cells

    def keep(self) -> None:
        """Restart the retention of the earlier jobs, so that none expires before this one.

        Raises:
            NotFound: if one has expired.
        """
        try:
            self._store.jobs.keep(self._place.earlier_jobs)
        except NotFound:
            raise NotFound("session", self._place.id) from None

    def _read(self) -> list[_EarlierJob]:
        self.keep()
        records = self._store.jobs.records(self._place.earlier_jobs)
        return [self._job(record, number) for number, record in enumerate(records, 1)]

    def _job(self, record: JobRecord | None, number: int) -> _EarlierJob:
        if record is None:
            raise NotFound("session", self._place.id)
        if record.outcome is None:
            raise InputError((f"session {self._place.id}: its query {number} has not ended",))
        spec = record.spec
        entries = [self._payloads.unpack(packed) for packed in self._store.journals.read(spec.id)]
        try:
            cells = Journal(entries, lambda _: None).cells()
        except ValueError as error:
            raise SandboxError(f"query {number} of the session cannot run again: {error}") from None
        calls = EarlierCalls(spec, store=self._store, payloads=self._payloads, accounts=self._accounts)
        return _EarlierJob(spec, record.outcome, cells, calls)

    def _run_again(self, *, report: bool = False) -> Sequence[str]:
        """Run the earlier cells in a REPL that has just started; return a line for each variable."""
        ended: EndedQuery | None = None
        for number, job in enumerate(self._jobs, 1):
            added = len(job.spec.session.added) if job.spec.session else 0
            if ended or added:  # as when it first ran: without either, nothing was begun
                self._repl.sandbox.begin(added, ended)
            job.calls.rewind()
            with self._repl.answered_by(job.calls):
                for cell in job.cells:
                    self._run_cell(job, number, cell, report=report)
            ended = job.ended
        return self._repl.sandbox.begin(len(self._place.added), ended)

    def _run_cell(self, job: _EarlierJob, number: int, cell: RecordedCell, *, report: bool) -> None:
        actual = self._repl.sandbox.run(cell.code, cell.began_ns)
        where = f"query {number}, turn {cell.turn + 1}, block {cell.block + 1}"
        if actual.state_lost:
            raise SandboxError(f"the session's variables cannot be rebuilt: {where} ended the REPL")
        with_output = job.spec.max_output_chars == self._spec.max_output_chars
        if report and not cell.same(actual, with_output=with_output):
            self._mark(REPLAY_DIVERGED, where)
            if self._spec.on_divergence == "fail":
                raise ReplayDiverged(cell.turn, cell.block)

    def _mark(self, kind: str, detail: str) -> None:
        self._emit(Marked(turn=0, kind=kind, detail=detail))
