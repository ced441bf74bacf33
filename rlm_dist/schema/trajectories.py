"""A job's trajectory, a line of ``rlm-dist export --format jsonl``; see ``docs/trajectories.md``.

A field that is added keeps the version; one that is removed or means something else raises it.
"""

from typing import Final, Literal

from pydantic import Field, JsonValue

from rlm_dist.schema.base import Wire
from rlm_dist.schema.calls import Message
from rlm_dist.schema.contexts import ContextRef
from rlm_dist.schema.costs import Costs, ModelCosts, Usage
from rlm_dist.schema.jobs import Outcome

TRAJECTORY_SCHEMA: Final = "rlm_dist.trajectory/1"
CallEnd = Literal["answered", "cut off", "cached", "failed", "not answered"]
# Why a turn is no example to learn from.
TurnProblem = Literal["program", "empty", "cut_off", "code_error", "refused", "not_parsed"]


class TrajectoryCall(Wire):
    """A sub-call: its prompt and answer, and what was paid for it over all attempts.

    ``messages`` is the prompt. ``error`` is why it failed. Tokens are None if there is no answer; ``cost`` is
    in USD, None if a price is unknown.
    """

    id: str
    state: CallEnd
    model: str | None = None
    messages: tuple[Message, ...] = ()
    answer: str | None = None
    error: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None


class TrajectoryTool(Wire):
    """A call of a tool; ``arguments`` and ``result`` are JSON, cut to a few thousand characters."""

    name: str
    arguments: str
    result: str
    ok: bool
    seconds: float


class TrajectoryCell(Wire):
    """A code block that ran; ``output`` is as the model was shown it, ``error`` is the traceback.

    ``state_lost`` says that the REPL ended with it. ``children`` are the ids of the child jobs that it asked.
    """

    block: int
    code: str
    output: str
    error: str | None
    seconds: float
    state_lost: bool
    calls: tuple[TrajectoryCall, ...] = ()
    children: tuple[str, ...] = ()
    tools: tuple[TrajectoryTool, ...] = ()


class TrajectoryTurn(Wire):
    """One turn of the root model: ``messages[reply]`` is its reply.

    The model was sent the messages before its reply or, if the chat had been cut to fit into its window,
    ``sent`` in place of them. ``problem`` says why the turn is no example to learn from.
    """

    turn: int
    reply: int
    model: str
    usage: Usage
    finish_reason: str
    seconds: float
    sent: tuple[Message, ...] | None = None
    cells: tuple[TrajectoryCell, ...] = ()
    problem: TurnProblem | None = None


class JobTrajectory(Wire):
    """A job, or one sample of a job, from its query to its answer.

    ``sample`` counts from 0, of ``samples``; ``won`` says that the job's answer is this sample's.
    ``outcome``, ``costs`` and ``models`` are those of the whole job. ``messages`` is the whole chat.
    ``other_calls`` are sub-calls that belong to no block: those of judges and summaries, and of a block that
    did not end.
    """

    schema_id: Literal["rlm_dist.trajectory/1"] = TRAJECTORY_SCHEMA
    job_id: str
    custom_id: str
    batch_id: str | None
    sample: int
    samples: int
    won: bool
    model: str
    sub_model: str
    prompts: str
    query: str
    context: ContextRef
    metadata: dict[str, JsonValue] = Field(default={})
    messages: tuple[Message, ...]
    turns: tuple[TrajectoryTurn, ...]
    other_calls: tuple[TrajectoryCall, ...] = ()
    outcome: Outcome
    score: float | None = None
    costs: Costs
    models: tuple[ModelCosts, ...]
