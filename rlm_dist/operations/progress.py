"""The progress of a batch: its speed, its forecast cost, and what it waits for."""

from rlm_dist.operations.forecast import Projection, project
from rlm_dist.operations.pace import Pace, Rates
from rlm_dist.schema import BatchRecord, BatchState, JobState, Running, Wire
from rlm_dist.schema.limits import ScopeState
from rlm_dist.store import Store

ENDED_STATES = (BatchState.COMPLETED, BatchState.CANCELLED)
_SAMPLE = 1000
_SLOWEST = 3


class SlowJob(Wire):
    """One of the jobs that have run longest."""

    custom_id: str
    run_s: float
    job: Running


class BatchView(Wire):
    """What ``status`` and Flower show of a batch beside its record."""

    rates: Rates | None
    projection: Projection
    slowest: list[SlowJob]
    endpoints: list[ScopeState]


def ended(record: BatchRecord) -> int:
    """The number of jobs of a batch that have ended."""
    return sum(count for state, count in record.counts.items() if JobState(state).final)


def view(store: Store, record: BatchRecord, pace: Pace) -> BatchView:
    """Take a snapshot of a batch; ``pace`` holds the samples of earlier snapshots."""
    now_ms = store.connection.now_ms()
    running = [job for job in store.jobs.running() if job.batch_id == record.id]
    projection = project(
        ended=store.batches.last_ended(record.id, _SAMPLE),
        running=running,
        left=max(0, (record.total or 0) - ended(record)),
        spent_usd=record.costs.total_cost,
        now_ms=now_ms,
    )
    slowest = running[:_SLOWEST]
    records = store.jobs.records([job.job_id for job in slowest])
    names = [job_record.spec.custom_id if job_record else "" for job_record in records]
    return BatchView(
        rates=pace.look(record.costs, now_ms),
        projection=projection,
        slowest=[
            SlowJob(custom_id=name, run_s=(now_ms - job.started_ms) / 1000, job=job)
            for name, job in zip(names, slowest, strict=True)
        ],
        endpoints=[] if record.state in ENDED_STATES else store.limits.scopes(),
    )
