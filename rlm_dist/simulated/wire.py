"""Requests in and responses out, as the two routes of the API have them, whole or broken on purpose."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from rlm_dist.schema import Message, Role, Usage

DRIP_S = 0.01
_TURN = re.compile(r"(?:^|\n\n)(System|User|Assistant): ?")


@dataclass(frozen=True)
class ParsedRequest:
    """One model request, parsed."""

    model: str
    role: Role
    messages: tuple[Message, ...]
    chat: bool

    @property
    def prompt(self) -> str:
        """The newest message, by which faults are matched."""
        return self.messages[-1].content if self.messages else ""


def turns(prompt: str) -> tuple[Message, ...]:
    """A transcript as messages; a prompt that is none as one user message."""
    parts = _TURN.split(prompt)
    if len(parts) == 1:
        return (Message(role="user", content=prompt),)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    told = [Message.model_validate({"role": name.lower(), "content": text}) for name, text in pairs]
    return tuple(told[:-1] if told[-1].content == "" else told)


def completion_body(asked: ParsedRequest, text: str | None, usage: Usage | None) -> dict[str, Any]:
    """The body of an answer on the route that was asked; without usage where None is given."""
    message = {"role": "assistant", "content": text}
    said: dict[str, Any] = {"message": message} if asked.chat else {"text": text}
    body = {
        "id": "simulated",
        "object": "chat.completion" if asked.chat else "text_completion",
        "created": 0,
        "model": asked.model,
        "choices": [{"index": 0, "finish_reason": "stop", **said}],
    }
    return body if usage is None else {**body, "usage": _usage_body(usage)}


def _usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def html_page() -> web.Response:
    """What a proxy in between, or a wrong address, likes to answer."""
    return web.Response(text="<!DOCTYPE html><html><body>hello</body></html>", content_type="text/html")


def refusal(status: int, message: str, code: str) -> web.Response:
    """An error as the API words it."""
    return web.json_response({"error": {"message": message, "type": code, "code": code}}, status=status)


async def half_body(request: web.Request, body: dict[str, Any]) -> None:
    """Promise a whole body and send half of it."""
    whole = json.dumps(body).encode()
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": str(len(whole))}
    )
    await response.prepare(request)
    await response.write(whole[: len(whole) // 2])


async def drip(request: web.Request) -> web.StreamResponse:
    """Send blanks, which JSON may start with, and never the answer."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(DRIP_S)


def disconnect(request: web.Request) -> web.StreamResponse:
    """Cut the connection; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
