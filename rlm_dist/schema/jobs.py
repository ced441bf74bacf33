"""A job: what was asked, how it stands, and what came of it."""

from enum import StrEnum
from typing import Literal

from pydantic import Field, JsonValue

from rlm_dist.schema.base import Wire
from rlm_dist.schema.calls import CallParameters
from rlm_dist.schema.costs import Costs

PromptFamily = Literal["coder", "frugal", "small"]
OnDivergence = Literal["warn", "fail"]
Priority = Literal["high", "normal", "low"]


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    EXHAUSTED = "exhausted"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class ContextInfo(Wire):
    """What is known of a context without reading it: enough for the prompt, whatever its size.

    ``kind`` is the Python type that the REPL shows: ``str``, ``list`` of str, ``dict`` of str to str, or
    ``json`` for any other JSON value. ``chars`` counts code points of all texts, ``items`` the elements of a
    list or dict (1 for a str), ``sizes`` the chars of the first few elements. ``several`` says that the
    elements were submitted as separate contexts (``context_0`` …), ``named`` that each element has a path.
    """

    kind: Literal["str", "list", "dict", "json"]
    chars: int
    items: int
    sizes: tuple[int, ...] = ()
    several: bool = False
    named: bool = False


class ContextRef(Wire):
    """A stored context: the SHA-256 of its encoded bytes, their number, and what they hold."""

    sha256: str
    size_bytes: int
    info: ContextInfo


class JobLimits(Wire):
    """What one job may use; None means no limit. Money is in integer nano-dollars (1e-9 USD)."""

    max_iterations: int = Field(default=20, ge=1)
    max_nanousd: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    max_sub_calls: int | None = Field(default=None, ge=0)
    max_seconds: float | None = Field(default=None, gt=0)
    max_depth: int = Field(default=1, ge=0)


class JobSpec(Wire):
    """One query over one context, as submitted; never changed afterwards.

    ``custom_id`` is the user's name for it within its batch, ``index`` its line there (0 for a single job).
    ``form`` says in which shape its result goes out. ``broker_prefix`` is not empty where a client has
    workers of its own, which alone are to run the job. ``on_divergence`` says what becomes of the job where a
    cell that is run again, after the death of its worker, comes out otherwise than its journal says. Of the
    jobs that wait, those of a higher ``priority`` are started first, then those submitted first.
    """

    id: str
    custom_id: str
    batch_id: str | None = None
    index: int = 0
    query: str
    context: ContextRef
    model: str = "auto"
    sub_model: str = "auto"
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


class ErrorInfo(Wire):
    """Why a job ended without success, as results show it."""

    type: str
    message: str


class Outcome(Wire):
    """The end of a job's root loop."""

    state: JobState
    answer: str | None = None
    answer_json: JsonValue = None
    partial_answer: str | None = None
    error: ErrorInfo | None = None
    iterations: int = 0


class JobRecord(Wire):
    """A job as it stands: times are Unix milliseconds of the Redis server, None while they have not come.

    ``epoch`` counts how often a worker took the job up, ``owner`` names the last one, ``isolation`` says how
    that one holds model-written code: a level of the sandbox, or ``none``. ``diverged_cells`` came out
    otherwise than the journal says when the last worker to run them again did so. A job that was parked, as
    in a paused batch, had run for ``ran_ms`` by then; it runs, or ran to its end, since ``since_ms``.
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
    costs: Costs = Costs()

    def run_ms(self, now_ms: int) -> int:
        """How long workers have had the job up to now, the time in which it was parked left out."""
        return self.ran_ms + (now_ms - self.since_ms if self.since_ms else 0)


class EndedJob(Wire):
    """What a job of a batch had used when it ended; ``run_s`` is None where no worker ever took it up."""

    job_id: str
    run_s: float | None
    nanousd: int
    tokens: int


class Running(Wire):
    """A job that a worker holds: since when (Unix milliseconds), its calls on the way, and its spending."""

    job_id: str
    batch_id: str | None
    started_ms: int
    worker: str
    calls_in_flight: int
    nanousd: int
    tokens: int


class Timing(Wire):
    """Seconds that a job waited and ran; null while it has not."""

    queued_s: float | None = None
    run_s: float | None = None


class Result(Wire):
    """One job as ``run --json`` and each line of ``results`` show it.

    ``isolation`` is null where the job never started.
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
    isolation: str | None
    costs: Costs
    timing: Timing
