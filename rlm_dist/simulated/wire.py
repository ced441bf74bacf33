"""Requests and responses in the format of the API's two routes; responses are whole, or broken on purpose."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from rlm_dist.schema import Message, Role, Usage
from rlm_dist.simulated.tally import tokens

DRIP_S = 0.01
_TURN = re.compile(r"(?:^|\n\n)(System|User|Assistant): ?")


@dataclass(frozen=True)
class ParsedRequest:
    """One model request, parsed."""

    model: str
    role: Role
    messages: tuple[Message, ...]
    chat: bool
    tier: str | None = None

    @property
    def prompt(self) -> str:
        """The text of the newest message, which faults are matched against."""
        return self.messages[-1].content if self.messages else ""


def window_refusal(request: ParsedRequest, window: int | None) -> web.Response | None:
    """The refusal of a chat that is longer than the window, in tokens; None if it fits."""
    prompt = sum(tokens(message.content) for message in request.messages)
    if window is None or prompt <= window:
        return None
    words = (
        f"This model's maximum context length is {window} tokens. However, your messages resulted in "
        f"{prompt} tokens. Please reduce the length of the messages."
    )
    return refusal(400, words, "context_length_exceeded")


def turns(prompt: str) -> tuple[Message, ...]:
    """The messages of a transcript; a prompt that is not a transcript becomes one user message."""
    parts = _TURN.split(prompt)
    if len(parts) == 1:
        return (Message(role="user", content=prompt),)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    messages = [Message.model_validate({"role": name.lower(), "content": text}) for name, text in pairs]
    return tuple(messages[:-1] if messages[-1].content == "" else messages)


def completion_body(request: ParsedRequest, text: str | None, usage: Usage | None) -> dict[str, Any]:
    """The body of an answer in the format of the request's route; has no usage if ``usage`` is None."""
    message = {"role": "assistant", "content": text}
    content: dict[str, Any] = {"message": message} if request.chat else {"text": text}
    body = {
        "id": "simulated",
        "object": "chat.completion" if request.chat else "text_completion",
        "created": 0,
        "model": request.model,
        "choices": [{"index": 0, "finish_reason": "stop", **content}],
    }
    if request.tier is not None:
        body["service_tier"] = request.tier
    return body if usage is None else {**body, "usage": _usage_body(usage)}


def _usage_body(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def html_page() -> web.Response:
    """The kind of page that a proxy in between, or a server at a wrong address, answers with."""
    return web.Response(text="<!DOCTYPE html><html><body>hello</body></html>", content_type="text/html")


def refusal(status: int, message: str, code: str) -> web.Response:
    """An error in the format of the API."""
    return web.json_response({"error": {"message": message, "type": code, "code": code}}, status=status)


async def half_body(request: web.Request, body: dict[str, Any]) -> None:
    """Announce the length of the whole body, and send half of it."""
    whole = json.dumps(body).encode()
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": str(len(whole))}
    )
    await response.prepare(request)
    await response.write(whole[: len(whole) // 2])


async def drip(request: web.Request) -> web.StreamResponse:
    """Send blanks for ever, which JSON may start with, and never the answer."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(DRIP_S)


def disconnect(request: web.Request) -> web.StreamResponse:
    """Cut the connection; the response that is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
