"""Turns HTTP errors of a model call into ``CallError`` with one of ``errors.FailureKind``.

An error text quotes an endpoint's message on one line of bounded length. The message is left out if it
repeats the prompt. A key or a header's value in it is replaced by ``***``, and so is whatever looks like a
part of a key: endpoints quote keys masked in the middle.

``error_bodies`` reads an endpoint's words, ``error_kinds`` sorts them.
"""

import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit

import aiohttp
import httpx2
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.error_bodies import ErrorBody, read_error
from rlm_dist.llm.error_kinds import KEY_WORDS, UNKNOWN_STATUS, kind_of
from rlm_dist.llm.retry import requested_delay_s

SHOWN_CHARS = 300
SHOWN_MODELS = 20
ECHO_CHARS = 32
_MAX_LOOKED_AT_CHARS = 20_000
# Besides the HTTP client's own errors: its transport does not translate everything that aiohttp raises.
TROUBLE = (
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
# For a flex tier that has no room, Groq has a status, and OpenAI words or a code in a 429.
_NO_ROOM = 498
_NO_ROOM_WORDS = re.compile(r"\bresource[ _]unavailable\b", re.I)
_WINDOW = re.compile(
    r"(?:maximum (?:context|model) length|context length|context size|context window|tokens allowed|limit is"
    r"|must be <=|less than)[^\d\n]{0,20}(\d{2,9})|(\d{2,9}) maximum",
    re.I,
)
_NUMBER = re.compile(r"\b\d{2,9}\b")
# A key as endpoints quote it: with stars or dots in the middle, or whole, by the prefixes that keys have.
_KEY_PART = re.compile(
    r"[^\s'\"`(:=]*\*{2,}[^\s'\"`),;]*|[\w-]{2,}\.{3}[\w-]{2,}"
    r"|\b(?:(?:sk|rk|gsk|csk|hf|xai|nvapi|fw|tgp|pplx)[-_]|AIza)[\w-]+|\b[0-9a-f]{32,}\b"
)
_REDIRECTS = range(300, 400)
# Statuses of errors that validate the request, and may quote it.
_QUOTING = frozenset({UNKNOWN_STATUS, 400, 422, 500})


class Secrets(NamedTuple):
    """What must not appear in an error's text: the key and header values, and the texts of the prompt."""

    hidden: Sequence[str]
    prompts: Sequence[str] = ()


class HTTPRefusal(CallError):
    """The endpoint answered with an HTTP error status.

    ``error`` has what it said; it may quote the prompt, so it is neither pickled nor shown.
    """

    def __init__(self, kind: str, message: str, retry_after_s: float | None = None, status: int = 0) -> None:
        CallError.__init__(self, kind, message, retry_after_s)
        self.args = (kind, message, retry_after_s, status)
        self.status = status
        self.error = ErrorBody()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args

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
    if isinstance(error, (ValueError, httpx2.InvalidURL)):
        # The error's own text may quote the header or the address that cannot be used.
        return CallError(FailureKind.INVALID, f"cannot build a request for {shown_url(url)}")
    causes = list(_causes(error))
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return CallError(FailureKind.TIMEOUT, f"no answer in time from {shown_url(url)}")
    if any(isinstance(cause, BadHttpMessage) and _has_large_headers(cause) for cause in causes):
        return CallError(
            FailureKind.NO_ANSWER, f"the headers of the response of {shown_url(url)} are too large"
        )
    detail = shown(str(causes[-1]) or type(causes[-1]).__name__, secrets)
    kind = NotConnected if any(isinstance(cause, _NO_CONNECTION) for cause in causes) else CallError
    return kind(FailureKind.TRANSIENT, f"the connection to {shown_url(url)} failed: {detail}")


def refusal(status: int, headers: Mapping[str, str], body: object, url: str, secrets: Secrets) -> HTTPRefusal:
    """The failure for a response with an HTTP error status; ``body`` is its text, or the JSON in it."""
    error = read_error(body)
    words = shown(error.text, secrets)
    error = _without_prompt(error, status, secrets)
    kind = FailureKind.INVALID if status in _REDIRECTS else kind_of(status, error)
    delay_s = requested_delay_s(headers)
    answer = f"{shown_url(url)} answered HTTP {status}"
    if status in _REDIRECTS:
        message = _moved(answer, url, headers.get("location", ""), secrets)
    else:
        message = _message(kind, status, answer, error, words)
    form = TierUnavailable if _lacks_room(kind, status, error) else HTTPRefusal
    failure = form(kind, message, error.delay_s if delay_s is None else delay_s, status)
    failure.error = error
    return failure


def error_in_answer(body: object, url: str, secrets: Secrets) -> CallError:
    """The failure for an error that came with HTTP 200: sorted as the status that it names would be."""
    error = read_error(body)
    words = shown(error.text, secrets)
    status = error.status or UNKNOWN_STATUS
    error = _without_prompt(error, status, secrets)
    kind = kind_of(status, error)
    answer = f"{shown_url(url)} answered HTTP 200 with error {status}" if status else ""
    answer = answer or f"{shown_url(url)} answered HTTP 200 with an error"
    return CallError(kind, _message(kind, status, answer, error, words), error.delay_s)


def shown(text: str, secrets: Secrets) -> str:
    """``text`` from an endpoint, safe to show: one line of bounded length without secrets."""
    line = " ".join(text[:_MAX_LOOKED_AT_CHARS].split())
    for hidden in sorted(filter(None, secrets.hidden), key=len, reverse=True):
        line = line.replace(hidden, "***")
    line = _KEY_PART.sub("***", line[: 2 * SHOWN_CHARS])[:SHOWN_CHARS]
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


def _has_large_headers(error: BadHttpMessage) -> bool:
    """Whether a line of the headers is too long, or there are too many; both are limits of aiohttp."""
    return isinstance(error, LineTooLong) or error.message.startswith("Too many headers")


def _lacks_room(kind: FailureKind, status: int, error: ErrorBody) -> bool:
    """Whether the service tier has no room, though another tier may have."""
    words = (error.text, *error.codes)
    return status == _NO_ROOM or (kind is FailureKind.RATE and any(map(_NO_ROOM_WORDS.search, words)))


def _without_prompt(error: ErrorBody, status: int, secrets: Secrets) -> ErrorBody:
    """``error`` without its text if that repeats the prompt, whose words say nothing about the error."""
    is_quoting = status in _QUOTING and any(_echoes(error.text, prompt) for prompt in secrets.prompts)
    return error._replace(text="") if is_quoting else error


def _moved(answer: str, url: str, location: str, secrets: Secrets) -> str:
    """The text for a redirect, which is not followed: it would take the key and the prompt elsewhere."""
    if not location:
        return f"{answer}: a redirect, which is not followed; check the address in RLM_API_URL"
    address = shown(shown_url(urljoin(url, location)), secrets)
    base = re.sub(r"/(?:chat/completions|completions|models)/?$", "", address)
    return (
        f"{answer}: it has moved to {address}. Redirects are not followed; set RLM_API_URL "
        f"(or RLM_SUB_API_URL) to {base}"
    )


def _message(kind: FailureKind, status: int, answer: str, error: ErrorBody, words: str) -> str:
    quote = f": {words}" if words else ""
    if kind is FailureKind.AUTH and (status == 401 or KEY_WORDS.search(error.text)):
        return f"{answer}: the key is missing or wrong (RLM_API_KEY, RLM_SUB_API_KEY){quote}"
    if kind is FailureKind.AUTH:
        return f"{answer}: this key is not allowed to do that{quote}"
    if kind is FailureKind.TOO_LONG:
        return _too_long(answer, error, quote)
    if status in (404, 405, 501) and kind is FailureKind.INVALID:
        return f"{answer}: no such route; check the address (it usually ends in /v1){quote}"
    return answer + quote


def _too_long(answer: str, error: ErrorBody, quote: str) -> str:
    if "per min" in error.text:  # a limit of the account: the numbers in the text are not the model's window
        return f"the request is larger than the endpoint allows in a minute{quote}"
    prompt, window = error.sizes or _sizes(error.text)
    if prompt and window:
        return f"the prompt has {prompt} tokens, the model's window is {window}"
    if window:  # ``engine.compaction`` reads these words
        return f"the prompt exceeds the model's window of {window} tokens{quote}"
    return f"the prompt exceeds the model's window{quote or f' ({answer})'}"


def _sizes(text: str) -> tuple[int | None, int | None]:
    """The tokens of the prompt and of the model's window, as far as the endpoint's words have them."""
    text = text.replace(",", "")
    window = _WINDOW.search(text)
    if window is None:
        return None, None
    limit = int(window[1] or window[2])
    larger = [int(number) for number in _NUMBER.findall(text) if int(number) > limit]
    return (min(larger), limit) if larger else (None, limit)
