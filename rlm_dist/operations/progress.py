"""The progress of batches: their speed, forecast cost, failures, and what they wait for.

``status``, ``top`` and Flower show these figures.
"""

from collections import defaultdict
from collections.abc import Iterable

from rlm_dist.operations.forecast import Projection, project
from rlm_dist.operations.pace import Pace, Rates
from rlm_dist.schema import BatchRecord, BatchState, JobState, Role, Running, Wire
from rlm_dist.schema.limits import ScopeState
from rlm_dist.store import Store

ENDED_STATES = (BatchState.COMPLETED, BatchState.CANCELLED)
WITHOUT_ANSWER = (JobState.FAILED, JobState.EXHAUSTED, JobState.CANCELLED)
_SAMPLE = 1000
_SLOWEST = 3
_REASONS = 5
_FIRST = 3
_BATCHES = 20
_JOBS = 30


class SlowJob(Wire):
    """One of the jobs that have run longest."""

    custom_id: str
    run_s: float
    job: Running


class Unanswered(Wire):
    """How many jobs ended without an answer for one reason, and the names of the first three."""

    reason: str
    count: int
    first: tuple[str, ...]


class BatchView(Wire):
    """What ``status`` and Flower show of a batch beside its record.

    ``elapsed_s`` is the time from its creation to now, or to the end of its last job. ``unanswered`` has the
    five most frequent reasons. While the batch has not ended, ``workers`` counts those alive by role (root
    workers by slot), and ``missing_workers`` has the roles of which there is none.
    """

    elapsed_s: float
    rates: Rates | None
    projection: Projection
    slowest: list[SlowJob]
    endpoints: list[ScopeState]
    unanswered: list[Unanswered]
    workers: dict[Role, int]
    missing_workers: list[Role]


class BatchProgress(Wire):
    """A batch that has not ended."""

    record: BatchRecord
    view: BatchView


class Overview(Wire):
    """What runs now: the newest batches that have not ended, the jobs that have run longest, the endpoints.

    ``running`` and ``calls_in_flight`` are of all jobs; workers are counted by role, those of the root role
    by process.
    """

    batches: list[BatchProgress]
    jobs: list[SlowJob]
    running: int
    calls_in_flight: int
    workers: dict[Role, int]
    endpoints: list[ScopeState]


class Monitor:
    """Takes overviews, one after another; keeps the samples that rates are made of."""

    def __init__(self) -> None:
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)

    def look(self, store: Store) -> Overview:
        """Take an overview."""
        batches = [batch for batch in store.batches.newest(_BATCHES) if batch.state not in ENDED_STATES]
        running = store.jobs.running()
        return Overview(
            batches=[
                BatchProgress(record=batch, view=view(store, batch, self._paces[batch.id]))
                for batch in batches
            ],
            jobs=_named(store, running[:_JOBS], store.connection.now_ms()),
            running=len(running),
            calls_in_flight=sum(job.calls_in_flight for job in running),
            workers={role: len(store.workers.live(role)) for role in Role},
            endpoints=store.limits.scopes(),
        )


def ended(record: BatchRecord) -> int:
    """The number of jobs of a batch that have ended."""
    return sum(count for state, count in record.counts.items() if JobState(state).final)


def without_answer(record: BatchRecord) -> int:
    """The number of jobs of a batch that have ended without an answer."""
    return sum(record.counts.get(state, 0) for state in WITHOUT_ANSWER)


def missing_workers(store: Store) -> list[Role]:
    """The roles of which no worker is alive."""
    return [role for role in Role if not store.workers.live(role)]


def view(store: Store, record: BatchRecord, pace: Pace) -> BatchView:
    """Take a snapshot of a batch; ``pace`` holds the samples of earlier snapshots."""
    now_ms = store.connection.now_ms()
    running = [job for job in store.jobs.running() if job.batch_id == record.id and job.parent_id is None]
    has_ended = record.state in ENDED_STATES
    ended_jobs = store.batches.last_ended(record.id, _SAMPLE)
    end_ms = ended_jobs[0].ended_ms if has_ended and ended_jobs else now_ms
    workers = {} if has_ended else {role: len(store.workers.live(role)) for role in Role}
    projection = project(
        ended=ended_jobs,
        running=running,
        left=max(0, (record.total or 0) - ended(record)),
        spent_usd=record.costs.total_cost,
        now_ms=now_ms,
    )
    return BatchView(
        elapsed_s=max(0.0, (end_ms - record.created_ms) / 1000),
        rates=pace.look(record.costs, now_ms),
        projection=projection,
        slowest=_named(store, running[:_SLOWEST], now_ms),
        endpoints=[] if has_ended else store.limits.scopes(),
        unanswered=_unanswered(store, record) if without_answer(record) else [],
        workers=workers,
        missing_workers=[role for role, count in workers.items() if not count],
    )


def _named(store: Store, jobs: list[Running], now_ms: int) -> list[SlowJob]:
    records = store.jobs.records([job.job_id for job in jobs])
    return [
        SlowJob(
            custom_id=record.spec.custom_id if record else "", run_s=(now_ms - job.started_ms) / 1000, job=job
        )
        for record, job in zip(records, jobs, strict=True)
    ]


def _unanswered(store: Store, record: BatchRecord) -> list[Unanswered]:
    counts = store.lists.reasons(record.id)
    return [
        Unanswered(reason=reason, count=counts[reason], first=_first(store, record.id, reason))
        for reason in _most_frequent(counts.items())
    ]


def _most_frequent(counts: Iterable[tuple[str, int]]) -> list[str]:
    return [reason for reason, _ in sorted(counts, key=lambda item: -item[1])[:_REASONS]]


def _first(store: Store, batch_id: str, reason: str) -> tuple[str, ...]:
    page = store.lists.page(batch_id, reason=reason, limit=_FIRST)
    return tuple(row.custom_id or row.id for row in page.rows)
