"""The OpenAI Batch form of a job: a chat request that is read as query and context, and its output line.

The last message must be a user message: it is the query, and the messages before it are the context. If there
is one, the context is a ``str``, its text; if there are several, it is a ``list`` of items ``role: text``.

Fields of the body that control the sampling of a single reply (``temperature``, ``max_tokens``, …) have no
effect here; they are accepted and ignored. Fields that would change the kind of answer (``tools``, ``n``, …)
are rejected.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from rlm_dist.schema import JobState, Result

IGNORED = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "temperature",
        "top_p",
        "user",
        "verbosity",
    }
)
_HARMLESS: dict[str, tuple[object, ...]] = {
    "n": (1, None),
    "stream": (False, None),
    "logprobs": (False, None),
    "response_format": ({"type": "text"}, None),
    "tools": ([], None),
}


def _text_of(content: object) -> object:
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError("only text parts can be used")
        texts.append(part["text"])
    return "\n".join(texts)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _ChatMessage(_Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_text_of)]
    name: str | None = None


class _Body(_Strict):
    model: str = Field(min_length=1)
    messages: tuple[_ChatMessage, ...] = Field(strict=False)
    metadata: dict[str, JsonValue] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_ignored(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        rejected = [name for name, harmless in _HARMLESS.items() if value.get(name) not in harmless]
        if rejected:
            raise ValueError(f"{', '.join(rejected)} cannot be used here")
        return {name: part for name, part in value.items() if name not in IGNORED and name not in _HARMLESS}

    @model_validator(mode="after")
    def _has_query_and_context(self) -> "_Body":
        if not self.messages or self.messages[-1].role != "user":
            raise ValueError("the last message must be a user message: it is the query")
        if len(self.messages) == 1:
            raise ValueError(
                "there is no message before the last user message, so there is no context: "
                "put the long text in a separate message before the question"
            )
        return self


class OpenAILine(_Strict):
    """One line of an OpenAI Batch input file."""

    custom_id: str = Field(min_length=1)
    method: Literal["POST"]
    url: Literal["/v1/chat/completions"]
    body: _Body

    @property
    def query(self) -> str:
        """The last user message."""
        return self.body.messages[-1].content

    @property
    def context(self) -> str | list[str]:
        """The messages before the query."""
        earlier = self.body.messages[:-1]
        if len(earlier) == 1:
            return earlier[0].content
        return [f"{message.role}: {message.content}" for message in earlier]


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
