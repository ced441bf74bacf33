"""What a root worker logs of a job: which event, and why it ended."""

from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from rlm_dist.errors import Parked
from rlm_dist.root_worker.job_log import log_end, log_park, log_start
from rlm_dist.schema import ErrorInfo, JobRecord, JobState, Outcome
from tests.support.store_values import spec

RECORD = JobRecord(spec=spec(), state=JobState.RUNNING, epoch=1, queued_ms=1, started_ms=1000, since_ms=1000)
LIMIT = ErrorInfo(type="LimitExceeded", message="a prompt")


@pytest.fixture(autouse=True)
def nothing_bound() -> Iterator[None]:
    yield
    structlog.contextvars.clear_contextvars()


@pytest.mark.parametrize(
    ("epoch", "recovered", "event"),
    [(1, False, "job_started"), (2, True, "job_recovered"), (3, False, "job_resumed")],
)
def test_a_start_says_whether_the_job_ran_before(epoch: int, recovered: bool, event: str) -> None:
    with capture_logs() as logs:
        log_start(RECORD.model_copy(update={"epoch": epoch, "recovered": recovered}))
    assert [(line["event"], line["epoch"]) for line in logs] == [(event, epoch)]


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome(state=JobState.SUCCEEDED), None),
        (Outcome(state=JobState.SUCCEEDED, limits_reached=("max_usd",)), "max_usd"),
        (
            Outcome(state=JobState.EXHAUSTED, error=LIMIT, limits_reached=("max_usd", "max_tokens")),
            "max_usd,max_tokens",
        ),
        (
            Outcome(state=JobState.EXHAUSTED, error=ErrorInfo(type="RepeatedError", message="x")),
            "RepeatedError",
        ),
        (Outcome(state=JobState.FAILED, error=LIMIT, limits_reached=("max_usd",)), "LimitExceeded"),
    ],
)
def test_an_end_says_why_by_type_or_limit(outcome: Outcome, why: str | None) -> None:
    record = RECORD.model_copy(update={"state": outcome.state, "ended_ms": 3500})
    with capture_logs() as logs:
        log_end(record, outcome)
    (line,) = logs
    assert (line["why"], line["state"], line["seconds"]) == (why, outcome.state, 2.5)
    assert "a prompt" not in str(line)


@pytest.mark.parametrize(
    ("why", "said"),
    [("its worker stops", "its worker stops"), ("HTTP 401: your key, hush", "the endpoint refused a call")],
)
def test_a_park_does_not_quote_the_endpoint(why: str, said: str) -> None:
    with capture_logs() as logs:
        log_park(RECORD, Parked("j", why))
    assert [line["why"] for line in logs] == [said]
