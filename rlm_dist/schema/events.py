"""The events of a job: frozen values that are passed to one ``emit`` callable.

The trace of a job is the list of its events in order; ``EVENT`` parses a stored event. If the job has several
samples, events tell by ``sample`` (from 0) of which one they are; those of different samples are mixed.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from rlm_dist.schema.base import Wire, _is_empty, _is_none, _is_one, _is_zero
from rlm_dist.schema.contexts import ContextInfo
from rlm_dist.schema.costs import Usage
from rlm_dist.schema.jobs import ErrorInfo, JobState, Vote

REPLAY_DIVERGED = "replay_diverged"  # marks a cell whose result differs from its journal


class JobStarted(Wire):
    """A root worker took the job up; ``epoch`` counts how many times that has happened.

    ``prompts_sha256`` is that of the worker's prompt file, if the job's prompts are those of a file.
    ``session`` is the id of the job's session, None if it is in none.
    """

    event: Literal["job_started"] = "job_started"
    job_id: str
    epoch: int
    worker: str
    model: str
    sub_model: str
    prompts: str
    isolation: str
    context: ContextInfo
    prompts_sha256: str | None = Field(default=None, exclude_if=_is_none)
    samples: int = Field(default=1, exclude_if=_is_one)
    session: str | None = Field(default=None, exclude_if=_is_none)


class MessageAdded(Wire):
    """A message went into the root model's chat."""

    event: Literal["message_added"] = "message_added"
    turn: int
    role: Literal["system", "user", "assistant"]
    text: str
    sample: int = Field(default=0, exclude_if=_is_zero)


class RootReplied(Wire):
    """The root model replied; ``replayed`` says that the reply came from the journal."""

    event: Literal["root_replied"] = "root_replied"
    turn: int
    model: str
    usage: Usage
    finish_reason: str
    seconds: float
    replayed: bool = False
    sample: int = Field(default=0, exclude_if=_is_zero)


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
    truncated_calls: int = 0
    state_lost: bool
    replayed: bool = False
    sample: int = Field(default=0, exclude_if=_is_zero)


class SubCallsAnswered(Wire):
    """One ``llm_query`` or ``llm_query_batched`` returned; ``from_store`` of its calls were answered earlier.

    ``failed_attempts`` counts the failed requests by kind of failure; most of them were retried. ``tiers``
    counts the calls that a tier other than the default one served. ``call_ids`` has the ids of all its calls
    in the order of the prompts, as ``id_lists`` packs them; it is empty in events of earlier versions.
    """

    event: Literal["sub_calls_answered"] = "sub_calls_answered"
    first_call_id: str
    calls: int
    failed: int
    from_store: int
    failed_attempts: dict[str, int] = Field(default={})
    tiers: dict[str, int] = Field(default={})
    seconds: float
    call_ids: str = ""
    sample: int = Field(default=0, exclude_if=_is_zero)


class ChildrenAnswered(Wire):
    """One ``rlm_query``, or a part of an ``rlm_query_batched``, returned; ``failed`` children have no answer.

    ``job_ids`` has the ids of the children in the order of the prompts, as ``id_lists`` packs them.
    """

    event: Literal["children_answered"] = "children_answered"
    turn: int
    children: int
    failed: int
    seconds: float
    job_ids: str
    sample: int = Field(default=0, exclude_if=_is_zero)


class ToolCalled(Wire):
    """The code called a tool; ``from_store`` says that an earlier run of the job had made the call.

    ``arguments`` and ``result`` (the error if it failed) are JSON, cut to a few thousand characters.
    """

    event: Literal["tool_called"] = "tool_called"
    name: str
    call_id: str
    seconds: float
    ok: bool
    from_store: bool = False
    arguments: str = ""
    result: str = ""
    sample: int = Field(default=0, exclude_if=_is_zero)


class Marked(Wire):
    """A fact for the reader of the trace; ``kind`` is a constant name such as ``early_final``."""

    event: Literal["marked"] = "marked"
    turn: int
    kind: str
    detail: str = ""
    sample: int = Field(default=0, exclude_if=_is_zero)


class JobEnded(Wire):
    """The job has reached a final state."""

    event: Literal["job_ended"] = "job_ended"
    state: JobState
    answer: str | None
    error: ErrorInfo | None
    iterations: int
    votes: tuple[Vote, ...] = Field(default=(), exclude_if=_is_empty)


Event = (
    JobStarted
    | MessageAdded
    | RootReplied
    | CellRan
    | SubCallsAnswered
    | ChildrenAnswered
    | ToolCalled
    | Marked
    | JobEnded
)
Emit = Callable[[Event], None]
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
