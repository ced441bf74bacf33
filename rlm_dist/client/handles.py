"""Handles to a submitted job and to a submitted batch.

A handle is an id and access to the store: it can be made again in another process, and no job ends when its
handle is dropped. A pickled handle holds no address and no password: the process that unpickles it uses its
own settings.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, Unpack

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import Blobs
from rlm_dist.broker.app import message_lists
from rlm_dist.client.option_types import RetryOptions
from rlm_dist.errors import Cancelled, JobFailed
from rlm_dist.schema import BatchRecord, BatchState, Costs, JobRecord, JobState, Result, Timing
from rlm_dist.schema.events import Event
from rlm_dist.store import Store
from rlm_dist.store.trace import read_trace

_ROUND_S = 30.0
_BLOCK_MS = 1000
_PAGE = 200
_ALL = 2**31


class HandleOwner(Protocol):
    """The client that made a handle."""

    def retry(self, batch_id: str, **options: Unpack[RetryOptions]) -> int:
        """Run again the jobs of a batch that ended without an answer."""

    def pickled(self, handle: "Job | Batch") -> tuple[Callable[..., Any], tuple[str, ...]]:
        """A function that makes the handle again in another process, and its arguments."""


class ClusterAccess(NamedTuple):
    """What handles use: the store, and ``wake``, which starts missing workers before a handle waits.

    ``owner``, the client, closes its connections once nothing refers to it, so each handle refers to it.
    """

    store: Store
    blobs: Blobs
    payloads: Payloads
    wake: Callable[[], None]
    owner: HandleOwner


class Job:
    """One query over one context."""

    def __init__(self, cluster: ClusterAccess, job_id: str) -> None:
        self._cluster = cluster
        self._last: JobState | None = None
        self.id = job_id

    def __repr__(self) -> str:
        return f"<Job {self.id}{_last_seen(self._last)}>"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return self._cluster.owner.pickled(self)

    def result(self, timeout: float | None = None) -> Result:
        """Wait until the job ends, in whatever state, and return its result; ``timeout`` is in seconds.

        Raises:
            TimeoutError: if the job has not ended in time; it keeps running.
            NotFound: if the job does not exist, or its retention is over.
        """
        return result_of(self._ended(timeout))

    def wait(self, timeout: float | None = None) -> JobState:
        """Wait like ``result``, but return only the state in which the job ended."""
        return self._ended(timeout).state

    def wake(self) -> None:
        """Start the client's own workers, if they are needed for the job to end."""
        if not self.record().state.final:
            self._cluster.wake()

    def raise_for_state(self) -> None:
        """Raise if the job has ended without an answer; it may not have ended yet.

        Raises:
            JobFailed, Cancelled: as ``Result.raise_for_state``.
        """
        record = self.record()
        if record.state.final:
            result_of(record).raise_for_state()

    def _ended(self, timeout: float | None) -> JobRecord:
        deadline = None if timeout is None else time.monotonic() + timeout
        record = self._cluster.store.jobs.get(self.id)
        if not record.state.final:
            self._cluster.wake()
        while not record.state.final:
            remaining_s = _ROUND_S if deadline is None else deadline - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError(f"job {self.id} is still {record.state} after {timeout:g} s")
            record = self._cluster.store.jobs.wait(self.id, min(remaining_s, _ROUND_S))
        self._last = record.state
        return record

    def status(self) -> JobState:
        """The job's state."""
        return self.record().state

    def record(self) -> JobRecord:
        """The job's record in the store."""
        record = self._cluster.store.jobs.get(self.id)
        self._last = record.state
        return record

    def cost(self) -> Costs:
        """What the job has used up to now."""
        return self._cluster.store.jobs.costs(self.id)

    def events(self) -> Iterator[Event]:
        """The job's events from its start, then new ones as they happen, until it ends."""
        store, payloads, wake = self._cluster.store, self._cluster.payloads, self._cluster.wake
        after = "0"
        if not store.jobs.get(self.id).state.final:
            wake()
        while True:
            # Checked first: if the job has ended, all of its events are stored and are read below.
            has_ended = store.jobs.get(self.id).state.final
            for traced in read_trace(store.journals, self.id, payloads, after=after):
                after = traced.id
                yield traced.event
            if has_ended:
                return
            store.journals.read_events(self.id, after, block_ms=_BLOCK_MS)

    def cancel(self) -> JobState:
        """Cancel the job: a queued one ends at once, a running one within seconds."""
        return self._cluster.store.jobs.cancel(self.id)

    def delete(self) -> int:
        """Remove the job, which must have ended, with all that is stored for it.

        Returns the number of blobs (contexts and long texts) that no other job used and that are gone, too.

        Raises:
            InputError: if it has not ended, or belongs to a batch.
        """
        return _delete_blobs(self._cluster, self._cluster.store.jobs.delete(self.id))


class Batch:
    """Many jobs that were submitted together."""

    def __init__(self, cluster: ClusterAccess, batch_id: str) -> None:
        self._cluster = cluster
        self._last: BatchState | None = None
        self.id = batch_id

    def __repr__(self) -> str:
        return f"<Batch {self.id}{_last_seen(self._last)}>"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return self._cluster.owner.pickled(self)

    def __len__(self) -> int:
        """The number of its jobs, as far as they are submitted."""
        return sum(self.record().counts.values())

    def __bool__(self) -> bool:
        return True  # also while it is empty

    def status(self) -> BatchState:
        """The batch's state."""
        return self.record().state

    def record(self) -> BatchRecord:
        """The batch's record in the store: its state, the number of jobs in each state, its total."""
        record = self._cluster.store.batches.get(self.id)
        self._last = record.state
        return record

    def wait(self, timeout: float | None = None) -> BatchState:
        """Wait until all its jobs have ended; return its state. ``timeout`` is in seconds.

        Raises:
            TimeoutError: if some have not ended in time; they keep running.
            NotFound: if the batch does not exist, or its retention is over.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._wake()
        while not _complete(record := self.record()):
            remaining_s = _BLOCK_MS / 1000 if deadline is None else deadline - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError(f"batch {self.id} is still {record.state} after {timeout:g} s")
            block_ms = max(1, min(_BLOCK_MS, int(remaining_s * 1000)))
            self._cluster.store.batches.ended_jobs(self.id, "$", block_ms)
        return record.state

    def raise_for_state(self) -> None:
        """Raise if jobs have ended without an answer; others may not have ended yet.

        Raises:
            JobFailed: for the first of them; its message says how many there are.
            Cancelled: if the batch was cancelled.
        """
        record = self.record()
        if record.state is BatchState.CANCELLED:
            raise Cancelled(self.id)
        lists = self._cluster.store.lists
        unanswered = sum(record.counts.get(state, 0) for state in (JobState.FAILED, JobState.EXHAUSTED))
        for state in (JobState.FAILED, JobState.EXHAUSTED):
            for row in lists.page(self.id, state=state, limit=1).rows:
                raise JobFailed(row.id, row.reason, f"{unanswered} of {len(self)} jobs have no answer")

    def jobs(self) -> list[Job]:
        """The jobs submitted up to now, in the order of submission."""
        return [
            Job(self._cluster, job_id) for job_id in self._cluster.store.batches.job_ids(self.id, 0, _ALL)
        ]

    def cost(self) -> Costs:
        """What all jobs have used up to now."""
        return self._cluster.store.batches.costs(self.id)

    def cancel(self) -> None:
        """Cancel every job that has not ended."""
        self._cluster.store.batches.cancel(self.id, message_lists)

    def delete(self) -> int:
        """Remove the batch, which must have ended, with its jobs; otherwise like ``Job.delete``."""
        return _delete_blobs(self._cluster, self._cluster.store.batches.delete(self.id))

    def pause(self) -> None:
        """Start no more jobs and sub-calls, and let calls under way finish."""
        self._cluster.store.batches.pause(self.id)

    def resume(self) -> None:
        """End the pause."""
        self._cluster.store.batches.resume(self.id)

    def retry(self, **options: Unpack[RetryOptions]) -> int:
        """Run again the jobs that ended without an answer, as ``Client.retry``; return their number."""
        return self._cluster.owner.retry(self.id, **options)

    def finish(self, stalled_after: float) -> list[Job]:
        """Fail the running jobs that have made no progress for this many seconds; return them."""
        job_ids = self._cluster.store.jobs.end_stalled(self.id, stalled_after)
        return [Job(self._cluster, job_id) for job_id in job_ids]

    def results(self) -> Iterator[Result]:
        """The results in order of completion; ends when the batch does."""
        return map(result_of, self.ended())

    def ended(self) -> Iterator[JobRecord]:
        """The jobs in order of completion; ends when the batch does."""
        store = self._cluster.store
        self._wake()
        after = "0"
        while True:
            # Checked first: if no more jobs can end, all that have ended are read below.
            complete = _complete(self.record())
            ended_jobs = store.batches.ended_jobs(self.id, after, None if complete else _BLOCK_MS)
            yield from filter(None, store.jobs.records([job_id for _, job_id in ended_jobs]))
            if complete and not ended_jobs:
                return
            after = ended_jobs[-1][0] if ended_jobs else after

    def ended_in_order(self) -> Iterator[JobRecord]:
        """The jobs that have ended up to now, in the order of submission."""
        store, start = self._cluster.store, 0
        while job_ids := store.batches.job_ids(self.id, start, _PAGE):
            yield from (record for record in store.jobs.records(job_ids) if record and record.state.final)
            start += len(job_ids)

    def results_in_order(self) -> Iterator[Result]:
        """The results in the order of submission, each as soon as it and all before it are available."""
        self._wake()
        position = 0
        while True:
            complete = _complete(self.record())
            job_ids = self._cluster.store.batches.job_ids(self.id, position, _PAGE)
            for job_id in job_ids:
                yield Job(self._cluster, job_id).result()
            position += len(job_ids)
            if complete and not job_ids:
                return
            if not job_ids:  # all that were submitted up to now have ended, and more are being submitted
                self._cluster.store.batches.ended_jobs(self.id, "$", _BLOCK_MS)

    def _wake(self) -> None:
        if not _complete(self.record()):
            self._cluster.wake()


def _delete_blobs(cluster: ClusterAccess, hashes: Iterable[str]) -> int:
    unique = set(hashes)
    for sha256 in unique:
        cluster.blobs.delete(sha256)
    return len(unique)


def _last_seen(state: JobState | BatchState | None) -> str:
    return "" if state is None else f", last seen {state}"


def result_of(record: JobRecord) -> Result:
    """A job as results show it; without an outcome if the job has not ended."""
    outcome = record.outcome
    return Result(
        id=record.spec.id,
        custom_id=record.spec.custom_id,
        batch_id=record.spec.batch_id,
        state=record.state,
        answer=outcome.answer if outcome else None,
        answer_json=outcome.answer_json if outcome else None,
        partial_answer=outcome.partial_answer if outcome else None,
        error=outcome.error if outcome else None,
        iterations=outcome.iterations if outcome else 0,
        limits_reached=outcome.limits_reached if outcome else (),
        votes=outcome.votes if outcome else (),
        isolation=record.isolation,
        costs=record.costs,
        timing=Timing(
            queued_s=_seconds(record.queued_ms, record.started_ms),
            run_s=record.run_ms(record.ended_ms) / 1000 if record.started_ms and record.ended_ms else None,
        ),
    )


def _seconds(start_ms: int | None, end_ms: int | None) -> float | None:
    return None if start_ms is None or end_ms is None else (end_ms - start_ms) / 1000


def _complete(record: BatchRecord) -> bool:
    """Whether no more jobs of the batch can end."""
    closed = record.sealed or record.state is BatchState.CANCELLED
    return closed and all(state.final or count == 0 for state, count in record.counts.items())
