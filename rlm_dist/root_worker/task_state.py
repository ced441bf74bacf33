"""What Celery's tools see of a job that has ended: a root task succeeds only if its job has an answer.

============================  ================  ====================================================
the job                       the task          how
============================  ================  ====================================================
succeeded                     SUCCESS           it returns
failed, exhausted             FAILURE           it raises ``NoAnswer``
cancelled                     REVOKED           it raises ``JobCancelled``; see ``RootRequest``
goes on elsewhere, or later   SUCCESS           it returns: this task has done its part
============================  ================  ====================================================

The message was acknowledged when the task began, and the job's state is stored before the task ends. So
nothing here changes whether a job runs again.
"""

from collections.abc import Callable
from typing import Any

from celery.exceptions import Ignore

from rlm_dist.errors import NoAnswer
from rlm_dist.schema import ErrorInfo, JobState, Outcome
from rlm_dist.worker.revocation import UnstoppableRequest

# The messages of these errors are ours, and hold numbers only; that of a failed call is the endpoint's.
_OWN_WORDS = frozenset({"LimitExceeded", "poison", "stalled"})


class JobCancelled(Ignore):
    """The job of this task was cancelled."""


class RootRequest(UnstoppableRequest):
    """A root task as Celery's event loop knows it."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Announce the task of a cancelled job as revoked; Celery does so only if its process was killed."""
        error = exc_info.exception
        if isinstance(getattr(error, "exc", error), JobCancelled):
            request: Any = self  # the stubs lack it
            request._announce_revoked("cancelled", False, None, False)
            return None
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)


def root_request(on_end: Callable[[], None], on_cancel: Callable[[], None]) -> type[RootRequest]:
    """The class of root tasks that call ``on_end`` when they have ended and their slot is free again.

    Celery cancels those under way at a cold shutdown, and waits for them in a signal handler: ``on_cancel``.
    """

    class WakingRequest(RootRequest):
        """One that says when it has ended, or has to."""

        def cancel(self, *args: Any, **kwargs: Any) -> None:
            on_cancel()

        def on_success(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().on_success(*args, **kwargs)
            finally:
                on_end()

        def on_failure(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().on_failure(*args, **kwargs)
            finally:
                on_end()

    return WakingRequest


def show_outcome(job_id: str, outcome: Outcome) -> None:
    """Return if the job has an answer.

    Raises:
        NoAnswer: if it failed or was exhausted.
        JobCancelled: if it was cancelled.
    """
    if outcome.state is JobState.CANCELLED:
        raise JobCancelled
    if outcome.state is not JobState.SUCCEEDED:
        raise NoAnswer(job_id, outcome.state.value, _reason(outcome.error))


def _reason(error: ErrorInfo | None) -> str:
    """The type of the error, and its message if that can hold no text of a user, model or endpoint."""
    if error is None:
        return "unknown"
    return f"{error.type}: {error.message}" if error.type in _OWN_WORDS else error.type
