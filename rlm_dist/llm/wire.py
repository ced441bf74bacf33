"""Request bodies out, response bodies in: the two JSON forms (chat and plain completions) of the API.

A response body is judged here alone: whatever is not a whole answer is a transient failure, and usage that
it reported all the same is kept as a charge.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, NonNegativeInt, ValidationError

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.schema import CHARS_PER_TOKEN, CallRequest, Charge, Completion, Message, Usage

# The route's own default is 16 tokens with many servers; nothing useful fits in that.
PLAIN_OUTPUT_TOKENS = 2048


class Attempt(NamedTuple):
    """The end of one request: a completion, or a failure and what the endpoint charged all the same.

    ``blocked_s`` is for how long the endpoint wants no calls, if it said so with its answer. ``unheard`` says
    that the endpoint itself was not heard: no connection, or a proxy that says that nobody is behind it.
    """

    completion: Completion | None = None
    failure: CallError | None = None
    charge: Charge | None = None
    blocked_s: float | None = None
    unheard: bool = False


class _CachedTokens(BaseModel):
    cached_tokens: NonNegativeInt | None = None


class _ReportedUsage(BaseModel):
    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt = 0
    prompt_tokens_details: _CachedTokens | None = None


class _ReplyMessage(BaseModel):
    content: str | None = None


class _ChatChoice(BaseModel):
    message: _ReplyMessage
    finish_reason: str | None = None


class _PlainChoice(BaseModel):
    text: str | None
    finish_reason: str | None = None


def chat_body(request: CallRequest, model: str) -> dict[str, Any]:
    """The body for ``/chat/completions``."""
    messages = [{"role": each.role, "content": _sendable(each.content)} for each in request.messages]
    return {"model": model, "messages": messages, **_parameters(request)}


def plain_body(request: CallRequest, model: str) -> dict[str, Any]:
    """The body for ``/completions``: the chat as a transcript that the model is to go on with."""
    body = {"model": model, "prompt": _sendable(transcript(request.messages)), "stop": ["\n\nUser:"]}
    return {**body, "max_tokens": PLAIN_OUTPUT_TOKENS, **_parameters(request)}


def transcript(messages: Sequence[Message]) -> str:
    """The chat as plain text with a name before each turn, ending where the assistant speaks next."""
    turns = [f"{each.role.capitalize()}: {each.content}" for each in messages]
    return "\n\n".join([*turns, "Assistant:"])


def read_chat(body: str, request: CallRequest, model: str) -> Attempt:
    """What a response of ``/chat/completions`` says."""
    return _read(body, request, model, _ChatChoice)


def read_plain(body: str, request: CallRequest, model: str) -> Attempt:
    """What a response of ``/completions`` says."""
    return _read(body, request, model, _PlainChoice)


def read_models(body: str) -> list[str]:
    """The names that ``/models`` lists; CallError where the body is something else."""
    try:
        return [str(item["id"]) for item in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError):
        raise CallError(FailureKind.TRANSIENT, f"no list of models but {_nature(body)}") from None


def _read(
    body: str, request: CallRequest, model: str, form: type[_ChatChoice] | type[_PlainChoice]
) -> Attempt:
    try:
        data = json.loads(body)
    except ValueError:
        return Attempt(failure=CallError(FailureKind.TRANSIENT, f"no JSON but {_nature(body)}"))
    answer: dict[str, Any] = data if isinstance(data, dict) else {}
    usage = _reported(answer.get("usage"))
    choices: Any = answer.get("choices")
    try:
        choice = form.model_validate(choices[0])
    except (ValidationError, LookupError, TypeError):
        charge = Charge(model=model, usage=usage) if usage else None
        what = "no choices" if not choices else "a malformed choice"
        failure = CallError(FailureKind.TRANSIENT, f"the endpoint's answer has {what}")
        return Attempt(failure=failure, charge=charge)
    text = _sendable((choice.message.content if isinstance(choice, _ChatChoice) else choice.text) or "")
    completion = Completion(
        text=text,
        usage=usage or _estimated(request, text),
        finish_reason=choice.finish_reason or "unknown",
        model=model,
    )
    return Attempt(completion=completion)


def _parameters(request: CallRequest) -> dict[str, Any]:
    given = {
        "max_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "reasoning_effort": request.reasoning_effort,
    }
    own = {name: value for name, value in given.items() if value is not None}
    return {**own, **(request.extra_body or {})}


def _sendable(text: str) -> str:
    """``text`` with lone surrogates replaced: they have no UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _reported(data: object) -> Usage | None:
    try:
        usage = _ReportedUsage.model_validate(data)
    except ValidationError:
        return None
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
    return Usage(
        input_tokens=usage.prompt_tokens,
        cached_tokens=min(cached or 0, usage.prompt_tokens),
        output_tokens=usage.completion_tokens,
    )


def _estimated(request: CallRequest, text: str) -> Usage:
    prompt_chars = sum(len(each.content) for each in request.messages)
    return Usage(
        input_tokens=-(-prompt_chars // CHARS_PER_TOKEN),
        output_tokens=-(-len(text) // CHARS_PER_TOKEN),
        estimated=True,
    )


def _nature(body: str) -> str:
    start = body.lstrip()[:20].lower()
    if not start:
        return "an empty body"
    return (
        "an HTML page" if start.startswith(("<!doctype", "<html", "<")) else f"{len(body)} other characters"
    )
