"""Metrics of a process that serves none: it writes what is to be counted to a pipe, and its parent counts it.

Each line is a ``Measurement`` as JSON, with no prompt, answer or message in it. The end of a process by
``kill -9`` loses none that it had written.
"""

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Self

import structlog

from rlm_dist.schema import CallRequest, CallResult, Outcome, Wire
from rlm_dist.schema.cells import LostBy
from rlm_dist.schema.events import Event, RootReplied, SubCallsAnswered
from rlm_dist.store import Settlement
from rlm_dist.worker.metrics import Unmeasured

log = structlog.get_logger()

_MOST_LINE_BYTES = 1 << 20
# A process that has ended has closed its end, unless a child of it lives on with a copy.
_LAST_LINES_S = 5.0


class CountedCall(Wire):
    """The arguments of ``Unmeasured.call_ended``, without texts."""

    request: CallRequest
    result: CallResult
    settlement: Settlement
    model: str


class Measurement(Wire):
    """One thing to count: a call of a method of ``Unmeasured``, of which one field has the arguments."""

    call: CountedCall | None = None
    reply: RootReplied | None = None
    answered: SubCallsAnswered | None = None
    repl_lost: LostBy | None = None
    job_started: bool | None = None
    job_ended: Outcome | None = None
    duplicate_paid_calls: int | None = None

    def count(self, metrics: Unmeasured) -> None:
        """Count it."""
        if self.call is not None:
            metrics.call_ended(self.call.request, self.call.result, self.call.settlement, self.call.model)
        for event in (self.reply, self.answered):
            if event is not None:
                metrics.event(event)
        if self.repl_lost is not None:
            metrics.repl_lost(self.repl_lost)
        if self.job_started is not None:
            metrics.job_started(recovered=self.job_started)
        if self.job_ended is not None:
            metrics.job_ended(self.job_ended)
        if (duplicates := self.duplicate_paid_calls) is not None:
            metrics.run_ended(lambda: duplicates)


class PipedMetrics(Unmeasured):
    """Writes measurements to the file ``descriptor``, which no child inherits; usable from any thread."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._file = open(descriptor, "wb", buffering=0)  # noqa: SIM115  # open as long as the process
        self._lock = threading.Lock()

    def call_ended(
        self, request: CallRequest, result: CallResult, settlement: Settlement, model: str
    ) -> None:
        """A call ended."""
        call = CountedCall(
            request=CallRequest(role=request.role, model=request.model, messages=()),
            result=_without_texts(result),
            settlement=Settlement(
                "", settlement.role, "", settlement.spend, wasted=settlement.wasted,
                returned=None if settlement.returned is None else "", cached=settlement.cached,
                retries=settlement.retries, rate_limited=settlement.rate_limited,
            ),
            model=model,
        )  # fmt: skip
        self._write(Measurement(call=call))

    def event(self, event: Event) -> None:
        """Something happened in a job."""
        if isinstance(event, RootReplied):
            self._write(Measurement(reply=event))
        elif isinstance(event, SubCallsAnswered):
            self._write(Measurement(answered=event.model_copy(update={"call_ids": ""})))

    def repl_lost(self, lost_by: LostBy) -> None:
        """A REPL's process was lost."""
        self._write(Measurement(repl_lost=lost_by))

    def job_started(self, *, recovered: bool) -> None:
        """A job was taken up."""
        self._write(Measurement(job_started=recovered))

    def job_ended(self, outcome: Outcome) -> None:
        """A job ended here."""
        ended = Outcome(state=outcome.state, limits_reached=outcome.limits_reached)
        self._write(Measurement(job_ended=ended))

    def run_ended(self, duplicate_paid_calls: Callable[[], int]) -> None:
        """A run of a job ended or was parked."""
        self._write(Measurement(duplicate_paid_calls=duplicate_paid_calls()))

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def _write(self, measurement: Measurement) -> None:
        # In ASCII, as the name of a model may hold lone surrogates.
        line = json.dumps(measurement.model_dump(exclude_unset=True)).encode() + b"\n"
        with self._lock, suppress(OSError):  # the parent has gone; numbers are no reason to leave a job
            while line:
                line = line[self._file.write(line) :]


class MetricsPipe:
    """The parent's side: pass ``descriptor`` to one child, call ``follow``; ``close`` waits for its end."""

    def __init__(self, metrics: Unmeasured) -> None:
        self._metrics = metrics
        read_end, self.descriptor = os.pipe()
        self._lines = open(read_end, "rb")  # noqa: SIM115  # closed by its reader, or by close
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def follow(self) -> None:
        """Count what the child writes, which has been started."""
        os.close(self.descriptor)
        self._reader = threading.Thread(
            target=_count_lines, args=(self._lines, self._metrics), name="metrics-pipe", daemon=True
        )
        self._reader.start()

    def close(self) -> None:
        """Wait until everything is counted that the child, which has ended, wrote."""
        if self._reader is None:
            os.close(self.descriptor)
            self._lines.close()
        else:
            self._reader.join(_LAST_LINES_S)


def _count_lines(lines: BinaryIO, metrics: Unmeasured) -> None:
    with lines:
        while line := lines.readline(_MOST_LINE_BYTES):
            try:
                Measurement.model_validate(json.loads(line)).count(metrics)
            except ValueError:  # its process was killed as it wrote, or a name in it is too long
                log.warning("measurement_not_read", bytes=len(line))


def _without_texts(result: CallResult) -> CallResult:
    completion, failure = result.completion, result.failure
    return result.model_copy(
        update={
            "completion": completion and completion.model_copy(update={"text": ""}),
            "failure": failure and failure.model_copy(update={"message": ""}),
        }
    )
