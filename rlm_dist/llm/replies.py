"""Judges the reply in a response body: its text, or why that is no answer.

A sub model's reply without text is a failed call. The endpoint was paid for it, and the same prompt would get
the same reply, so it is not asked again. A root model's reply without text is an empty text: the root loop
tells the model. An endpoint that breaks a reply off is asked again, whatever the role.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from rlm_dist.bounded_json import parse
from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.failures import Secrets, shown
from rlm_dist.schema import CallRequest, Role
from rlm_dist.thoughts import without_thoughts

MAX_LINES = 1_000_000  # replies are taken apart line by line
_MAX_FINISH_CHARS = 100
_SHOWN_PARTS = ("text", "output_text", "refusal")


class ReplyParts(NamedTuple):
    """What a choice holds; ``tool_calls`` are one line of text each."""

    finish_reason: str = "unknown"
    content: str = ""
    thinking: str = ""
    refusal: str = ""
    tool_calls: tuple[str, ...] = ()

    @property
    def served(self) -> str:
        """All text that the endpoint sent, as far as it can be seen."""
        return "".join([self.thinking, self.content, self.refusal, *self.tool_calls])


def read_choice(choices: object) -> ReplyParts | None:
    """The parts of the first choice; None if there is no choice, or one that holds no message."""
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return None
    finish = choice.get("finish_reason")
    finish_reason = finish if isinstance(finish, str) and finish else "unknown"
    finish_reason = finish_reason[:_MAX_FINISH_CHARS]
    message = _message(choice)
    if message is None:
        return ReplyParts(finish_reason) if finish_reason == "error" else None
    parts = list(_content_parts(message.get("content")))
    refusal = message.get("refusal")
    return ReplyParts(
        finish_reason=finish_reason,
        content="".join(text for kind, text in parts if kind != "refusal"),
        thinking=_first_text(message, "reasoning_content", "reasoning"),
        refusal=refusal if isinstance(refusal, str) else "".join(t for kind, t in parts if kind == "refusal"),
        tool_calls=tuple(_tool_calls(message)),
    )


def reply_text(parts: ReplyParts, request: CallRequest, *, secrets: Secrets, keep_thoughts: bool) -> str:
    """The text of a reply to ``request``; a sub model's has no thoughts, unless they are kept.

    Raises:
        CallError: the endpoint broke the reply off, or it is a sub model's and no answer.
    """
    if parts.finish_reason == "error":
        raise CallError(FailureKind.TRANSIENT, "the endpoint broke its reply off with an error")
    text = parts.content if parts.content.strip() else parts.refusal
    if not text.strip() and not parts.tool_calls and parts.finish_reason == "stop":
        text = parts.thinking  # some servers put the whole reply there
    if text.count("\n") > MAX_LINES:
        raise _no_answer(f"the model's reply has more than {MAX_LINES:,} lines")
    if request.role is Role.ROOT:
        return "\n".join(part for part in (text, *parts.tool_calls) if part.strip())
    return _sub_text(text, parts, request, secrets, keep_thoughts)


def _sub_text(
    text: str, parts: ReplyParts, request: CallRequest, secrets: Secrets, keep_thoughts: bool
) -> str:
    if parts.refusal.strip():
        raise _no_answer(f"the model refused: {shown(parts.refusal, secrets)}")
    if parts.finish_reason == "content_filter":
        raise _no_answer("the endpoint's content filter withheld the answer or a part of it")
    if parts.tool_calls:
        raise _no_answer("the model called a tool instead of answering")
    visible = without_thoughts(text)
    if not visible.strip():
        raise _no_answer(_why_empty(parts, request))
    if keep_thoughts or visible == text:
        return text
    return visible.strip()


def _no_answer(reason: str) -> CallError:
    return CallError(FailureKind.NO_ANSWER, reason)


def _why_empty(parts: ReplyParts, request: CallRequest) -> str:
    if parts.finish_reason == "length":
        limit = request.max_output_tokens
        return (
            "thinking used up the output limit before there was an answer: sub_max_output_tokens is "
            f"{limit or 'not set'}. Raise it, or lower the reasoning effort"
        )
    if parts.served.strip():
        return "the model's reply has thoughts but no answer"
    return "the model's reply has no text"


def _message(choice: dict[str, Any]) -> dict[str, Any] | None:
    """The message of a choice; some servers send a streamed ``delta``, or a plain ``text``, in its place."""
    for name in ("message", "delta"):
        if isinstance(choice.get(name), dict):
            message: dict[str, Any] = choice[name]
            return message
    return {"content": choice["text"]} if "text" in choice else None


def _content_parts(content: object) -> Iterator[tuple[str, str]]:
    """The text parts and refusals in a content, each with its type; parts that hold thoughts are left out."""
    for item in content if isinstance(content, list) else [content]:
        part = item if isinstance(item, dict) else {"text": item}
        kind = part.get("type", "text")
        text = part.get("refusal" if kind == "refusal" else "text")
        if kind in _SHOWN_PARTS and isinstance(text, str):
            yield kind, text


def _first_text(message: dict[str, Any], *names: str) -> str:
    texts = (message.get(name) for name in names)
    return next((text for text in texts if isinstance(text, str) and text.strip()), "")


def _tool_calls(message: dict[str, Any]) -> Iterator[str]:
    """Native tool calls, each as one line in a form that models also write as text."""
    calls = message.get("tool_calls")
    items = calls if isinstance(calls, list) and calls else [{"function": message.get("function_call")}]
    for item in items:
        function = item.get("function") if isinstance(item, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            call = {"name": function["name"], "arguments": _arguments(function.get("arguments"))}
            # Escaped, so that no text in it can end the call.
            escaped = json.dumps(call, ensure_ascii=False).replace("<", "\\u003c")
            yield f"<tool_call>{escaped}</tool_call>"


def _arguments(arguments: object) -> object:
    """The JSON object that the arguments spell, else the arguments as they are."""
    if not isinstance(arguments, str):
        return arguments
    try:
        value = parse(arguments, strict=False)
    except ValueError:
        return arguments
    return value if isinstance(value, dict) else arguments
