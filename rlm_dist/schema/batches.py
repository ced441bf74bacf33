"""A batch: its state, and the counts and costs of its jobs."""

from enum import StrEnum

from pydantic import Field

from rlm_dist.schema.base import Wire
from rlm_dist.schema.costs import Costs
from rlm_dist.schema.jobs import JobState


class BatchState(StrEnum):
    """The stage that a batch has reached."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class BatchRecord(Wire):
    """The present state of a batch; ``total`` is None until it is known, ``counts`` has every job state.

    ``pause_reason`` is the endpoint's message, if that paused the batch.
    ``max_usd`` and ``max_tokens`` are what all its jobs may use together; None means no limit.
    ``webhook`` is the state of the webhook that reports the batch's end; None if the batch has no webhook.
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
    tags: dict[str, str] = Field(default={})
    costs: Costs = Costs()
