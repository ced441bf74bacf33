"""A submitted job, and a submitted batch, as their owner holds them.

A handle is an id and a way to the store: it can be made again in another process, and nothing ends with it.
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
    """What handles ask: the store, and ``wake``, which sees that there are workers before one waits.

    ``owner`` closes what is its own when nobody holds it any more, so a handle holds it.
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
        """Wait for the job's end, whatever end that is, and return it; ``timeout`` is in seconds.

        Raises:
            TimeoutError: where the job has not ended in time; it goes on.
            NotFound: where there is no such job, or its retention time is over.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        record = self._cluster.store.jobs.get(self.id)
        if not record.state.final:
            self._cluster.wake()
        while not record.state.final:
            left = _ROUND_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"job {self.id} is still {record.state} after {timeout:g} s")
            record = self._cluster.store.jobs.wait(self.id, min(left, _ROUND_S))
        return result_of(record)

    def status(self) -> JobState:
        """Where the job is in its life."""
        return self._cluster.store.jobs.get(self.id).state

    def record(self) -> JobRecord:
        """What the store knows of the job."""
        return self._cluster.store.jobs.get(self.id)

    def cost(self) -> Costs:
        """What the job has used up to now."""
        return self._cluster.store.jobs.costs(self.id)

    def events(self) -> Iterator[Event]:
        """What has happened in the job, then what happens, until its end."""
        store, payloads, wake, _ = self._cluster
        after = "0"
        if not store.jobs.get(self.id).state.final:
            wake()
        while True:
            # Asked first: what happened up to the end is then read below, all of it.
            ended = store.jobs.get(self.id).state.final
            for traced in read_trace(store.journals, self.id, payloads, after=after):
                after = traced.id
                yield traced.event
            if ended:
                return
            store.journals.read_events(self.id, after, block_ms=_BLOCK_MS)

    def cancel(self) -> JobState:
        """Ask for the job's end: a queued job is cancelled at once, a running one within seconds."""
        return self._cluster.store.jobs.cancel(self.id)


class Batch:
    """Many jobs that were submitted together."""

    def __init__(self, cluster: ClusterAccess, batch_id: str) -> None:
        self._cluster = cluster
        self.id = batch_id

    def status(self) -> BatchState:
        """Where the batch is in its life."""
        return self.record().state

    def record(self) -> BatchRecord:
        """What the store knows of the batch: its state, how many jobs are in each state, its total."""
        return self._cluster.store.batches.get(self.id)

    def jobs(self) -> list[Job]:
        """Its jobs that are submitted up to now, in the order of submission."""
        return [
            Job(self._cluster, job_id) for job_id in self._cluster.store.batches.job_ids(self.id, 0, _ALL)
        ]

    def cost(self) -> Costs:
        """What all its jobs have used up to now."""
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
            # Asked first: what ended up to then is read below, all of it.
            complete = _complete(self.record())
            ended = store.batches.ended_jobs(self.id, after, None if complete else _BLOCK_MS)
            yield from filter(None, store.jobs.records([job_id for _, job_id in ended]))
            if complete and not ended:
                return
            after = ended[-1][0] if ended else after

    def ended_in_order(self) -> Iterator[JobRecord]:
        """The jobs that have ended up to now, in the order of submission."""
        store, start = self._cluster.store, 0
        while job_ids := store.batches.job_ids(self.id, start, _PAGE):
            yield from (record for record in store.jobs.records(job_ids) if record and record.state.final)
            start += len(job_ids)

    def results_in_order(self) -> Iterator[Result]:
        """The results in the order of submission, each as soon as it and all before it are there."""
        self._wake()
        done = 0
        while True:
            complete = _complete(self.record())
            job_ids = self._cluster.store.batches.job_ids(self.id, done, _PAGE)
            for job_id in job_ids:
                yield Job(self._cluster, job_id).result()
            done += len(job_ids)
            if complete and not job_ids:
                return
            if not job_ids:  # all that were submitted up to now have ended, and more are being submitted
                self._cluster.store.batches.ended_jobs(self.id, "$", _BLOCK_MS)

    def _wake(self) -> None:
        if not _complete(self.record()):
            self._cluster.wake()


def result_of(record: JobRecord) -> Result:
    """A job as results show it; a job that has not ended has no outcome yet."""
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
    """Whether no job of the batch will end any more."""
    closed = record.sealed or record.state is BatchState.CANCELLED
    return closed and all(state.final or count == 0 for state, count in record.counts.items())
