"""One model call: its parameters, request and result."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from rlm_dist.schema.base import Role, Wire, _is_none
from rlm_dist.schema.costs import Charge, Usage

CHARS_PER_TOKEN = 4
_EXPECTED_OUTPUT_TOKENS = 1024
# What the calls set themselves, or what would change how an answer is read.
_NOT_EXTRA = frozenset(
    {"max_tokens", "messages", "model", "n", "prompt", "reasoning_effort", "stream", "temperature"}
)


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


class Message(Wire):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


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
