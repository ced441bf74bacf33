"""Lists of a batch's jobs, as people filter, sort and page them."""

from enum import StrEnum

from pydantic import Field

from rlm_dist.schema.base import Wire
from rlm_dist.schema.batches import BatchRecord
from rlm_dist.schema.costs import Costs
from rlm_dist.schema.jobs import JobState


class JobOrder(StrEnum):
    """What jobs are sorted by: their line, or what an ended one used.

    Units are nano-dollars, milliseconds that workers had it, turns of the root loop, and sub-calls.
    """

    INDEX = "index"
    COST = "cost"
    TIME = "time"
    TURNS = "turns"
    CALLS = "calls"


class JobRow(Wire):
    """One job in a list; times are Unix milliseconds.

    ``run_ms`` is how long workers have had it, None if none has. ``reason`` says in a word why it has no
    answer: the limit that ended it, or the type of its error; '' otherwise. ``custom_id`` is '' if the job's
    own retention is over, and then only ``id`` and ``state`` mean anything. ``tags`` are those of a
    single job.
    """

    id: str
    custom_id: str
    batch_id: str | None = None
    state: JobState
    reason: str = ""
    turns: int = 0
    sub_calls: int = 0
    queued_ms: int = 0
    started_ms: int | None = None
    ended_ms: int | None = None
    run_ms: int | None = None
    worker: str | None = None
    isolation: str | None = None
    recoveries: int = 0
    diverged_cells: int = 0
    tags: dict[str, str] = Field(default={})
    costs: Costs = Costs()


class ChildRow(Wire):
    """A child of a job; its costs are those of its own children too. Times are Unix milliseconds."""

    id: str
    custom_id: str
    state: JobState
    depth: int
    turns: int = 0
    costs: Costs = Costs()
    started_ms: int | None = None
    ended_ms: int | None = None

    @property
    def seconds(self) -> float | None:
        """The time from its first start to its end; None until it has ended."""
        if self.started_ms is None or self.ended_ms is None:
            return None
        return (self.ended_ms - self.started_ms) / 1000


class JobPage(Wire):
    """Some jobs of a list in order; ``next`` is the cursor of the page after it, None if it is the last."""

    rows: tuple[JobRow, ...]
    next: str | None = None


class BatchPage(Wire):
    """Some batches in order; ``next`` is the cursor of the page after it, None if it is the last."""

    rows: tuple[BatchRecord, ...]
    next: str | None = None


class TagCosts(Wire):
    """What the batches and single jobs with one value of a tag have used; None: those without it."""

    tag: str
    value: str | None
    batches: int
    single_jobs: int
    costs: Costs


class Bucket(Wire):
    """How many jobs lie at ``low`` or above and below ``high``, in the units of their order."""

    low: int
    high: int
    count: int
