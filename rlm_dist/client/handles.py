"""Handles to a submitted job and to a submitted batch.

A handle is an id and access to the store: it can be made again in another process, and no job ends when its
handle is dropped.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.schema import BatchRecord, BatchState, Costs, JobRecord, JobState, Result, Timing
from rlm_dist.schema.events import Event
from rlm_dist.store import Store
from rlm_dist.store.trace import read_trace

_ROUND_S = 30.0
_BLOCK_MS = 1000
_PAGE = 200
_ALL = 2**31


class ClusterAccess(NamedTuple):
    """What handles use: the store, and ``wake``, which starts missing workers before a handle waits.

    ``owner``, the client, closes its connections once nothing refers to it, so each handle refers to it.
    """

    store: Store
    payloads: Payloads
    wake: Callable[[], None]
    owner: object


class Job:
    """One query over one context."""

    def __init__(self, cluster: ClusterAccess, job_id: str) -> None:
        self._cluster = cluster
        self.id = job_id

    def result(self, timeout: float | None = None) -> Result:
        """Wait until the job ends, in whatever state, and return its result; ``timeout`` is in seconds.

        Raises:
            TimeoutError: if the job has not ended in time; it keeps running.
            NotFound: if the job does not exist, or its retention is over.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        record = self._cluster.store.jobs.get(self.id)
        if not record.state.final:
            self._cluster.wake()
        while not record.state.final:
            remaining_s = _ROUND_S if deadline is None else deadline - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError(f"job {self.id} is still {record.state} after {timeout:g} s")
            record = self._cluster.store.jobs.wait(self.id, min(remaining_s, _ROUND_S))
        return result_of(record)

    def status(self) -> JobState:
        """The job's state."""
        return self._cluster.store.jobs.get(self.id).state

    def record(self) -> JobRecord:
        """The job's record in the store."""
        return self._cluster.store.jobs.get(self.id)

    def cost(self) -> Costs:
        """What the job has used up to now."""
        return self._cluster.store.jobs.costs(self.id)

    def events(self) -> Iterator[Event]:
        """The job's events from its start, then new ones as they happen, until it ends."""
        store, payloads, wake, _ = self._cluster
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


class Batch:
    """Many jobs that were submitted together."""

    def __init__(self, cluster: ClusterAccess, batch_id: str) -> None:
        self._cluster = cluster
        self.id = batch_id

    def status(self) -> BatchState:
        """The batch's state."""
        return self.record().state

    def record(self) -> BatchRecord:
        """The batch's record in the store: its state, the number of jobs in each state, its total."""
        return self._cluster.store.batches.get(self.id)

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
        self._cluster.store.batches.cancel(self.id)

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
