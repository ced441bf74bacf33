"""Builds request bodies and parses response bodies: the API's two JSON forms, chat and plain completions.

Only this module judges a response body: anything but a complete answer is a transient failure. Usage that
such a body reports is kept as a charge.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.usage import reported_usage, usage_of
from rlm_dist.schema import DEFAULT_TIER, CallRequest, Charge, Completion, Message

# Many servers default to 16 tokens on this route; nothing useful fits into that.
PLAIN_OUTPUT_TOKENS = 2048


class Attempt(NamedTuple):
    """The end of one request: a completion, or a failure and what the endpoint charged nevertheless.

    ``blocked_s`` is how long the endpoint wants no calls, if its answer said so. ``unheard`` means that the
    endpoint itself did not answer: no connection, or a proxy reported that nothing is behind it.
    """

    completion: Completion | None = None
    failure: CallError | None = None
    charge: Charge | None = None
    blocked_s: float | None = None
    unheard: bool = False


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
    messages = [{"role": message.role, "content": _sendable(message.content)} for message in request.messages]
    return {"model": model, "messages": messages, **_parameters(request)}


def plain_body(request: CallRequest, model: str) -> dict[str, Any]:
    """The body for ``/completions``: the chat as a transcript for the model to continue."""
    body = {"model": model, "prompt": _sendable(transcript(request.messages)), "stop": ["\n\nUser:"]}
    return {**body, "max_tokens": PLAIN_OUTPUT_TOKENS, **_parameters(request)}


def transcript(messages: Sequence[Message]) -> str:
    """The chat as plain text, a name before each turn, ending where the assistant speaks next."""
    turns = [f"{message.role.capitalize()}: {message.content}" for message in messages]
    return "\n\n".join([*turns, "Assistant:"])


def read_chat(body: str, request: CallRequest, model: str) -> Attempt:
    """Parse a response of ``/chat/completions``."""
    return _read(body, request, model, _ChatChoice)


def read_plain(body: str, request: CallRequest, model: str) -> Attempt:
    """Parse a response of ``/completions``."""
    return _read(body, request, model, _PlainChoice)


def read_models(body: str) -> list[str]:
    """The names that ``/models`` lists; CallError if the body is something else."""
    try:
        return [str(item["id"]) for item in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError):
        raise CallError(
            FailureKind.TRANSIENT, f"the response is no list of models but {_describe(body)}"
        ) from None


def _read(
    body: str, request: CallRequest, model: str, form: type[_ChatChoice] | type[_PlainChoice]
) -> Attempt:
    try:
        data = json.loads(body)
    except ValueError:
        return Attempt(
            failure=CallError(FailureKind.TRANSIENT, f"the response is not JSON but {_describe(body)}")
        )
    reply: dict[str, Any] = data if isinstance(data, dict) else {}
    choices: Any = reply.get("choices")
    try:
        choice = form.model_validate(choices[0])
    except (ValidationError, LookupError, TypeError):
        usage = reported_usage(reply, request)
        charge = Charge(model=model, usage=usage) if usage else None
        problem = "no choices" if not choices else "a malformed choice"
        failure = CallError(FailureKind.TRANSIENT, f"the endpoint's answer has {problem}")
        return Attempt(failure=failure, charge=charge)
    text = _sendable((choice.message.content if isinstance(choice, _ChatChoice) else choice.text) or "")
    completion = Completion(
        text=text,
        usage=usage_of(reply, request, text),
        finish_reason=choice.finish_reason or "unknown",
        model=model,
    )
    return Attempt(completion=completion)


def _parameters(request: CallRequest) -> dict[str, Any]:
    parameters = {
        "max_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "reasoning_effort": request.reasoning_effort,
        "service_tier": None if request.tier == DEFAULT_TIER else request.tier,
    }
    named = {name: value for name, value in parameters.items() if value is not None}
    return {**named, **_extra(request)}


def _extra(request: CallRequest) -> dict[str, Any]:
    """The extra fields, without a service tier if the request has its own."""
    extra = request.extra_body or {}
    return {name: value for name, value in extra.items() if request.tier is None or name != "service_tier"}


def _sendable(text: str) -> str:
    """``text`` with lone surrogates replaced, as UTF-8 cannot encode them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _describe(body: str) -> str:
    start = body.lstrip()[:20].lower()
    if not start:
        return "an empty body"
    return (
        "an HTML page"
        if start.startswith(("<!doctype", "<html", "<"))
        else f"{len(body)} characters of other text"
    )
