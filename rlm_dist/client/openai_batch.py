"""The OpenAI Batch form of a job: a line that holds a chat request, and its output line.

``chat_request`` says how the messages become query and context. ``model``, ``temperature`` and
``reasoning_effort`` are the root model's, ``service_tier`` is that of all calls. Other fields that shape a
single reply (``max_tokens``, ``top_p``, …) have no effect: an answer takes many replies, and a root turn that
is cut short cannot end its code. Fields that would change the kind of answer (``tools``, ``n``, …) are
refused. A null field is as if left out. ``response_format`` becomes the job's ``response_schema``.
"""

from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from rlm_dist.client.chat_request import ChatMessage, ReadRequest, check_messages, read_request
from rlm_dist.client.options import Schema
from rlm_dist.schema import JobState, Result, Tier

IGNORED = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "seed",
        "stop",
        "store",
        "top_p",
        "user",
        "verbosity",
    }
)
# They go with fields that are refused.
_MEANINGLESS = frozenset({"parallel_tool_calls", "stream_options", "top_logprobs"})


def _only(*harmless: object, reason: str) -> AfterValidator:
    """Accept these values alone."""

    def check(value: object) -> object:
        if value not in harmless:
            raise ValueError(reason)
        return value

    return AfterValidator(check)


def _path_of_chat(url: str) -> str:
    if not urlsplit(url).path.endswith("/chat/completions"):
        raise ValueError("only chat completions can be run here")
    return url


def _text_of_id(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("must be text or a whole number")
    return value


CustomId = Annotated[str, Field(min_length=1), BeforeValidator(_text_of_id)]
"""The caller's name of a job; a whole number is taken as its digits."""

_NO_TOOLS = "cannot be used here: a job has no tools of its caller"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    without_effect: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        """Leave out null fields, and those without effect."""
        if not isinstance(value, dict):
            return value
        left_out = cls.without_effect
        return {name: part for name, part in value.items() if part is not None and name not in left_out}


class _NamedSchema(_Strict):
    """A schema with what describes it to a model; all answers are checked, whatever ``strict`` says."""

    without_effect = frozenset({"name", "description", "strict"})

    schema_: Schema = Field(alias="schema")


class _ResponseFormat(_Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _NamedSchema | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> "_ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema: goes with the type json_schema, and with no other")
        return self

    @property
    def schema_of_answer(self) -> dict[str, JsonValue] | None:
        """The schema that an answer must conform to."""
        if self.json_schema is not None:
            return self.json_schema.schema_
        return {"type": "object"} if self.type == "json_object" else None


class _Body(_Strict):
    without_effect = IGNORED | _MEANINGLESS

    model: str = Field(min_length=1)
    messages: Annotated[tuple[ChatMessage, ...], AfterValidator(check_messages)] = Field(strict=False)
    metadata: dict[str, JsonValue] = Field(default={})
    temperature: float | None = Field(default=None, ge=0)
    reasoning_effort: str | None = Field(default=None, min_length=1)
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    n: Annotated[object, _only(1, reason="cannot be used here: a job has one answer")] = None
    stream: Annotated[object, _only(False, reason="cannot be used here: a batch is not streamed")] = None
    logprobs: Annotated[
        object, _only(False, reason="cannot be used here: an answer has no log probabilities")
    ] = None
    modalities: Annotated[object, _only(["text"], reason="cannot be used here: answers are text")] = None
    response_format: _ResponseFormat | None = None
    tools: Annotated[object, _only([], reason=_NO_TOOLS)] = None
    tool_choice: Annotated[object, _only("auto", "none", reason=_NO_TOOLS)] = None
    functions: Annotated[object, _only([], reason=_NO_TOOLS)] = None
    function_call: Annotated[object, _only("auto", "none", reason=_NO_TOOLS)] = None


class OpenAILine(_Strict):
    """One line of an OpenAI Batch input file; ``custom_id`` and ``body`` suffice."""

    custom_id: CustomId
    method: Literal["POST"] = "POST"
    url: Annotated[str, AfterValidator(_path_of_chat)] = "/v1/chat/completions"
    body: _Body

    @property
    def tier(self) -> Tier | None:
        """The service tier of all calls; None leaves it to the settings."""
        asked = self.body.service_tier
        return None if asked == "auto" else asked

    @property
    def response_schema(self) -> dict[str, JsonValue] | None:
        """The schema that the answer must conform to."""
        asked = self.body.response_format
        return None if asked is None else asked.schema_of_answer

    def read(self) -> ReadRequest:
        """The query and the context."""
        return read_request(self.body.messages)


def without_effect(line: dict[str, Any]) -> frozenset[str]:
    """The fields of a checked line's body that its writer set and that have no effect here."""
    return frozenset(name for name in IGNORED & line["body"].keys() if line["body"][name] is not None)


def openai_line(result: Result, model: str, *, created_s: int) -> dict[str, JsonValue]:
    """An ended job as a line of an OpenAI Batch output file: a chat completion, or an error.

    ``created_s`` is when the job ended, in Unix time. The usage is the sum over all calls of the job.
    """
    line: dict[str, JsonValue] = {"id": f"batch_req_{result.id}", "custom_id": result.custom_id}
    if result.state is not JobState.SUCCEEDED:
        message = result.error.message if result.error else f"the job ended as {result.state}"
        return line | {"response": None, "error": {"code": str(result.state), "message": message}}
    costs = result.costs
    prompt = costs.root_input_tokens + costs.sub_input_tokens
    completion = costs.root_output_tokens + costs.sub_output_tokens
    body: dict[str, JsonValue] = {
        "id": f"chatcmpl-{result.id}",
        "object": "chat.completion",
        "created": created_s,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": result.answer, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": costs.root_cached_tokens + costs.sub_cached_tokens},
        },
    }
    return line | {"response": {"status_code": 200, "request_id": result.id, "body": body}, "error": None}
