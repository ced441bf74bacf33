"""The values that cross a process or module border: frozen, and JSON where they are stored."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

PromptFamily = Literal["coder", "frugal", "small"]
OnDivergence = Literal["warn", "fail"]
Priority = Literal["high", "normal", "low"]
NANO = 1_000_000_000
CHARS_PER_TOKEN = 4
_EXPECTED_OUTPUT_TOKENS = 1024
# What the calls set themselves, or what would change how an answer is read.
_NOT_EXTRA = frozenset(
    {"max_tokens", "messages", "model", "n", "prompt", "reasoning_effort", "stream", "temperature"}
)


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


class BatchState(StrEnum):
    """Where a batch is in its life."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class Role(StrEnum):
    """Which model a call is for."""

    ROOT = "root"
    SUB = "sub"


class Wire(BaseModel):
    """Base of what is stored or sent as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _only_extra(body: dict[str, JsonValue]) -> dict[str, JsonValue]:
    refused = sorted(_NOT_EXTRA & body.keys())
    if refused:
        raise ValueError(f"{', '.join(refused)} cannot be set here")
    return body


ExtraBody = Annotated[dict[str, JsonValue], AfterValidator(_only_extra)]


class CallParameters(Wire):
    """What the calls of one role say to the endpoint beside model and prompt; None leaves it to the endpoint.

    ``extra_body`` are further fields of the request, such as ``top_p``, which the endpoint may know or not.
    """

    temperature: float | None = Field(default=None, ge=0)
    max_output_tokens: int | None = Field(default=None, ge=1)
    reasoning_effort: str | None = Field(default=None, min_length=1)
    extra_body: ExtraBody | None = None


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


class Limits(Wire):
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
    limits: Limits = Limits()
    cache: bool = False
    root_parameters: CallParameters = CallParameters()
    sub_parameters: CallParameters = CallParameters()
    metadata: dict[str, JsonValue] = {}
    form: Literal["native", "openai"] = "native"
    broker_prefix: str = ""


class Message(Wire):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


def _is_none(value: object) -> bool:
    return value is None


class CallRequest(Wire):
    """One model call as it is stored under its call id. ``model`` may be ``auto``.

    With ``cache`` the answer may be one that another job was given to the same request.
    """

    role: Role
    model: str
    messages: tuple[Message, ...]
    max_output_tokens: int | None = None
    temperature: float | None = None
    cache: bool = False
    # Left out of ids where they are not given: the calls of jobs from before they were known keep theirs.
    reasoning_effort: str | None = Field(default=None, exclude_if=_is_none)
    extra_body: dict[str, JsonValue] | None = Field(default=None, exclude_if=_is_none)

    @property
    def expected(self) -> "Usage":
        """A guess, before the call is made, at what it will use."""
        chars = sum(len(message.content) for message in self.messages)
        return Usage(
            input_tokens=chars // CHARS_PER_TOKEN,
            output_tokens=self.max_output_tokens or _EXPECTED_OUTPUT_TOKENS,
        )


class Usage(Wire):
    """Tokens of one or several calls; ``cached_tokens`` are part of ``input_tokens``.

    ``estimated`` is true where the endpoint gave no usage and the numbers are our own count.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            estimated=self.estimated or other.estimated,
        )


class Completion(Wire):
    """What a model answered. ``text`` is empty where the endpoint sent null content.

    ``endpoint`` is the address that served it, where the role has several.
    """

    text: str
    usage: Usage
    finish_reason: str
    model: str
    endpoint: str | None = Field(default=None, exclude_if=_is_none)


class CallFailure(Wire):
    """Why a call failed for good; ``kind`` is a value of ``errors.FailureKind``."""

    kind: str
    message: str


class Charge(Wire):
    """One attempt that an endpoint served and reported usage for; ``endpoint`` as in ``Completion``."""

    model: str
    usage: Usage
    endpoint: str | None = Field(default=None, exclude_if=_is_none)


class CallResult(Wire):
    """The end of one call: exactly one of ``completion`` and ``failure`` is set.

    ``wasted`` lists attempts before the last one, or the failed last one, that the endpoint still charged
    for; ``attempts`` counts the HTTP requests made, ``failed_attempts`` has the kind of failure of each that
    failed. ``cached`` says that the completion is another call's, and cost nothing.
    """

    completion: Completion | None = None
    failure: CallFailure | None = None
    wasted: tuple[Charge, ...] = ()
    attempts: int = 1
    failed_attempts: tuple[str, ...] = ()
    cached: bool = False
    seconds: float = 0.0


class Answer(Wire):
    """A settled call as its asker sees it: ``text``, or the failure; and the kinds of its failed attempts."""

    call_id: str
    text: str | None = None
    failure: CallFailure | None = None
    failed_attempts: tuple[str, ...] = ()


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


class Costs(Wire):
    """What a job or batch used: the seed's keys, and the parts beside them.

    Money is in USD, null where a price is unknown. Tokens are input + output. ``retries`` are attempts after
    the first of a call, ``rate_limited`` attempts that were refused by a 429.
    """

    total_cost: float | None = 0.0
    root_llm_cost: float | None = 0.0
    sub_llm_cost: float | None = 0.0
    root_llm_tokens: int = 0
    sub_llm_tokens: int = 0
    root_llm_calls: int = 0
    sub_llm_calls: int = 0
    root_input_tokens: int = 0
    root_cached_tokens: int = 0
    root_output_tokens: int = 0
    sub_input_tokens: int = 0
    sub_cached_tokens: int = 0
    sub_output_tokens: int = 0
    estimated_calls: int = 0
    cache_hits: int = 0
    failed_calls: int = 0
    duplicate_paid_calls: int = 0
    retries: int = 0
    rate_limited: int = 0


class ModelCosts(Wire):
    """One line of ``rlm-dist cost``: what one model was used for in one role."""

    role: Role
    model: str
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: float | None


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


class BatchRecord(Wire):
    """A batch as it stands; ``total`` is None until it is known, ``counts`` has every job state.

    ``pause_reason`` is what the endpoint said, where that paused the batch.
    ``max_usd`` and ``max_tokens`` are what all its jobs may use together; None means no limit.
    ``webhook`` says what came of telling its end, None where nobody is to be told.
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
    costs: Costs = Costs()


class Ended(Wire):
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


class FinalValue(NamedTuple):
    """An answer handed in: its text, the value where it is JSON and no string, and by which way."""

    text: str
    value: Any
    by: Literal["FINAL", "FINAL_VAR", "answer"]


@dataclass(frozen=True)
class Clipped:
    """A text of which only head and tail were kept; ``omitted`` characters are left out between them."""

    head: str = ""
    tail: str = ""
    omitted: int = 0


@dataclass(frozen=True)
class CellResult:
    """What one code block did in the REPL.

    ``error`` is the plain traceback of an exception, or why the block was stopped. ``state_lost`` says that
    the REPL process had to be ended, and its variables with it. ``partial`` is the text of
    ``answer["content"]`` after the block, ready or not (None where it is None or absent).
    """

    output: Clipped = Clipped()
    error: str | None = None
    final: FinalValue | None = None
    partial: str | None = None
    state_lost: bool = False
    calls: int = 0
    failed_calls: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Resolved:
    """What a variable or a simple path (``d['k']``, ``a.b[0]``) is in the REPL.

    ``found`` is false for an unknown name; ``names`` are then the live names there are. ``final`` is None
    also where the value is None, which is no answer.
    """

    found: bool
    final: FinalValue | None = None
    names: tuple[str, ...] = ()
