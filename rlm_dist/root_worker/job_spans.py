"""The spans of one run of a job: the job, its turns, its cells and its root calls.

What the journal replays was recorded by an earlier run and is not recorded again. The turn in which that
run broke off is recorded by the run that ends the turn, and the job by the run that ends the job.
"""

import time

from rlm_dist.otel import attributes
from rlm_dist.otel.spans import Attributes, FinishedSpan, Spans, cell_span, job_span, traceparent, turn_span
from rlm_dist.schema import CallRequest, CallResult, JobRecord, Outcome
from rlm_dist.schema.events import CellRan, Emit, Event, MessageAdded, RootReplied
from rlm_dist.store import Settlement
from rlm_dist.worker.call_ids import part_of
from rlm_dist.worker.call_spans import record_call


class JobSpans:
    """Records the spans of one run of a job; if ``spans`` is off, every method returns at once."""

    def __init__(self, spans: Spans, record: JobRecord, sample: int = 0) -> None:
        self._spans = spans
        self._record = record
        self._job_id = record.spec.id
        self._part = f"{record.spec.id} {part_of(sample)}" if sample else record.spec.id
        self._samples: list[JobSpans] = []
        self._turn = 0
        self._replied = False
        self._is_new = False  # whether this run did something in the turn that an earlier one had not
        self._turn_began_ns = time.time_ns()

    def watch(self, emit: Emit) -> Emit:
        """A function that passes events on to ``emit`` and records the spans that end with them."""
        if not self._spans.on:
            return emit

        def note_and_emit(event: Event) -> None:
            self._note(event)
            emit(event)

        return note_and_emit

    def root_call(self, request: CallRequest, result: CallResult, settlement: Settlement) -> None:
        """Record a call of the root model, made in the present turn."""
        self._is_new = True
        record_call(self._spans, self._job_id, turn_span(self._part, self._turn), request, result, settlement)

    def cell(self, turn: int, code: str) -> str | None:
        """What names the span of this cell to those who work for it; None if nobody wants spans."""
        return traceparent(self._job_id, cell_span(self._part, turn, code)) if self._spans.on else None

    def of_sample(self, sample: int) -> "JobSpans":
        """Those of a sample, whose turns are recorded beside those of others; they end with the job."""
        self._samples.append(JobSpans(self._spans, self._record, sample))
        return self._samples[-1]

    def end(self, outcome: Outcome) -> None:
        """Record the job, which has ended, and its last turn. Its span begins with its submission."""
        if not self._spans.on:
            return
        for spans in (self, *self._samples):
            spans._end_turn()
        spec = self._record.spec
        self._send(
            "invoke_agent rlm",
            self._record.queued_ms * 1_000_000,
            attributes.job_attributes(
                spec, epoch=self._record.epoch, outcome=outcome, content=self._spans.content
            ),
            span_id=job_span(spec.id),
            parent=None,
            error=outcome.error.type if outcome.error else None,
        )

    def _note(self, event: Event) -> None:
        match event:
            case RootReplied():
                self._turn, self._replied = event.turn, True
                self._is_new |= not event.replayed
            case CellRan() if not event.replayed:
                self._is_new = True
                self._send_cell(event)
            case MessageAdded(role="user") if self._replied:  # what the turn's code printed
                self._end_turn()

    def _send_cell(self, cell: CellRan) -> None:
        self._send(
            "execute_tool python",
            time.time_ns() - int(cell.seconds * 1e9),
            attributes.cell_attributes(self._job_id, cell, content=self._spans.content),
            span_id=cell_span(self._part, cell.turn, cell.code),
            parent=turn_span(self._part, cell.turn),
            error="error" if cell.error else None,
        )

    def _end_turn(self) -> None:
        if self._is_new:
            self._send(
                "turn",
                self._turn_began_ns,
                attributes.turn_attributes(self._job_id, self._turn),
                span_id=turn_span(self._part, self._turn),
                parent=job_span(self._job_id),
                error=None,
            )
        self._turn, self._replied, self._is_new = self._turn + 1, False, False
        self._turn_began_ns = time.time_ns()

    def _send(
        self,
        name: str,
        began_ns: int,
        said: Attributes,
        *,
        span_id: int,
        parent: int | None,
        error: str | None,
    ) -> None:
        self._spans.record(
            FinishedSpan(
                job_id=self._job_id,
                name=name,
                began_ns=began_ns,
                ended_ns=time.time_ns(),
                attributes=said,
                parent=parent,
                span_id=span_id,
                kind="consumer" if parent is None else "internal",
                error=error,
            )
        )
