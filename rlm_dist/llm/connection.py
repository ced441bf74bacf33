"""One endpoint's HTTP client, and what this process has learnt about the endpoint.

The SDK makes the headers, once. Requests are built here and sent by ``Transport``: building each one in the
SDK takes a quarter of a call's CPU time, and as much of its memory while it waits.

Everything here runs in the event loop of its ``LLM``, so there are no locks. Three facts are learnt once and
kept: the list of ``/models`` (a failed request for it is not kept), whether there is a chat route, and the
dialect that each model's requests must be in. Redirects are not followed: key and prompt stay at the address
that the user set.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx2
import openai
import structlog

from rlm_dist.bounded_json import TooComplex
from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.bodies import ACCEPTED_ENCODING, MAX_LONG_BODIES, read_body, too_large
from rlm_dist.llm.failures import (
    TROUBLE,
    HTTPRefusal,
    Secrets,
    error_in_answer,
    is_unheard,
    refusal,
    shown_models,
    shown_url,
    to_call_error,
)
from rlm_dist.llm.request_dialects import Dialect, dialect_of
from rlm_dist.llm.retry import requested_delay_s
from rlm_dist.llm.streams import is_stream
from rlm_dist.llm.transport import Transport
from rlm_dist.llm.wire import Attempt, chat_body, error_in, plain_body, read_models, read_reply
from rlm_dist.schema import CallRequest

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 10.0
MODELS_TIMEOUT_S = 30.0
PROBE_TIMEOUT_S = 10.0
MAX_DIALECTS = 1000  # model names come from jobs
LONG_CHARS = 2**18  # a longer reply is read in a thread
# The SDK insists on a key; it is not sent.
NO_KEY = "no-key"
# A value in the address's query may be a key; a shorter one, such as a version, is not hidden.
MIN_SECRET_CHARS = 20


class Response(NamedTuple):
    """The text and the headers of a response that reports no error."""

    text: str
    headers: Mapping[str, str]


class Connection:
    """The HTTP client of one endpoint; made and used only in the event loop's thread."""

    def __init__(
        self,
        *,
        url: str,
        key: str,
        headers: Mapping[str, str],
        timeout_s: float,
        keep_thoughts: bool = False,
    ) -> None:
        self.url = url.rstrip("/")
        self.shown_url = shown_url(self.url)
        self._key = key
        # An endpoint may quote a part of a value, such as the token after "Bearer".
        query = [value for _, value in parse_qsl(urlsplit(url).query) if len(value) >= MIN_SECRET_CHARS]
        self._hidden = (key, *query, *(part for value in headers.values() for part in value.split()))
        self._timeout_s = timeout_s
        self._keep_thoughts = keep_thoughts
        self._has_chat = True
        self._dialects: dict[str, Dialect] = {}
        self._models: asyncio.Task[list[str]] | None = None
        self._probe: asyncio.Task[bool] | None = None
        http = http_client()
        self._transport = Transport(
            http, self.url, _headers(http, key, headers), connect_s=min(CONNECT_TIMEOUT_S, timeout_s)
        )
        self._long_bodies = asyncio.Semaphore(MAX_LONG_BODIES)

    async def attempt(self, request: CallRequest, model: str) -> Attempt:
        """Send ``request`` once; a problem with the endpoint is reported in the result."""
        try:
            name = (await self.models())[0] if model == "auto" else model
            return await self._complete(request, name)
        except CallError as failure:
            return Attempt(failure=failure, unheard=is_unheard(failure) or await self._hangs(failure))

    async def answers(self) -> bool:
        """Whether the endpoint soon answers anything at all; concurrent callers share one request."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.ensure_future(self._answers_soon())
        return await asyncio.shield(self._probe)

    async def models(self) -> list[str]:
        """The endpoint's models, at least one; concurrent callers share one request. Raises CallError."""
        if self._models is None or _failed(self._models):
            self._models = asyncio.ensure_future(self._request_models())
            self._models.add_done_callback(_retrieve_error)
        # Cancelling one caller must not cancel the request for the others.
        return await asyncio.shield(self._models)

    async def close(self) -> None:
        """Close all connections of this endpoint."""
        for task in (self._models, self._probe):
            if task is not None:
                task.cancel()
        await self._transport.close()

    async def _hangs(self, failure: CallError) -> bool:
        """Whether a call timed out because the endpoint hangs; it may also just have been a long call."""
        return failure.kind is FailureKind.TIMEOUT and not await self.answers()

    async def _answers_soon(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._send("/models", None, ())
        except TimeoutError:
            return False
        except CallError as failure:
            return failure.kind is not FailureKind.TIMEOUT and not is_unheard(failure)
        return True

    async def _request_models(self) -> list[str]:
        async with asyncio.timeout(min(MODELS_TIMEOUT_S, self._timeout_s)):
            body = (await self._send("/models", None, ())).text
        error = error_in(body)
        if error is not None:
            raise error_in_answer(error, self._address("/models"), self._secrets(()))
        models = read_models(body)
        if not models:
            raise CallError(FailureKind.UNKNOWN_MODEL, f"{self.shown_url} lists no model")
        return models

    async def _complete(self, request: CallRequest, model: str) -> Attempt:
        if not self._has_chat:
            return await self._plain(request, model)
        try:
            return await self._chat(request, model)
        except HTTPRefusal as refused:
            if not await self._lacks_chat(refused):
                raise
        return await self._plain(request, model)

    async def _chat(self, request: CallRequest, model: str) -> Attempt:
        """One request on the chat route, repeated at once if a refusal teaches another way to make it."""
        body = chat_body(request, model)
        while True:
            dialect = self._dialect(model)
            sent = dialect.translated(body)
            try:
                response = await self._post("/chat/completions", sent, request, model)
            except HTTPRefusal as refused:
                is_refused_field = refused.status in (400, 422) and refused.kind is FailureKind.INVALID
                learnt = dialect.learnt(refused.error, sent) if is_refused_field else None
                if learnt is None:
                    raise
                if self._dialect(model) == dialect:  # else another call has learnt meanwhile
                    self._learn(model, learnt)
                continue
            if is_stream(response.text) and not self._dialect(model).stream:
                self._learn(model, replace(self._dialect(model), stream=True))
            attempt = await self._read(response, "/chat/completions", request, model)
            dropped = dialect.dropped(body)
            if dropped and attempt.completion:
                completion = attempt.completion.model_copy(update={"dropped_parameters": dropped})
                attempt = attempt._replace(completion=completion)
            return attempt

    def _dialect(self, model: str) -> Dialect:
        return self._dialects.get(model) or dialect_of(model)

    def _learn(self, model: str, dialect: Dialect) -> None:
        if model not in self._dialects and len(self._dialects) >= MAX_DIALECTS:
            del self._dialects[next(iter(self._dialects))]  # the oldest; it can be learnt again
        self._dialects[model] = dialect
        log.info(
            "request_dialect_learnt", endpoint=self.shown_url, model=model[:100],
            refused=sorted(dialect.refused), stream=dialect.stream,
        )  # fmt: skip

    async def _read(self, response: Response, path: str, request: CallRequest, model: str) -> Attempt:
        """The end of an attempt; a long reply is read in another thread, as all calls wait for this one."""
        if len(response.text) <= LONG_CHARS:
            return self._read_now(response, path, request, model)
        return await asyncio.to_thread(self._read_now, response, path, request, model)

    def _read_now(self, response: Response, path: str, request: CallRequest, model: str) -> Attempt:
        """The end of an attempt, with what the headers say; if the answer was an error, it is sorted."""
        blocked_s = requested_delay_s(response.headers)
        try:
            attempt = read_reply(
                response.text, request, model, hidden=self._hidden, keep_thoughts=self._keep_thoughts
            )
        except TooComplex as error:
            attempt = Attempt(failure=too_large(str(error)))
        if attempt.error_body is None:
            return attempt._replace(blocked_s=blocked_s)
        secrets = self._secrets(_prompts(request))
        failure = error_in_answer(attempt.error_body, self._address(path), secrets)
        return attempt._replace(blocked_s=blocked_s, failure=failure, error_body=None)

    async def _lacks_chat(self, refused: HTTPRefusal) -> bool:
        """Whether the endpoint has only the plain route: it refuses the chat route, but lists its models."""
        if not refused.maybe_no_route:
            return False
        if refused.status != 501:
            try:
                await self.models()
            except (CallError, TimeoutError):
                return False
        return True

    async def _plain(self, request: CallRequest, model: str) -> Attempt:
        try:
            response = await self._post("/completions", plain_body(request, model), request, model)
        except HTTPRefusal as refused:
            self._has_chat = self._has_chat or refused.maybe_no_route
            raise
        self._has_chat = False
        return await self._read(response, "/completions", request, model)

    async def _post(self, path: str, body: object, request: CallRequest, model: str) -> Response:
        try:
            return await self._send(path, body, _prompts(request))
        except CallError as failure:
            if failure.kind is not FailureKind.UNKNOWN_MODEL:
                raise
            words = failure.message
        raise await self._unknown_model(model, words)

    async def _send(self, path: str, body: object, prompts: tuple[str, ...]) -> Response:
        """The response with its body unparsed: callers read it as JSON, whatever its content type says."""
        if not (self._key.isascii() and self._key.isprintable()):
            raise CallError(
                FailureKind.AUTH, "the key contains characters that are not allowed in an HTTP header"
            )
        try:
            response = await self._transport.send(self._address(path), _content(body))
            text = await read_body(response, self._long_bodies)
            if response.is_success:
                return Response(text, response.headers)
            status, headers = response.status_code, response.headers
            failure: CallError = refusal(status, headers, text, self._address(path), self._secrets(prompts))
        except TROUBLE as error:
            failure = to_call_error(error, self._address(path), self._secrets(prompts))
        # Raised outside the handler: else its context would be the client's error, which holds the request.
        try:
            raise failure
        finally:
            del failure  # else it and this frame, which has the prompt, would keep each other in memory

    def _address(self, path: str) -> str:
        """The address of a route; a query in the endpoint's address, such as Azure's version, is kept."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + path, parts.query, ""))

    def _secrets(self, prompts: tuple[str, ...]) -> Secrets:
        return Secrets(self._hidden, prompts)

    async def _unknown_model(self, model: str, words: str) -> CallError:
        try:
            listing = f"it has: {shown_models(await self.models())}"
        except (CallError, TimeoutError):
            listing = "and it does not list its models"
        return CallError(
            FailureKind.UNKNOWN_MODEL, f"{self.shown_url} has no model {model[:100]!r}; {listing} ({words})"
        )


def preload() -> None:
    """Load what the SDK loads with its first client, so that processes forked later share it."""
    _headers(http_client(), NO_KEY, {})


def http_client() -> httpx2.AsyncClient:
    """The SDK's client, which makes the headers and knows proxies and certificates; it sends nothing."""
    return openai.DefaultAioHttpClient()


def _headers(http: httpx2.AsyncClient, key: str, overrides: Mapping[str, str]) -> httpx2.Headers:
    """The headers that the SDK sends with each request; ``overrides`` replace or add to them."""
    sdk = openai.AsyncOpenAI(api_key=key or NO_KEY, http_client=http)
    headers = httpx2.Headers(http.headers)
    headers["accept-encoding"] = ACCEPTED_ENCODING
    for name, value in {**sdk.default_headers, **sdk.auth_headers, **overrides}.items():
        if isinstance(value, str):  # the SDK marks omitted headers by other types
            headers[name] = value
    if not key and "authorization" not in {name.lower() for name in overrides}:
        del headers["authorization"]  # it would be the SDK's placeholder, beside a key in another header
    return headers


def _content(body: object) -> bytes | None:
    return None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode()


def _prompts(request: CallRequest) -> tuple[str, ...]:
    return tuple(message.content for message in request.messages)


def _failed(task: "asyncio.Task[list[str]]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _retrieve_error(task: "asyncio.Task[list[str]]") -> None:
    """Retrieve the exception of a task: if all its waiters are gone, asyncio would complain on stderr."""
    _failed(task)
