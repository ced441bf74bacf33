"""One model call: its parameters, request and result."""

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from rlm_dist.schema.base import Role, Wire, _is_none, _is_zero
from rlm_dist.schema.costs import Charge, Tier, Usage, tier_name

CHARS_PER_TOKEN = 4
_EXPECTED_OUTPUT_TOKENS = 1024
# Fields that each call sets itself, and fields that would change how an answer is parsed.
_NOT_EXTRA = frozenset(
    {"max_tokens", "messages", "model", "n", "prompt", "reasoning_effort", "stream", "temperature"}
)


def _is_empty(value: tuple[str, ...]) -> bool:
    return not value


def _only_extra(body: dict[str, JsonValue]) -> dict[str, JsonValue]:
    refused = sorted(_NOT_EXTRA & body.keys())
    if refused:
        raise ValueError(f"{', '.join(refused)} cannot be set here")
    return body


ExtraBody = Annotated[dict[str, JsonValue], AfterValidator(_only_extra)]


def _asked_tier(tier: Tier | None, extra_body: dict[str, JsonValue] | None) -> str | None:
    return tier or tier_name((extra_body or {}).get("service_tier"))


class CallParameters(Wire):
    """What the calls of one role send besides model and prompt; None leaves the value to the endpoint.

    ``extra_body`` has further fields of the request, such as ``top_p``; an endpoint need not support them.
    ``tier``, if set, takes the place of a ``service_tier`` there.
    """

    temperature: float | None = Field(default=None, ge=0)
    max_output_tokens: int | None = Field(default=None, ge=1)
    reasoning_effort: str | None = Field(default=None, min_length=1)
    extra_body: ExtraBody | None = None
    tier: Tier | None = None

    @property
    def asked_tier(self) -> str | None:
        """The service tier that these calls ask for; None if they name none."""
        return _asked_tier(self.tier, self.extra_body)


class Message(Wire):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


class CallRequest(Wire):
    """One model call as it is stored under its call id; ``model`` may be ``auto``.

    If ``cache`` is set, the answer may be one that another job got to the same request.
    ``response_schema`` is the JSON Schema that the answer is to conform to; its caller checks it.
    """

    role: Role
    model: str
    messages: tuple[Message, ...]
    max_output_tokens: int | None = None
    temperature: float | None = None
    cache: bool = False
    # Left out of call ids if None, so that calls of jobs older than these fields keep their ids.
    reasoning_effort: str | None = Field(default=None, exclude_if=_is_none)
    extra_body: dict[str, JsonValue] | None = Field(default=None, exclude_if=_is_none)
    tier: Tier | None = Field(default=None, exclude_if=_is_none)
    response_schema: dict[str, JsonValue] | None = Field(default=None, exclude_if=_is_none)

    @property
    def asked_tier(self) -> str | None:
        """The service tier that the request asks for; None if it names none."""
        return _asked_tier(self.tier, self.extra_body)

    @property
    def chars(self) -> int:
        """The characters of its messages."""
        return sum(len(message.content) for message in self.messages)

    @property
    def expected(self) -> "Usage":
        """An estimate, before the call is made, of the tokens that it will use."""
        # Some endpoints put the schema into the prompt.
        schema_chars = len(json.dumps(self.response_schema)) if self.response_schema else 0
        return Usage(
            input_tokens=(self.chars + schema_chars) // CHARS_PER_TOKEN,
            output_tokens=self.max_output_tokens or _EXPECTED_OUTPUT_TOKENS,
            tier=self.asked_tier,
        )


class Completion(Wire):
    """A model's answer; ``text`` is empty if a root model's reply has none.

    ``endpoint`` is the address of the endpoint that served it, if the role has several.
    ``dropped_parameters`` names parameters of the request that the model does not take: it answered without.
    """

    text: str
    usage: Usage
    finish_reason: str
    model: str
    endpoint: str | None = Field(default=None, exclude_if=_is_none)
    dropped_parameters: tuple[str, ...] = Field(default=(), exclude_if=_is_empty)

    @property
    def truncated(self) -> bool:
        """Whether the text was cut off at the output limit."""
        return self.finish_reason == "length"


class CallFailure(Wire):
    """Why a call failed for good; ``kind`` is a value of ``errors.FailureKind``."""

    kind: str
    message: str


class CallResult(Wire):
    """The end of one call: exactly one of ``completion`` and ``failure`` is set.

    ``wasted`` lists the attempts that the endpoint charged for without success: earlier ones, or a failed
    last one. ``attempts`` counts the HTTP requests made; ``failed_attempts`` has the kind of each failure.
    ``cached`` says that the completion is another call's and cost nothing. ``started_ms`` is when the first
    attempt began, in Unix milliseconds by the clock of the process that made it; 0 if there was none.
    ``waited_s`` is the part of ``seconds`` in which the call waited for a slot of its worker and for the
    endpoint's limits.
    """

    completion: Completion | None = None
    failure: CallFailure | None = None
    wasted: tuple[Charge, ...] = ()
    attempts: int = 1
    failed_attempts: tuple[str, ...] = ()
    cached: bool = False
    seconds: float = 0.0
    started_ms: int = Field(default=0, exclude_if=_is_zero)
    waited_s: float = Field(default=0.0, exclude_if=_is_zero)


class Answer(Wire):
    """A settled call as its caller sees it: ``text`` or the failure, and the kinds of its failed attempts.

    ``truncated`` says that the text was cut off at the output limit; ``tier`` is the service tier that the
    endpoint reported.
    """

    call_id: str
    tier: str | None = None
    text: str | None = None
    truncated: bool = False
    failure: CallFailure | None = None
    failed_attempts: tuple[str, ...] = ()
