"""One endpoint's HTTP client, and what this process has learnt about the endpoint.

The SDK makes the client and the headers, once. Requests are built here and go straight to that client:
building each one in the SDK takes a quarter of a call's CPU time.

Everything here runs in the event loop of its ``LLM``, so there are no locks. Two facts are learnt once and
kept: the list of ``/models`` (a failed request for it is not kept), and whether there is a chat route.
"""

import asyncio
import json
from collections.abc import Mapping

import httpx2
import openai

from rlm_dist.errors import CallError, FailureKind
from rlm_dist.llm.failures import (
    TROUBLE,
    HTTPRefusal,
    Secrets,
    is_unheard,
    shown_models,
    shown_url,
    to_call_error,
)
from rlm_dist.llm.retry import requested_delay_s
from rlm_dist.llm.wire import Attempt, chat_body, plain_body, read_chat, read_models, read_plain
from rlm_dist.schema import CallRequest

CONNECT_TIMEOUT_S = 10.0
MODELS_TIMEOUT_S = 30.0
PROBE_TIMEOUT_S = 10.0
# The SDK insists on a key; a local server takes any.
NO_KEY = "no-key"


class Connection:
    """The HTTP client of one endpoint; made and used only in the event loop's thread."""

    def __init__(self, *, url: str, key: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self.shown_url = shown_url(self.url)
        self._key = key
        # An endpoint may quote a part of a value, such as the token after "Bearer".
        self._hidden = (key, *(part for value in headers.values() for part in value.split()))
        self._timeout_s = timeout_s
        self._has_chat = True
        self._models: asyncio.Task[list[str]] | None = None
        self._probe: asyncio.Task[bool] | None = None
        self._http = openai.DefaultAioHttpClient()
        self._headers = _headers(self._http, key, headers)
        self._urls: dict[str, httpx2.URL] = {}
        # Whoever sends a request bounds its whole time: calls of the flex tier may take longer than others.
        self._timeouts = httpx2.Timeout(None, connect=min(CONNECT_TIMEOUT_S, timeout_s)).as_dict()

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
        await self._http.aclose()

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
            models = read_models((await self._send("/models", None, ())).text)
        if not models:
            raise CallError(FailureKind.UNKNOWN_MODEL, f"{self.shown_url} lists no model")
        return models

    async def _complete(self, request: CallRequest, model: str) -> Attempt:
        if not self._has_chat:
            return await self._plain(request, model)
        try:
            response = await self._post("/chat/completions", chat_body(request, model), request, model)
        except HTTPRefusal as refusal:
            if not await self._lacks_chat(refusal):
                raise
            return await self._plain(request, model)
        return read_chat(response.text, request, model)._replace(
            blocked_s=requested_delay_s(response.headers)
        )

    async def _lacks_chat(self, refusal: HTTPRefusal) -> bool:
        """Whether the endpoint has only the plain route: it refuses the chat route, but lists its models."""
        if not refusal.maybe_no_route:
            return False
        if refusal.status != 501:
            try:
                await self.models()
            except (CallError, TimeoutError):
                return False
        return True

    async def _plain(self, request: CallRequest, model: str) -> Attempt:
        try:
            response = await self._post("/completions", plain_body(request, model), request, model)
        except HTTPRefusal as refusal:
            self._has_chat = self._has_chat or refusal.maybe_no_route
            raise
        self._has_chat = False
        return read_plain(response.text, request, model)._replace(
            blocked_s=requested_delay_s(response.headers)
        )

    async def _post(self, path: str, body: object, request: CallRequest, model: str) -> httpx2.Response:
        try:
            return await self._send(path, body, tuple(message.content for message in request.messages))
        except CallError as failure:
            if failure.kind is not FailureKind.UNKNOWN_MODEL:
                raise
        raise await self._unknown_model(model)

    async def _send(self, path: str, body: object, prompts: tuple[str, ...]) -> httpx2.Response:
        """The response with its body unparsed: callers read it as JSON, whatever its content type says."""
        if not (self._key.isascii() and self._key.isprintable()):
            raise CallError(
                FailureKind.AUTH, "the key contains characters that are not allowed in an HTTP header"
            )
        try:
            response = await self._http.send(self._request(path, body))
            response.encoding = "utf-8"  # JSON is UTF-8, whatever the headers say; this saves reading them
            if not response.is_success:
                raise openai.APIStatusError("refused", response=response, body=_error_of(response))
            return response
        except TROUBLE as error:
            failure = to_call_error(error, self.url + path, Secrets(self._hidden, prompts))
        # Raised outside the handler: else its context would be the SDK's error, which holds the request.
        raise failure

    def _request(self, path: str, body: object) -> httpx2.Request:
        content = None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        if path not in self._urls:
            self._urls[path] = httpx2.URL(self.url + path)
        return httpx2.Request(
            "GET" if body is None else "POST",
            self._urls[path],
            headers=self._headers,
            content=content,
            extensions={"timeout": self._timeouts},
        )

    async def _unknown_model(self, model: str) -> CallError:
        try:
            listing = f"it has: {shown_models(await self.models())}"
        except (CallError, TimeoutError):
            listing = "and it does not list its models"
        return CallError(
            FailureKind.UNKNOWN_MODEL, f"{self.shown_url} has no model {model[:100]!r}; {listing}"
        )


def preload() -> None:
    """Load what the SDK loads with its first client, so that processes forked later share it."""
    _headers(openai.DefaultAioHttpClient(), NO_KEY, {})


def _headers(http: httpx2.AsyncClient, key: str, overrides: Mapping[str, str]) -> httpx2.Headers:
    """The headers that the SDK sends with each request; ``overrides`` replace or add to them."""
    sdk = openai.AsyncOpenAI(api_key=key or NO_KEY, http_client=http)
    headers = httpx2.Headers(http.headers)
    for name, value in {**sdk.default_headers, **sdk.auth_headers, **overrides}.items():
        if isinstance(value, str):  # the SDK marks omitted headers by other types
            headers[name] = value
    return headers


def _error_of(response: httpx2.Response) -> object:
    """The error object in a refusal's body, or None."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body.get("error", body) if isinstance(body, dict) else None


def _failed(task: "asyncio.Task[list[str]]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _retrieve_error(task: "asyncio.Task[list[str]]") -> None:
    """Retrieve the exception of a task: if all its waiters are gone, asyncio would complain on stderr."""
    _failed(task)
