"""A job: its specification, its present state and its result."""

from enum import StrEnum
from typing import Literal

from pydantic import Field, JsonValue

from rlm_dist.errors import Cancelled, JobFailed
from rlm_dist.schema.base import Wire, _is_empty, _is_none, _is_one, _is_zero
from rlm_dist.schema.calls import CallParameters
from rlm_dist.schema.contexts import ContextRef
from rlm_dist.schema.costs import Costs
from rlm_dist.schema.sessions import SessionPlace

PromptFamily = Literal["coder", "frugal", "small", "file"]  # file: that of the worker's RLM_PROMPTS
Compaction = Literal["cut", "summary", "off"]
MAX_INSTRUCTIONS_CHARS = 20_000
MAX_PROGRAM_CHARS = 100_000
OnDivergence = Literal["warn", "fail"]
Priority = Literal["high", "normal", "low"]
Reduce = Literal["majority", "judge"]
MOST_DEPTH = 8
MOST_SAMPLES = 32


def _is_cut(value: str) -> bool:
    return value == "cut"


def _is_majority(value: object) -> bool:
    return value == "majority"


class JobState(StrEnum):
    """The stage that a job has reached."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    EXHAUSTED = "exhausted"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class JobLimits(Wire):
    """What one job may use; None means no limit, and money is in integer nano-dollars (1e-9 USD)."""

    max_iterations: int = Field(default=20, ge=1)
    max_nanousd: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    max_sub_calls: int | None = Field(default=None, ge=0)
    max_seconds: float | None = Field(default=None, gt=0)
    max_depth: int = Field(default=1, ge=0)


class JobSpec(Wire):
    """One query over one context, as submitted; never changed afterwards.

    ``custom_id`` is the user's name for the job within its batch, ``index`` its line there (0 for a single
    job). ``form`` is the shape of its result. ``broker_prefix`` is not empty if the client has separate
    workers; only those may run the job. ``on_divergence`` says what happens to the job if a cell that is run
    again, after its worker died, gives a result that differs from its journal. Of the waiting jobs, those
    with a higher ``priority`` start first, then those submitted first. ``sub_models`` are the models that its
    code may name besides ``model`` and ``sub_model``; None, in jobs of earlier versions, allows every name.
    ``tags`` are those of a single job; the jobs of a batch have their batch's. ``session`` is the job's place
    in its session, None if it is in none. ``instructions`` join the prompt as they are. ``compaction`` says
    what happens to older turns when the chat nears the root model's window. ``tools`` names functions of the
    workers that its code may call. ``parent_id`` is the job whose code asked for this one, a child; ``depth``
    counts the jobs above it. ``child_models`` are the root models of children at depth 1, 2, …; the last one
    is for all that are deeper, ``model`` if there is none. The job is run ``samples`` times, and ``reduce``
    says how one answer is made of theirs. ``program`` is code that runs as its first turn, before the root
    model is asked; if that hands in the answer, the root model never is.

    An answer is accepted if it conforms to ``response_schema``, if the quotes in its field ``quote_check``
    stand in the context, if the function ``validator`` (``module:name``) does not refuse it, and if
    ``judge_model``, or the sub model, finds that it meets the rubric ``judge``.
    """

    id: str
    custom_id: str
    batch_id: str | None = None
    index: int = 0
    query: str
    context: ContextRef
    model: str = "auto"
    sub_model: str = "auto"
    sub_models: tuple[str, ...] | None = None
    prompts: PromptFamily = "coder"
    max_output_chars: int = 20_000
    early_final: Literal["take", "refuse"] = "take"
    ask_at_limit: bool = False
    on_divergence: OnDivergence = "warn"
    priority: Priority = "normal"
    limits: JobLimits = JobLimits()
    cache: bool = False
    root_parameters: CallParameters = CallParameters()
    sub_parameters: CallParameters = CallParameters()
    metadata: dict[str, JsonValue] = Field(default={})
    form: Literal["native", "openai"] = "native"
    broker_prefix: str = ""
    tags: dict[str, str] = Field(default={}, exclude_if=_is_empty)
    session: SessionPlace | None = Field(default=None, exclude_if=_is_none)
    samples: int = Field(default=1, ge=1, le=MOST_SAMPLES, exclude_if=_is_one)
    reduce: Reduce = Field(default="majority", exclude_if=_is_majority)
    tools: tuple[str, ...] = Field(default=(), exclude_if=_is_empty)
    response_schema: dict[str, JsonValue] | None = Field(default=None, exclude_if=_is_none)
    quote_check: str | None = Field(default=None, exclude_if=_is_none)
    validator: str | None = Field(default=None, exclude_if=_is_none)
    judge: str | None = Field(default=None, exclude_if=_is_none)
    judge_model: str | None = Field(default=None, exclude_if=_is_none)
    instructions: str = Field(default="", exclude_if=_is_empty)
    compaction: Compaction = Field(default="cut", exclude_if=_is_cut)
    parent_id: str | None = Field(default=None, exclude_if=_is_none)
    depth: int = Field(default=0, ge=0, exclude_if=_is_zero)
    child_models: tuple[str, ...] = Field(default=(), exclude_if=_is_empty)
    program: str = Field(default="", exclude_if=_is_empty)

    @property
    def has_children(self) -> bool:
        """Whether its ``rlm_query`` starts child jobs; else it is a plain sub-call."""
        return self.depth + 1 < self.limits.max_depth


class ErrorInfo(Wire):
    """The reason why a job ended without success, as results show it."""

    type: str
    message: str


class Vote(Wire):
    """One of the answers that the samples of a job gave: its head, and which samples (from 0) gave it."""

    answer: str
    count: int
    samples: tuple[int, ...]


class Outcome(Wire):
    """The end of a job's root loop; ``limits_reached`` names the limits that it met, also if it succeeded.

    ``votes`` are the answers of its samples, those with most votes first; none if there is one sample.
    """

    state: JobState
    answer: str | None = None
    answer_json: JsonValue = None
    partial_answer: str | None = None
    error: ErrorInfo | None = None
    iterations: int = 0
    limits_reached: tuple[str, ...] = ()
    votes: tuple[Vote, ...] = Field(default=(), exclude_if=_is_empty)

    @property
    def reason(self) -> str:
        """Why there is no answer, in a word: the limit that ended the job, or its error's type; else ''."""
        if self.error is None:
            return ""
        at_limit = self.error.type == "LimitExceeded" and self.limits_reached
        return self.limits_reached[-1] if at_limit else self.error.type


class JobRecord(Wire):
    """The present state of a job; times are Unix milliseconds of the Redis server, None if not yet reached.

    ``epoch`` counts how many times a worker took the job up; ``owner`` names the last such worker, and
    ``isolation`` how it confines model-written code: a level of the sandbox, or ``none``. ``diverged_cells``
    counts the cells whose result differed from the journal when a worker last ran them again. If the job was
    parked, as in a paused batch, ``ran_ms`` is how long it had run by then. It has run, or ran to its end,
    since ``since_ms``. ``recovered`` says that the last worker took the job over from one that died.
    """

    spec: JobSpec
    state: JobState
    epoch: int = 0
    owner: str | None = None
    isolation: str | None = None
    outcome: Outcome | None = None
    queued_ms: int
    started_ms: int | None = None
    since_ms: int | None = None
    ran_ms: int = 0
    ended_ms: int | None = None
    cancel_requested: bool = False
    calls_in_flight: int = 0
    calls_claimed: int = 0
    diverged_cells: int = 0
    recovered: bool = False
    costs: Costs = Costs()

    def run_ms(self, now_ms: int) -> int:
        """How long workers have had the job until ``now_ms``, without the time in which it was parked."""
        return self.ran_ms + (now_ms - self.since_ms if self.since_ms else 0)


class EndedJob(Wire):
    """What a job of a batch had used when it ended; ``run_s`` is None if no worker ever took it up.

    ``ended_ms`` is in Unix milliseconds.
    """

    job_id: str
    run_s: float | None
    nanousd: int
    tokens: int
    ended_ms: int


class Running(Wire):
    """A job that a worker holds: its start (Unix milliseconds), its calls in flight and what it has spent."""

    job_id: str
    batch_id: str | None
    started_ms: int
    worker: str
    calls_in_flight: int
    nanousd: int
    tokens: int
    parent_id: str | None = None


class Timing(Wire):
    """The seconds that a job waited and ran; null until it has done so."""

    queued_s: float | None = None
    run_s: float | None = None


class Result(Wire):
    """One job as ``run --json`` and each line of ``results`` show it.

    ``isolation`` is null if the job never started.
    """

    id: str
    custom_id: str
    batch_id: str | None
    state: JobState
    answer: str | None
    answer_json: JsonValue
    partial_answer: str | None
    error: ErrorInfo | None
    iterations: int
    limits_reached: tuple[str, ...] = ()
    isolation: str | None
    costs: Costs
    timing: Timing
    votes: tuple[Vote, ...] = Field(default=(), exclude_if=_is_empty)

    def raise_for_state(self) -> None:
        """Return if the job has its answer.

        Raises:
            JobFailed: if it ended without one; its ``kind`` is the type of the result's error.
            Cancelled: if it was cancelled.
        """
        if self.state is JobState.CANCELLED:
            raise Cancelled(self.id)
        if self.error is not None:
            raise JobFailed(self.id, self.error.type, self.error.message)
