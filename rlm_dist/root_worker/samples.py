"""The samples of one job: the same query, run several times by one worker, and one answer made of theirs.

Each sample is a ``RootJob``: REPL, chat, journal entries and call ids are its own; lease, ledger, context and
budgets are the job's. Up to ``AT_ONCE`` of them run side by side, in threads: each REPL takes memory, and a
worker runs other jobs too.

The outcome of a sample that has an answer goes into the journal, as an entry of its own kind:
``{"v":1,"t":"sample_ended","turn":0,"sample":1,"outcome":"<packed>"}``. It is not run again, neither by a
worker that takes the job over nor after a retry; ``lua/job_retry.lua`` knows how such an entry begins.
"""

import contextvars
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog
from pydantic import ValidationError

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.engine import votes
from rlm_dist.errors import (
    BlobError,
    CallError,
    Cancelled,
    LimitExceeded,
    Parked,
    RLMError,
    Superseded,
    UnknownPrice,
    Unreachable,
)
from rlm_dist.root_worker.fan_out import FanOut
from rlm_dist.root_worker.job import RootJob
from rlm_dist.root_worker.job_lease import JobLease
from rlm_dist.schema import ErrorInfo, JobRecord, JobState, Message, Outcome
from rlm_dist.schema.events import Emit, Marked
from rlm_dist.store import Store
from rlm_dist.worker.failpoints import failpoint

log = structlog.get_logger()

AT_ONCE = 4
JUDGE = "judge"  # the part of a job that asks the judge
_ENTRY = "sample_ended"
_JUDGE_TRIES = 2


class Samples:
    """The samples of a job that this worker leases; ``make`` makes the run of one."""

    def __init__(
        self,
        *,
        record: JobRecord,
        lease: JobLease,
        store: Store,
        payloads: Payloads,
        make: Callable[[int], RootJob],
        judge: Callable[[], FanOut],
        emit: Emit,
    ) -> None:
        self._spec = record.spec
        self._epoch = record.epoch
        self._lease = lease
        self._store = store
        self._payloads = payloads
        self._make = make
        self._judge = judge
        self._emit = emit
        self._lock = threading.Lock()
        self._running: list[RootJob] = []
        self._error: RLMError | None = None

    def run(self) -> Outcome:
        """Run the samples that have no answer yet, and reduce the outcomes of all to one.

        Raises:
            Superseded: if another worker took the job over.
            Parked: if the job has to go back to the queue.
            Unreachable: if Redis cannot be reached.
        """
        outcomes = self._answered()
        self._lease.on_lost(self._stop)
        left = [number for number in range(self._spec.samples) if number not in outcomes]
        if left:
            with ThreadPoolExecutor(min(AT_ONCE, len(left)), thread_name_prefix="sample") as pool:
                futures = [
                    pool.submit(contextvars.copy_context().run, self._run_one, number) for number in left
                ]
            outcomes |= {number: future.result() for number, future in zip(left, futures, strict=True)}
        cancelled = [item for _, item in sorted(outcomes.items()) if item.state is JobState.CANCELLED]
        if cancelled:
            return cancelled[0].model_copy(
                update={"iterations": sum(o.iterations for o in outcomes.values())}
            )
        failpoint("samples.ended", self._spec.id)
        return self._reduce(outcomes)

    def _run_one(self, number: int) -> Outcome:
        """The outcome of a sample. What concerns the whole job is raised, and stops the other samples."""
        try:
            outcome = self._finished(number)
            if outcome.state is JobState.SUCCEEDED:
                self._note(number, outcome)
            return outcome
        except RLMError as error:
            if _whole_job(error):
                self._stop(error)
                raise
            return _ended_by(error)
        except Exception as error:
            log.exception("sample_crashed", sample=number)
            return _ended_by(RLMError(f"internal error: {type(error).__name__}"))

    def _finished(self, number: int) -> Outcome:
        """Run a sample to its end."""
        self._raise_error()
        run = self._make(number)
        with self._lock:
            self._running.append(run)
        try:
            self._raise_error()  # it may have come in between
            outcome = run.run()
            run.flush()
            return outcome
        finally:
            with self._lock:
                self._running.remove(run)
            with suppress(RLMError):  # unless it was stored above
                run.flush()
            with suppress(RLMError):  # what matters of it, the others will meet
                run.leave_room()

    def _raise_error(self) -> None:
        """Raise the error that ends the whole run, if there is one."""
        if self._error is not None:
            raise self._error

    def _stop(self, error: RLMError) -> None:
        """Stop the samples that run, and let no other begin."""
        with self._lock:
            self._error = self._error or error
            running = list(self._running)
        for run in running:
            run.stop(error)

    def _answered(self) -> dict[int, Outcome]:
        """The outcomes of the samples that have had an answer, as far as they can still be read."""
        outcomes: dict[int, Outcome] = {}
        for entry in self._store.journals.read(self._spec.id):
            if entry.startswith(_head()):
                with suppress(BlobError, ValidationError, ValueError, KeyError):
                    fields = json.loads(entry)
                    text = self._payloads.unpack(fields["outcome"])
                    outcomes[fields["sample"]] = Outcome.model_validate_json(text)
        return {number: item for number, item in outcomes.items() if number in range(self._spec.samples)}

    def _note(self, number: int, outcome: Outcome) -> None:
        """Write down the outcome of a sample; without room for it, the sample would be replayed."""
        with suppress(BlobError, LimitExceeded):
            packed = self._payloads.pack(self._spec.id, outcome.model_dump_json())
            fields = {"turn": 0, "sample": number, "outcome": packed}
            entry = _head() + json.dumps(fields, separators=(",", ":"))[1:]
            self._store.journals.append(self._spec.id, self._epoch, entry)
            failpoint("sample.ended", self._spec.id)

    def _reduce(self, outcomes: dict[int, Outcome]) -> Outcome:
        found = votes.candidates(outcomes)
        if self._spec.reduce == "judge" and len(found) > 1 and not votes.too_few(outcomes, found):
            choice = self._chosen(found)
            if choice is not None:
                self._mark("judged", f"answer of sample {found[choice].samples[0] + 1}")
                return votes.chosen(outcomes, choice)
            self._mark("judge_unusable", "the votes are counted instead")
        ballot = votes.majority(outcomes)
        if ballot.tied:
            self._mark("vote_tied", "the answer of the lowest sample number among the tied ones is taken")
        return ballot.outcome

    def _chosen(self, found: Sequence[votes.Candidate]) -> int | None:
        """The index of the candidate that the judge chose; None if it named none, or could not be asked."""
        fan_out = self._judge()
        self._lease.on_lost(fan_out.abort)
        prompt = votes.judge_prompt(self._spec.query, found)
        asked: tuple[Message, ...] = prompt
        try:
            for _ in range(_JUDGE_TRIES):
                (answer,) = fan_out.query([asked], None)
                choice = votes.choice_of(answer.text, len(found))
                if choice is not None:
                    return choice
                asked = votes.judged_again(prompt, answer.text)
        except (CallError, LimitExceeded, UnknownPrice):
            pass  # the samples are paid for: their votes count
        finally:
            fan_out.close()
        return None

    def _mark(self, kind: str, detail: str) -> None:
        self._emit(Marked(turn=0, kind=kind, detail=detail))


def _head() -> str:
    """How an entry of a sample that has ended begins."""
    return f'{{"v":1,"t":"{_ENTRY}",'


def _whole_job(error: RLMError) -> bool:
    """Whether an error ends the run of the whole job, not just that of a sample."""
    if isinstance(error, Unreachable):
        return error.service == "Redis"
    return isinstance(error, Parked | Superseded)


def _ended_by(error: RLMError) -> Outcome:
    state = JobState.FAILED
    if isinstance(error, Cancelled):
        state = JobState.CANCELLED
    elif isinstance(error, LimitExceeded):
        state = JobState.EXHAUSTED
    return Outcome(
        state=state,
        error=ErrorInfo(type=type(error).__name__, message=str(error)),
        limits_reached=(error.kind,) if isinstance(error, LimitExceeded) else (),
    )
