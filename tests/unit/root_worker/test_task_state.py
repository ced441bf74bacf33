"""A root task ends as its job ended, and its error holds no text of a user, a model or an endpoint."""

import pickle

import pytest

from rlm_dist.errors import NoAnswer
from rlm_dist.root_worker.task_state import JobCancelled, show_outcome
from rlm_dist.schema import ErrorInfo, JobState, Outcome


def ended(state: JobState, kind: str, message: str) -> Outcome:
    """A job that ended without an answer."""
    return Outcome(state=state, partial_answer="secret", error=ErrorInfo(type=kind, message=message))


def test_an_answer_is_a_success() -> None:
    show_outcome("j1", Outcome(state=JobState.SUCCEEDED, answer="42"))


def test_a_cancelled_job_is_neither_a_success_nor_a_failure() -> None:
    with pytest.raises(JobCancelled) as raised:
        show_outcome("j1", ended(JobState.CANCELLED, "Cancelled", "secret"))
    assert isinstance(pickle.loads(pickle.dumps(raised.value)), JobCancelled)  # noqa: S301  # on its way to the parent


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (ended(JobState.FAILED, "invalid", "secret prompt"), "invalid"),
        (ended(JobState.FAILED, "SandboxError", "secret"), "SandboxError"),
        (ended(JobState.FAILED, "poison", "its worker died"), "poison: its worker died"),
        (
            ended(JobState.EXHAUSTED, "LimitExceeded", "limit max_usd reached"),
            "LimitExceeded: limit max_usd reached",
        ),
        (Outcome(state=JobState.FAILED), "unknown"),
    ],
)
def test_a_job_without_an_answer_is_a_failure_with_a_reason(outcome: Outcome, reason: str) -> None:
    with pytest.raises(NoAnswer) as raised:
        show_outcome("j1", outcome)
    error = pickle.loads(pickle.dumps(raised.value))  # noqa: S301  # on its way to the parent
    assert (error.job_id, error.state, error.reason) == ("j1", outcome.state, reason)
    assert "secret" not in repr(error) + str(error)
