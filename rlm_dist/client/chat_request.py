"""A chat request read as a job's query and context, by the paper's rule: the prompt is the environment.

System and developer messages are instructions: they join the query. The last user message is the request.

====== ================================= =============================== ==========================
rule   the request                       the context                     the query
====== ================================= =============================== ==========================
long   over 4,000 characters             the request, whole              instructions, both its ends
turns  shorter, after earlier messages   the earlier messages            instructions, the request
alone  shorter, the only message         the request too                 instructions, the request
====== ================================= =============================== ==========================

A single earlier message is a ``str``. Several are a ``list`` of items ``role: text``; if the request is long,
it is the last item. Messages without text are left out.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

LONG_CHARS = 4000
HEAD_CHARS = 500
TAIL_CHARS = 1500
Reading = Literal["native", "long", "turns", "alone"]

_TOOLS = ("tool_calls", "function_call", "audio")
_WITHOUT_EFFECT = frozenset({*_TOOLS, "annotations", "name", "reasoning", "reasoning_content", "refusal"})


class ReadRequest(NamedTuple):
    """What became of a chat request, and the rule by which it was read."""

    reading: Reading
    query: str
    context: str | list[str]


def _text_of(content: object) -> object:
    if not isinstance(content, list):
        return content
    texts = []
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError(f"part {number} is no text: only text can be used here")
        texts.append(part["text"])
    return "\n".join(texts)


class ChatMessage(BaseModel):
    """One message of a request; the fields that endpoints add to their answers are taken and left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_text_of)]

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if value.get("role") in ("tool", "function"):
            raise ValueError("is a tool's, which cannot be used here")
        for name in _TOOLS:
            if value.get(name):
                raise ValueError(f"has {name}, which cannot be used here")
        fields = {
            name: part for name, part in value.items() if part is not None and name not in _WITHOUT_EFFECT
        }
        if "content" not in fields and value.get("refusal") is not None:
            fields["content"] = value["refusal"]
        return fields


def check_messages(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    """The messages, if they end with a request; ValueError if not."""
    turns = [message for message in messages if _is_turn(message)]
    if not turns or turns[-1].role != "user":
        raise ValueError("the last message must be a user message: it is the request")
    if not turns[-1].content.strip():
        raise ValueError("the last user message is empty")
    return messages


def read_request(messages: Sequence[ChatMessage]) -> ReadRequest:
    """Read checked messages as a job's query and context."""
    with_text = [message for message in messages if message.content.strip()]
    instructions = [message.content for message in with_text if not _is_turn(message)]
    *earlier, request = [message for message in with_text if _is_turn(message)]
    if len(request.content) > LONG_CHARS:
        query = _joined([*instructions, _ends(request.content, alone=not earlier)])
        return ReadRequest("long", query, _listed([*earlier, request]))
    query = _joined([*instructions, request.content])
    if earlier:
        return ReadRequest("turns", query, _listed(earlier))
    return ReadRequest("alone", query, request.content)


def _is_turn(message: ChatMessage) -> bool:
    return message.role in ("user", "assistant")


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(parts)


def _listed(turns: Sequence[ChatMessage]) -> str | list[str]:
    if len(turns) == 1:
        return turns[0].content
    return [f"{turn.role}: {turn.content}" for turn in turns]


def _ends(request: str, *, alone: bool) -> str:
    place = "`context`" if alone else "the last item of `context`, after the earlier messages"
    return _joined(
        [
            f"The request stands in {place}: {len(request):,} characters, of which you see only both ends "
            "here. Read the rest there, and do what the request asks.",
            f"[the first {HEAD_CHARS:,} characters of the request]\n{request[:HEAD_CHARS]}",
            f"[the last {TAIL_CHARS:,} characters of the request]\n{request[-TAIL_CHARS:]}",
        ]
    )
