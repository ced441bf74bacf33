"""Builds request bodies and parses response bodies: the API's two JSON forms, chat and plain completions.

A body that is no reply is a transient failure; ``replies`` judges a reply. What the endpoint charged for a
failure is kept as a charge.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rlm_dist.bounded_json import TooComplex, parse
from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.error_bodies import error_in_reply
from rlm_dist.llm.failures import Secrets
from rlm_dist.llm.replies import ReplyParts, read_choice, reply_text
from rlm_dist.llm.streams import is_stream, joined
from rlm_dist.llm.structured_output import FIELD, response_format
from rlm_dist.llm.usage import reported_usage, usage_of
from rlm_dist.schema import DEFAULT_TIER, CallRequest, Charge, Completion, Message

# Many servers default to 16 tokens on this route; nothing useful fits into that.
PLAIN_OUTPUT_TOKENS = 2048
_MAX_NAME_CHARS = 1000


class Attempt(NamedTuple):
    """The end of one request: a completion, or a failure and what the endpoint charged nevertheless.

    ``error_body`` is an error that came with HTTP 200 in place of an answer; the connection sorts it.
    ``blocked_s`` is how long the endpoint wants no calls, if its answer said so. ``unheard`` means that the
    endpoint itself did not answer: no connection, or a proxy reported that nothing is behind it.
    """

    completion: Completion | None = None
    failure: CallError | None = None
    charge: Charge | None = None
    error_body: object = None
    blocked_s: float | None = None
    unheard: bool = False


def chat_body(request: CallRequest, model: str) -> dict[str, Any]:
    """The body for ``/chat/completions``."""
    messages = [{"role": message.role, "content": _sendable(message.content)} for message in request.messages]
    body = {"model": model, "messages": messages, **_parameters(request)}
    return (
        body if request.response_schema is None else {**body, FIELD: response_format(request.response_schema)}
    )


def plain_body(request: CallRequest, model: str) -> dict[str, Any]:
    """The body for ``/completions``: the chat as a transcript for the model to continue."""
    body = {"model": model, "prompt": _sendable(transcript(request.messages)), "stop": ["\n\nUser:"]}
    return {**body, "max_tokens": PLAIN_OUTPUT_TOKENS, **_parameters(request)}


def transcript(messages: Sequence[Message]) -> str:
    """The chat as plain text, a name before each turn, ending where the assistant speaks next."""
    turns = [f"{message.role.capitalize()}: {message.content}" for message in messages]
    return "\n\n".join([*turns, "Assistant:"])


def read_reply(
    body: str, request: CallRequest, model: str, *, hidden: Sequence[str] = (), keep_thoughts: bool = False
) -> Attempt:
    """Parse a response of either route, streamed or not: it ends an attempt with a completion or a failure.

    A failure's text has nothing of ``hidden``, nor of the prompt. A sub model's thoughts are dropped unless
    they are kept. Raises TooComplex.
    """
    try:
        data = joined(body) if is_stream(body) else parse(body)
    except TooComplex:
        raise
    except ValueError:
        return Attempt(
            failure=CallError(FailureKind.TRANSIENT, f"the response is not JSON but {_describe(body)}")
        )
    reply: dict[str, Any] = data if isinstance(data, dict) else {}
    usage = reported_usage(reply, request)
    charge = Charge(model=model, usage=usage) if usage else None
    error = error_in_reply(reply)
    if error is not None:
        failure = CallError(FailureKind.TRANSIENT, "the endpoint answered with an error")
        return Attempt(failure=failure, charge=charge, error_body=error)
    parts = read_choice(reply.get("choices"))
    if parts is None:
        if usage is None:
            return Attempt(failure=CallError(FailureKind.TRANSIENT, "the endpoint's response has no reply"))
        parts = ReplyParts()  # it was paid for
    served = usage_of(reply, request, parts.served)
    secrets = Secrets(hidden, tuple(message.content for message in request.messages))
    try:
        text = reply_text(parts, request, secrets=secrets, keep_thoughts=keep_thoughts)
    except CallError as failure:
        # One that the endpoint broke off costs what it reports.
        if failure.kind is FailureKind.NO_ANSWER:
            charge = Charge(model=model, usage=served)
        return Attempt(failure=failure, charge=charge)
    completion = Completion(
        text=_sendable(text), usage=served, finish_reason=parts.finish_reason, model=model
    )
    return Attempt(completion=completion)


def read_models(body: str) -> list[str]:
    """The names that ``/models`` lists; CallError if the body is something else."""
    data = _parsed(body)
    if isinstance(data, dict):
        lists = [data[key] for key in ("data", "models") if isinstance(data.get(key), list)]
    else:
        lists = [data] if isinstance(data, list) and data else []
    names = [_model_name(item) for item in next(filter(None, lists), [])]
    if not lists or "" in names:
        raise CallError(FailureKind.TRANSIENT, f"the response is no list of models but {_describe(body)}")
    return names


def error_in(body: str) -> object:
    """The body of ``/models``, parsed, if it is an error although it came with HTTP 200; else None."""
    data = _parsed(body)
    return data if isinstance(data, dict) and data.get("error") else None


def _parsed(body: str) -> object:
    try:
        return parse(body)
    except ValueError:
        return None


def _model_name(item: object) -> str:
    """The name of a listed model: servers call it ``id``, ``model`` or ``name``, or list bare names."""
    values = [item.get(key) for key in ("id", "model", "name")] if isinstance(item, dict) else [item]
    return next(
        (value for value in values if isinstance(value, str) and 0 < len(value) <= _MAX_NAME_CHARS), ""
    )


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
