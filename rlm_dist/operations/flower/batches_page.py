"""The data of the pages of batches and of running jobs."""

import hashlib
import time
from typing import Any, NamedTuple

from rlm_dist.operations.flower.access import PageAccess
from rlm_dist.operations.flower.live import Version
from rlm_dist.operations.forecast import Range
from rlm_dist.operations.progress import ENDED_STATES, BatchView, ended
from rlm_dist.schema import BatchRecord, BatchState, JobState

SHOWN = 25
MOST_SHOWN = 200
_RUNNING = 100
# In the order in which a bar shows them.
_BAR = (JobState.SUCCEEDED, JobState.EXHAUSTED, JobState.FAILED, JobState.CANCELLED, JobState.RUNNING)


class BarPart(NamedTuple):
    """A part of a progress bar, in percent of its width."""

    state: JobState
    start: float
    width: float


class BatchCard(NamedTuple):
    """A batch as the list and the head of its page show it."""

    record: BatchRecord
    snapshot: BatchView
    ended: int
    bar: list[BarPart]
    actions: list[str]

    @property
    def is_live(self) -> bool:
        """Whether the batch can still change."""
        return self.record.state not in ENDED_STATES

    @property
    def projected(self) -> Range | None:
        """The money in the end, if it is known and differs from what was spent."""
        projection = self.snapshot.projection
        return projection.usd if self.is_live and projection.jobs_left else None

    @property
    def left(self) -> Range | None:
        """The seconds until the end."""
        projection = self.snapshot.projection
        running = self.record.state is BatchState.RUNNING
        return projection.left_s if running and projection.jobs_left else None


def batches(access: PageAccess, shown: int) -> dict[str, Any]:
    """The newest batches."""
    records = access.store.batches.newest(shown + 1)
    return {
        "cards": [card(access, record) for record in records[:shown]],
        "more": min(MOST_SHOWN, shown * 2) if len(records) > shown and shown < MOST_SHOWN else None,
    }


def card(access: PageAccess, record: BatchRecord) -> BatchCard:
    """A batch with its progress."""
    return BatchCard(record, access.snapshots.of(record), ended(record), _bar(record), _actions(record))


def batches_version(access: PageAccess) -> Version:
    """What the list of batches shows now."""
    return Version(_digest(access.store.batches.newest(SHOWN)))


def batch_version(access: PageAccess, batch_id: str) -> Version:
    """What the page of a batch shows now."""
    record = access.store.batches.get(batch_id)
    is_final = record.state in ENDED_STATES and not record.counts[JobState.RUNNING]
    seconds = "" if is_final else str(time.monotonic() // 5)  # what is left changes with the time
    return Version(_digest(record) + seconds)


def running_jobs(access: PageAccess, batch_id: str | None = None, limit: int = _RUNNING) -> dict[str, Any]:
    """The jobs that workers hold, of one batch or of all: the oldest ones, and their number."""
    jobs = [job for job in access.store.jobs.running() if batch_id is None or job.batch_id == batch_id]
    shown = jobs[:limit]
    rows = {row.id: row for row in access.store.lists.rows([job.job_id for job in shown])}
    return {
        "running": [(job, rows[job.job_id]) for job in shown if job.job_id in rows],
        "running_total": len(jobs),
        "in_flight": sum(job.calls_in_flight for job in jobs),
    }


def jobs(access: PageAccess) -> dict[str, Any]:
    """The running jobs of all batches, and the newest jobs."""
    newest = access.store.jobs.newest(20)
    rows = access.store.lists.rows([record.spec.id for record in newest])
    batches_of = {record.spec.id: record.spec.batch_id for record in newest}
    return {**running_jobs(access), "newest": [(row, batches_of[row.id]) for row in rows]}


def jobs_version(access: PageAccess) -> Version:
    """What the page of running jobs shows now."""
    return Version(_digest(access.store.jobs.running()))


def _bar(record: BatchRecord) -> list[BarPart]:
    total = max(record.total or 0, sum(record.counts.values()))
    parts, start = [], 0.0
    for state in _BAR:
        width = 100 * record.counts.get(state, 0) / total if total else 0
        if width:
            parts.append(BarPart(state, round(start, 2), round(width, 2)))
        start += width
    return parts


def _actions(record: BatchRecord) -> list[str]:
    """What an operator can do with a batch in this state."""
    unanswered = sum(
        record.counts.get(state, 0) for state in (JobState.FAILED, JobState.EXHAUSTED, JobState.CANCELLED)
    )
    live = {BatchState.RUNNING: ["pause", "cancel"], BatchState.PAUSED: ["resume", "cancel"]}
    return live.get(record.state, []) + (["retry"] if unanswered else [])


def _digest(value: object) -> str:
    return hashlib.blake2b(repr(value).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
