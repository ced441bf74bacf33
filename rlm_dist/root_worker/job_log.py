"""What a root worker logs of a job: its start, its end and how much it used, and what came between."""

import structlog
from structlog.contextvars import bind_contextvars

from rlm_dist.errors import Parked
from rlm_dist.schema import JobRecord, JobState, Outcome

log = structlog.get_logger()

# Any other reason quotes the endpoint.
_OUR_REASONS = frozenset({"its worker stops", "its batch is paused"})


def log_start(record: JobRecord) -> None:
    """Log that this worker runs the job from now on, and name its batch in the lines that follow."""
    spec = record.spec
    event = "job_started" if record.epoch == 1 else "job_recovered" if record.recovered else "job_resumed"
    models = {"model": spec.model, "sub_model": spec.sub_model}
    _bind(record)
    log.info(event, epoch=record.epoch, **models)


def log_park(record: JobRecord, parked: Parked) -> None:
    """Log that the job goes back to the queue."""
    why = parked.why if parked.why in _OUR_REASONS else "the endpoint refused a call"
    log.info("job_parked", epoch=record.epoch, why=why)


def log_end(record: JobRecord, outcome: Outcome) -> None:
    """Log how the job ended, and what it used by then."""
    _bind(record)
    costs = record.costs
    log.info(
        "job_ended",
        epoch=record.epoch,
        state=outcome.state.value,
        why=_why(outcome),
        turns=outcome.iterations,
        root_calls=costs.root_llm_calls,
        sub_calls=costs.sub_llm_calls,
        failed_calls=costs.failed_calls,
        tokens=costs.root_llm_tokens + costs.sub_llm_tokens,
        seconds=round(record.run_ms(record.ended_ms or 0) / 1000, 3) if record.ended_ms else None,
        usd=costs.total_cost,
    )


def _bind(record: JobRecord) -> None:
    if record.spec.batch_id is not None:
        bind_contextvars(batch=record.spec.batch_id)


def _why(outcome: Outcome) -> str | None:
    """The type of the error, or the limits that the job met; None if there was neither."""
    limits = ",".join(outcome.limits_reached) or None
    if outcome.error is None or (outcome.state is JobState.EXHAUSTED and limits):
        return limits
    return outcome.error.type
