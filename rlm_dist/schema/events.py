"""What happens in a job, as frozen events handed to one ``emit`` callable.

The trace of a job is the list of its events in order; ``EVENT`` parses a stored one back.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from rlm_dist.schema.base import Wire
from rlm_dist.schema.costs import Usage
from rlm_dist.schema.jobs import ContextInfo, ErrorInfo, JobState

REPLAY_DIVERGED = "replay_diverged"  # the mark of a cell that came out otherwise than its journal says


class JobStarted(Wire):
    """A root worker took the job up; ``epoch`` counts how often that happened."""

    event: Literal["job_started"] = "job_started"
    job_id: str
    epoch: int
    worker: str
    model: str
    sub_model: str
    prompts: str
    isolation: str
    context: ContextInfo


class MessageAdded(Wire):
    """A message went into the root model's chat."""

    event: Literal["message_added"] = "message_added"
    turn: int
    role: Literal["system", "user", "assistant"]
    text: str


class RootReplied(Wire):
    """The root model answered; ``replayed`` says that the journal did."""

    event: Literal["root_replied"] = "root_replied"
    turn: int
    model: str
    usage: Usage
    finish_reason: str
    seconds: float
    replayed: bool = False


class CellRan(Wire):
    """A code block ran in the REPL."""

    event: Literal["cell_ran"] = "cell_ran"
    turn: int
    block: int
    code: str
    output: str
    error: str | None
    seconds: float
    calls: int
    failed_calls: int
    state_lost: bool
    replayed: bool = False


class SubCallsAnswered(Wire):
    """One ``llm_query`` or ``llm_query_batched`` came back; ``from_store`` were answered before.

    ``failed_attempts`` counts the requests that failed, most of which were made again, by kind of failure.
    """

    event: Literal["sub_calls_answered"] = "sub_calls_answered"
    first_call_id: str
    calls: int
    failed: int
    from_store: int
    failed_attempts: dict[str, int] = Field(default={})
    seconds: float


class Marked(Wire):
    """Something a reader of the trace should know; ``kind`` is a constant name such as ``early_final``."""

    event: Literal["marked"] = "marked"
    turn: int
    kind: str
    detail: str = ""


class JobEnded(Wire):
    """The job is final."""

    event: Literal["job_ended"] = "job_ended"
    state: JobState
    answer: str | None
    error: ErrorInfo | None
    iterations: int


Event = JobStarted | MessageAdded | RootReplied | CellRan | SubCallsAnswered | Marked | JobEnded
Emit = Callable[[Event], None]
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
