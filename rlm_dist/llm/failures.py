"""Turns HTTP errors of a model call into ``CallError`` with one of ``errors.FailureKind``.

An error text quotes an endpoint's message on one line of bounded length. The message is left out if it
repeats the prompt, and a key or a header's value in it is replaced by ``***``.
"""

import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import httpx2
import openai

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.retry import requested_delay_s

SHOWN_CHARS = 300
SHOWN_MODELS = 20
ECHO_CHARS = 32
# Besides the HTTP client's own errors: its transport does not translate everything that aiohttp raises.
TROUBLE = (
    openai.APIStatusError,
    httpx2.HTTPError,
    httpx2.InvalidURL,
    aiohttp.ClientError,
    OSError,
    EOFError,
    ValueError,
)

_NOTHING_BEHIND_PROXY = frozenset({502, 503, 504})
# These stand at the end of an error's chain of causes. The transport's own classes say little: it reports
# a lost connection as a timeout.
_NO_CONNECTION = (aiohttp.ClientConnectorError, ConnectionRefusedError, socket.gaierror)
_NO_MODEL = re.compile(r"model\b.{0,120}?\b(not found|not exist|unknown|not available)", re.I | re.S)
_NO_MODEL_CODES = frozenset({"model_not_found", "unknown_model", "invalid_model"})
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "insufficient_balance"})
# For a flex tier that has no room, Groq has a status, and OpenAI words in a 429.
_NO_ROOM = 498
_NO_ROOM_WORDS = re.compile(r"\bresource[ _]unavailable\b", re.I)
_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_TOO_LONG = re.compile(
    r"maximum context length|maximum model length|context size|context length|context window"
    r"|prompt is too long|too many tokens|request too large",
    re.I,
)
_WINDOW = re.compile(
    r"(?:maximum (?:context|model) length|context length|context size|context window)"
    r"[^\d\n]{0,20}(\d{2,9})|(\d{2,9}) maximum",
    re.I,
)
_NUMBER = re.compile(r"\b\d{2,9}\b")


class Secrets(NamedTuple):
    """What must not appear in an error's text: the key and header values, and the texts of the prompt."""

    hidden: Sequence[str]
    prompts: Sequence[str] = ()


class HTTPRefusal(CallError):
    """The endpoint answered with an HTTP error status."""

    def __init__(self, kind: str, message: str, retry_after_s: float | None = None, status: int = 0) -> None:
        CallError.__init__(self, kind, message, retry_after_s)
        self.args = (kind, message, retry_after_s, status)
        self.status = status

    @property
    def maybe_no_route(self) -> bool:
        """Whether the endpoint may simply lack this route."""
        return self.status in (404, 405, 501) and self.kind is not FailureKind.UNKNOWN_MODEL


class TierUnavailable(HTTPRefusal):
    """The service tier that was asked for has no room; the endpoint's other tiers may have."""


class NotConnected(CallError):
    """No connection to the endpoint could be made: it is down, or its name cannot be resolved."""


def is_unheard(failure: CallError) -> bool:
    """Whether a failure means that the endpoint is away: no connection, or a proxy with nothing behind it."""
    return isinstance(failure, NotConnected) or (
        isinstance(failure, HTTPRefusal) and failure.status in _NOTHING_BEHIND_PROXY
    )


def shown_url(url: str) -> str:
    """``url`` without user name, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def shown_models(models: Iterable[str]) -> str:
    """The names of ``models`` for an error's text, bounded in number and length."""
    names = [name[:100] for name in models]
    more = f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else ""
    return ", ".join(names[:SHOWN_MODELS]) + more


def to_call_error(error: Exception, url: str, secrets: Secrets) -> CallError:
    """``error``, raised by a request to ``url``, as a CallError with its kind and text."""
    if isinstance(error, openai.APIStatusError):
        return _refused(error, shown_url(url), secrets)
    if isinstance(error, (ValueError, httpx2.InvalidURL)):
        # The error's own text may quote the header or the address that cannot be used.
        return CallError(FailureKind.INVALID, f"cannot build a request for {shown_url(url)}")
    causes = list(_causes(error))
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return CallError(FailureKind.TIMEOUT, f"no answer in time from {shown_url(url)}")
    detail = shown(str(causes[-1]) or type(causes[-1]).__name__, secrets)
    kind = NotConnected if any(isinstance(cause, _NO_CONNECTION) for cause in causes) else CallError
    return kind(FailureKind.TRANSIENT, f"the connection to {shown_url(url)} failed: {detail}")


def shown(text: str, secrets: Secrets) -> str:
    """``text`` from an endpoint, safe to show: one line of bounded length without secrets."""
    line = " ".join(text.split())
    for hidden in sorted(filter(None, secrets.hidden), key=len, reverse=True):
        line = line.replace(hidden, "***")
    line = line[:SHOWN_CHARS]
    if any(_echoes(line, prompt) for prompt in secrets.prompts):
        return "(the message is left out, as it repeats the prompt)"
    return line


def _echoes(line: str, prompt: str) -> bool:
    if 8 <= len(prompt) <= ECHO_CHARS and prompt in line:
        return True
    # Any common run of 2 * ECHO_CHARS characters contains one complete window at this stride.
    starts = range(0, len(line) - ECHO_CHARS + 1, ECHO_CHARS)
    return any(line[start : start + ECHO_CHARS] in prompt for start in starts)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _refused(error: openai.APIStatusError, url: str, secrets: Secrets) -> HTTPRefusal:
    status = error.status_code
    body = error.body if isinstance(error.body, dict) else {}
    text = _text(body)
    quote = f": {shown(text, secrets)}" if text else ""
    delay_s = requested_delay_s(error.response.headers)
    codes = {str(body.get(name)) for name in ("code", "type")}
    kind = _kind(status, text, codes)
    no_room = kind is FailureKind.RATE and any(map(_NO_ROOM_WORDS.search, (text, *codes)))
    form = TierUnavailable if status == _NO_ROOM or no_room else HTTPRefusal
    return form(kind, _message(kind, status, url, body, quote), delay_s, status)


def _text(body: dict[str, Any]) -> str:
    message = body.get("message") or body.get("detail") or body.get("error") or ""
    return message if isinstance(message, str) else str(message)


def _kind(status: int, text: str, codes: set[str]) -> FailureKind:
    if status in (401, 403):
        return FailureKind.AUTH
    if status == 402 or codes & _QUOTA_CODES:
        return FailureKind.QUOTA
    if status in (429, _NO_ROOM):
        return FailureKind.RATE
    if codes & _TOO_LONG_CODES or status == 413 or (status in (400, 422, 500) and _TOO_LONG.search(text)):
        return FailureKind.TOO_LONG
    if codes & _NO_MODEL_CODES or (status in (400, 404) and _NO_MODEL.search(text)):
        return FailureKind.UNKNOWN_MODEL
    if status in (408, 409) or (status >= 500 and status != 501):
        return FailureKind.TRANSIENT
    return FailureKind.INVALID


def _message(kind: FailureKind, status: int, url: str, body: dict[str, Any], quote: str) -> str:
    answer = f"{url} answered HTTP {status}"
    if status == 401:
        # Endpoints often quote a part of the key here, and the message says nothing else of use.
        return f"{answer}: the key is missing or wrong (RLM_API_KEY, RLM_SUB_API_KEY)"
    if kind is FailureKind.AUTH:
        return f"{answer}: this key is not allowed to do that{quote}"
    if kind is FailureKind.TOO_LONG:
        prompt, window = _sizes(body)
        sizes = f"the prompt has {prompt} tokens, the model's window is {window}"
        return (
            sizes if prompt and window else f"the prompt exceeds the model's window{quote or f' ({answer})'}"
        )
    if status in (404, 405, 501) and kind is FailureKind.INVALID:
        return f"{answer}: no such route; check the address (it usually ends in /v1){quote}"
    return answer + quote


def _sizes(body: dict[str, Any]) -> tuple[int | None, int | None]:
    """The tokens of the prompt and of the model's window, as far as the endpoint reported them."""
    fields = body.get("n_prompt_tokens"), body.get("n_ctx")
    if isinstance(fields[0], int) and isinstance(fields[1], int):
        return fields
    text = _text(body).replace(",", "")
    window = _WINDOW.search(text)
    if window is None:
        return None, None
    limit = int(window[1] or window[2])
    larger = [int(number) for number in _NUMBER.findall(text) if int(number) > limit]
    return (min(larger), limit) if larger else (None, limit)
