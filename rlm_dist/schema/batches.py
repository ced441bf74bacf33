"""A batch as it stands."""

from enum import StrEnum

from rlm_dist.schema.base import Wire
from rlm_dist.schema.costs import Costs
from rlm_dist.schema.jobs import JobState


class BatchState(StrEnum):
    """Where a batch is in its life."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class BatchRecord(Wire):
    """A batch as it stands; ``total`` is None until it is known, ``counts`` has every job state.

    ``pause_reason`` is what the endpoint said, where that paused the batch.
    ``max_usd`` and ``max_tokens`` are what all its jobs may use together; None means no limit.
    ``webhook`` says what came of telling its end, None where nobody is to be told.
    """

    id: str
    state: BatchState
    counts: dict[JobState, int]
    total: int | None
    sealed: bool
    created_ms: int
    calls_in_flight: int = 0
    calls_claimed: int = 0
    webhook: str | None = None
    pause_reason: str | None = None
    max_usd: float | None = None
    max_tokens: int | None = None
    costs: Costs = Costs()
