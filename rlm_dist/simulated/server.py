"""The HTTP server of the simulated endpoint, run by its own thread.

Routes: ``/v1/models``, ``/v1/chat/completions``, ``/v1/completions``, and ``/served``, the count as JSON.
The model's name decides a request's role. ``simulated-root`` is listed first, and hence is what ``auto``
means for both roles, so it plays the sub model if the chat does not offer a REPL. Every service tier that is
asked for serves the request.
"""

import asyncio
import math
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from pydantic import JsonValue

from rlm_dist.schema import Message, Role, Usage
from rlm_dist.simulated import rules, scripts
from rlm_dist.simulated.faults import Fault, pick
from rlm_dist.simulated.tally import Served, Tally, tokens
from rlm_dist.simulated.wire import (
    ParsedRequest,
    completion_body,
    disconnect,
    drip,
    half_body,
    html_page,
    refusal,
    turns,
    window_refusal,
)

ROOT_MODEL = "simulated-root"
SUB_MODEL = "simulated-sub"
MODELS = (ROOT_MODEL, SUB_MODEL)
MAX_BODY_BYTES = 2**30
_PROMPT = {"messages", "model", "prompt"}

Respond = Callable[[Sequence[Message]], str]


@dataclass(frozen=True)
class Latency:
    """How long answers take: the median, and the spread (sigma) of a lognormal around it; 0 is fixed."""

    median_s: float
    sigma: float = 0.0
    seed: int = 0

    def draw_s(self, ordinal: int) -> float:
        """The time of the request ``ordinal``; the same ordinal always takes the same time."""
        if not self.sigma:
            return self.median_s
        draw = random.Random(f"{self.seed}:{ordinal}")
        return draw.lognormvariate(math.log(self.median_s), self.sigma)


@dataclass(frozen=True)
class TokenSpeed:
    """How long an answer takes by its tokens: a time to begin, then input and output by tokens a second."""

    first_s: float
    input_per_s: float
    output_per_s: float

    def time_s(self, usage: Usage, requests: int = 1) -> float:
        """The time of requests with this usage together, one after the other."""
        reading = usage.input_tokens / self.input_per_s
        return requests * self.first_s + reading + usage.output_tokens / self.output_per_s


class Rate:
    """A limit of ``per_s`` requests a second, as a token bucket that holds up to ``burst``."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Take room for one request, if there is any at this time; return whether there was."""
        flown = 0.0 if self._at is None else (now - self._at) * self._per_s
        self._left, self._at = min(self._burst, self._left + flown), now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class SimulatedEndpoint:
    """The endpoint, serving while the ``with`` block runs.

    ``root`` and ``sub`` replace the scripted models; ``models`` are the models that it lists and accepts;
    ``key`` is the only key that it accepts; ``chat=False`` leaves the chat route out, and ``schemas=False``
    the field ``response_format``, which is refused with a 400. It refuses requests
    with a 429, whose Retry-After is ``retry_after_s``: those above ``capacity`` at once or above ``rate``,
    and at random the fraction ``noise`` of all. A chat of more than ``window`` tokens gets a 400.
    ``faults``, ``capacity`` and ``rate`` may be changed at any time. ``speeds`` are by role, and add to
    ``latency``; an answer that has a fault takes no such time.
    """

    def __init__(
        self,
        *,
        root: Respond = scripts.reply,
        sub: Respond = rules.answer,
        faults: Sequence[Fault] = (),
        latency: Latency | None = None,
        speeds: Mapping[Role, TokenSpeed] | None = None,
        models: Sequence[str] = MODELS,
        key: str | None = None,
        chat: bool = True,
        schemas: bool = True,
        capacity: int | None = None,
        rate: Rate | None = None,
        noise: float = 0.0,
        retry_after_s: float | None = None,
        window: int | None = None,
        port: int = 0,
    ) -> None:
        self.faults = tuple(faults)
        self.capacity = capacity
        self.rate = rate
        self._noise = noise
        self._draw = random.Random(0)
        self._retry_after_s = retry_after_s
        self._window = window
        self._admitted = 0
        self._respond = {Role.ROOT: root, Role.SUB: sub}
        self._latency = latency
        self._speeds = speeds or {}
        self._models = tuple(models)
        self._key = key
        self._chat = chat
        self._schemas = schemas
        self._port = port
        self._tally = Tally()
        self._repeats: Counter[int] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulated", daemon=True)
        self._runner: web.AppRunner | None = None
        self._released = asyncio.Event()

    @property
    def url(self) -> str:
        """The address to set as RLM_API_URL."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def served(self) -> Served:
        """The count so far."""
        return self._tally.snapshot()

    def release(self) -> None:
        """Let requests go on that a fault of kind ``hold`` keeps waiting, and all later ones."""
        self._loop.call_soon_threadsafe(self._released.set)

    def release_waiting(self) -> None:
        """Let only those go on that wait now; requests that come later wait, however soon they come."""
        self._loop.call_soon_threadsafe(self._release_waiting)

    def hold(self) -> None:
        """Undo ``release``: a fault of kind ``hold`` keeps requests waiting again."""
        self._loop.call_soon_threadsafe(self._released.clear)

    def _release_waiting(self) -> None:
        """In one step of the loop, in which no request can come."""
        self._released.set()
        self._released.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_get("/served", self._show_served)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/chat/completions", self._complete_chat if self._chat else self._no_chat)
        # A handler is cancelled when its client disconnects: that is how an aborted call is noticed.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=2048)
        await web.SockSite(self._runner, self._listener, backlog=2048).start()
        self._port = self._listener.getsockname()[1]

    async def _stop(self) -> None:
        if self._runner is not None:
            # A connection that was just accepted gets its handler one round of the loop later. If the server
            # were closed before that, the connection would stay open, with its client waiting.
            self._loop.remove_reader(self._listener)
            await asyncio.sleep(0)
            await self._runner.cleanup()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _list_models(self, request: web.Request) -> web.Response:
        self._tally.listed()
        if not self._has_key(request):
            return refusal(401, "Incorrect API key provided", "invalid_api_key")
        models = [{"id": name, "object": "model", "owned_by": "rlm-dist"} for name in self._models]
        return web.json_response({"object": "list", "data": models})

    async def _show_served(self, _: web.Request) -> web.Response:
        return web.json_response(text=self.served.model_dump_json())

    async def _complete_chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        messages = tuple(Message(role=item["role"], content=item["content"]) for item in body["messages"])
        return await self._serve(request, body, messages, chat=True)

    async def _no_chat(self, _: web.Request) -> web.Response:
        self._tally.faulted("no_chat")
        return refusal(404, "File Not Found", "not_found_error")

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await self._serve(request, body, turns(body["prompt"]), chat=False)

    async def _serve(
        self, request: web.Request, body: dict[str, Any], messages: tuple[Message, ...], *, chat: bool
    ) -> web.StreamResponse:
        model = body["model"]
        parsed = ParsedRequest(model, _role(model, messages), messages, chat, body.get("service_tier"))
        parameters = {name: body[name] for name in body.keys() - _PROMPT}
        ordinal = self._tally.arrived(parsed.role, parameters)
        reason = self._refusal_reason()
        if reason is not None:
            self._tally.faulted(reason)
            self._tally.left(aborted=False)
            response = refusal(429, "Too many requests", "rate_limit_exceeded")
            if self._retry_after_s is not None:
                response.headers["Retry-After"] = f"{self._retry_after_s:g}"
            return response
        aborted = False
        self._admitted += 1
        try:
            if "response_format" in parameters and not self._schemas:
                self._tally.faulted("no_schemas")
                return refusal(400, "response_format is not supported by this model", "unsupported_parameter")
            if self._latency is not None:
                await asyncio.sleep(self._latency.draw_s(ordinal))
            return await self._answer(request, parsed, ordinal)
        except (asyncio.CancelledError, ConnectionError):
            aborted = True
            raise
        finally:
            self._admitted -= 1
            self._tally.left(aborted=aborted)

    def _refusal_reason(self) -> str | None:
        """Why a request is refused, if it is: at random, or there are too many, at once or in a second."""
        if self._noise and self._draw.random() < self._noise:
            return "noise"
        if self.capacity is not None and self._admitted >= self.capacity:
            return "capacity"
        return "capacity" if self.rate is not None and not self.rate.take(time.monotonic()) else None

    async def _answer(self, request: web.Request, parsed: ParsedRequest, ordinal: int) -> web.StreamResponse:
        if not self._has_key(request):
            return refusal(401, "Incorrect API key provided", "invalid_api_key")
        if parsed.model not in self._models:
            return refusal(404, f"The model `{parsed.model}` does not exist", "model_not_found")
        too_long = window_refusal(parsed, self._window)
        if too_long is not None:
            self._tally.faulted("too_long")
            return too_long
        fault = self._fault(parsed, ordinal)
        if fault is None:
            return await self._answer_in_time(parsed)
        self._tally.faulted(fault.kind)
        return await self._answer_wrongly(fault, request, parsed)

    async def _answer_in_time(self, parsed: ParsedRequest) -> web.Response:
        """Answer when the tokens have had their time; who gives up before that is not charged."""
        text = self._text(parsed)
        if speed := self._speeds.get(parsed.role):
            asked = sum(tokens(message.content) for message in parsed.messages)
            await asyncio.sleep(speed.time_s(Usage(input_tokens=asked, output_tokens=tokens(text))))
        return self._count_answer(parsed, text)

    def _has_key(self, request: web.Request) -> bool:
        return self._key is None or request.headers.get("Authorization") == f"Bearer {self._key}"

    def _fault(self, parsed: ParsedRequest, ordinal: int) -> Fault | None:
        if not self.faults:
            return None
        chat_hash = hash(parsed.messages)
        self._repeats[chat_hash] += 1
        return pick(self.faults, parsed.role, ordinal, parsed.prompt, self._repeats[chat_hash] - 1)

    def _count_answer(
        self,
        parsed: ParsedRequest,
        text: str | None,
        *,
        empty: bool = False,
        choice: Mapping[str, JsonValue] | None = None,
    ) -> web.Response:
        """Answer with ``text`` and its usage, and count it; ``choice`` has other fields for its choice."""
        usage = self._tally.answered(parsed.model, parsed.messages, text or "")
        body = completion_body(parsed, text, usage)
        choices = [] if empty else [{**body["choices"][0], **(choice or {})}]
        return web.json_response({**body, "choices": choices})

    def _text(self, parsed: ParsedRequest) -> str:
        return self._respond[parsed.role](parsed.messages)

    async def _answer_wrongly(
        self, fault: Fault, request: web.Request, parsed: ParsedRequest
    ) -> web.StreamResponse:
        match fault.kind:
            case "status":
                error = fault.error or {"message": f"simulated {fault.status}", "code": fault.status}
                return web.json_response({"error": error}, status=fault.status, headers=fault.headers)
            case "html":
                return html_page()
            case "empty_choices" | "null_content" | "choice":
                return self._odd_reply(fault, parsed)
            case "no_usage":
                return web.json_response(completion_body(parsed, self._text(parsed), None))
            case "half_body" | "drip" | "disconnect":
                return await self._cut_short(fault, request, parsed)
            case "hold":
                await self._released.wait()
                return self._count_answer(parsed, self._text(parsed))
            case "limits":
                response = self._count_answer(parsed, self._text(parsed))
                response.headers.update(fault.headers)
                return response
            case "hang":
                await asyncio.Event().wait()
        raise AssertionError(fault.kind)

    def _odd_reply(self, fault: Fault, parsed: ParsedRequest) -> web.Response:
        if fault.kind == "choice":
            return self._count_answer(parsed, self._text(parsed), choice=fault.choice)
        empty = fault.kind == "empty_choices"
        return self._count_answer(parsed, "" if empty else None, empty=empty)

    async def _cut_short(
        self, fault: Fault, request: web.Request, parsed: ParsedRequest
    ) -> web.StreamResponse:
        if fault.kind == "drip":
            return await drip(request)
        if fault.kind == "half_body":
            await half_body(request, completion_body(parsed, "half of it", None))
        return disconnect(request)


def _role(model: str, messages: Sequence[Message]) -> Role:
    """The role that a request is for; a chat that offers a REPL names ``llm_query`` in its system prompt."""
    if model == SUB_MODEL:
        return Role.SUB
    head = messages[0] if messages else None
    offers_repl = head is not None and head.role == "system" and "llm_query" in head.content
    return Role.ROOT if offers_repl else Role.SUB
