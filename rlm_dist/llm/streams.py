"""Joins a streamed answer (server-sent events) into what the same answer would be unstreamed.

The whole stream is read first. An error event takes the place of the choices, and so does a stream that ends
before its answer does: a connection was lost somewhere on the way.
"""

from collections.abc import Iterator
from typing import Any

from rlm_dist.bounded_json import TooComplex, parse

MAX_LINES = 500_000
_BEGINNINGS = ("data:", "event:", ":", "id:", "retry:")
_CUT = {"message": "the stream ended before the answer was complete", "type": "server_error"}


def is_stream(body: str) -> bool:
    """Whether ``body`` is a stream of events and not one JSON value."""
    return body[:100].lstrip("\ufeff \r\n").startswith(_BEGINNINGS)


def joined(body: str) -> dict[str, Any]:
    """The answer that this stream has in parts, as the JSON value of one body. Raises TooComplex."""
    answer: dict[str, Any] = {}
    usage: Any = None
    choice = _Choice()
    ended = False
    for event, data in _events(body):
        if data == "[DONE]":
            ended = True
            break
        chunk = _parsed(data)
        if chunk is None:
            break  # cut in the middle of an event
        usage = _usage(chunk) or usage
        if event == "error" or chunk.get("error") or chunk.get("object") == "error":
            return {"usage": usage, "error": chunk}
        answer |= {name: value for name, value in chunk.items() if name != "choices"}
        for part in _first_choice(chunk):
            choice.add(part)
    if not (ended or choice.finish_reason):
        return {"usage": usage, "error": _CUT}
    return {**answer, "usage": usage, "choices": choice.whole()}


def _events(body: str) -> Iterator[tuple[str, str]]:
    """The name and the data of each event."""
    event, lines = "", []
    if body.count("\n") + body.count("\r") > MAX_LINES:
        raise TooComplex(f"the stream has more than {MAX_LINES:,} lines")
    for line in _lines(body.lstrip("\ufeff")):
        field, _, value = line.partition(":")
        if field == "data":
            lines.append(value.removeprefix(" "))
        elif field == "event":
            event = value.strip()
        elif not line:
            if lines:
                yield event, "\n".join(lines).strip()
            event, lines = "", []


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, one at a time, and an empty one after them."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    at = 0
    while (end := text.find("\n", at)) >= 0:
        yield text[at:end]
        at = end + 1
    yield from (text[at:], "")


def _parsed(data: str) -> dict[str, Any] | None:
    try:
        chunk = parse(data)
    except TooComplex:
        raise
    except ValueError:
        return None
    return chunk if isinstance(chunk, dict) else None


def _usage(chunk: dict[str, Any]) -> Any:
    """The usage in a chunk: at its top, in its choice (Moonshot), or in a field of the server's (Groq)."""
    own = chunk.get("x_groq")
    places = [chunk, *_first_choice(chunk), own if isinstance(own, dict) else {}]
    return next((place["usage"] for place in places if place.get("usage")), None)


def _first_choice(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    """The part of the first choice in a chunk, or nothing."""
    choices = chunk.get("choices")
    parts = choices if isinstance(choices, list) else []
    return [part for part in parts if isinstance(part, dict) and not part.get("index")][:1]


class _Choice:
    """The first choice of an answer, put together from its parts."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._route: str | None = None
        self._fields: dict[str, list[Any]] = {}
        self._calls: dict[int, tuple[dict[str, Any], dict[str, list[Any]]]] = {}

    def add(self, part: dict[str, Any]) -> None:
        self.finish_reason = part.get("finish_reason") or self.finish_reason
        if "text" in part:
            self._route = "text"
            self._fields.setdefault("text", []).append(part["text"])
            return
        self._route = "message"
        if isinstance(part.get("message"), dict):  # the last event of some servers has the whole message
            self._fields, self._calls = {name: [value] for name, value in part["message"].items()}, {}
            return
        delta = part.get("delta")
        for name, value in delta.items() if isinstance(delta, dict) else ():
            if name == "tool_calls":
                self._add_calls(value)
            elif name == "role":
                self._fields[name] = [value]
            else:
                self._fields.setdefault(name, []).append(value)

    def whole(self) -> list[dict[str, Any]]:
        """The choice in the form of the route that the parts came from; nothing if there was none."""
        if self._route is None:
            return []
        fields = {name: _continued(values) for name, values in self._fields.items()}
        if self._route == "text":
            return [{"index": 0, "text": fields["text"], "finish_reason": self.finish_reason}]
        message = {"role": "assistant", "content": None, **fields}
        if self._calls:
            message["tool_calls"] = [
                {**call, "function": {name: _continued(values) for name, values in function.items()}}
                for _, (call, function) in sorted(self._calls.items())
            ]
        return [{"index": 0, "message": message, "finish_reason": self.finish_reason}]

    def _add_calls(self, deltas: object) -> None:
        for position, delta in enumerate(deltas if isinstance(deltas, list) else ()):
            if not isinstance(delta, dict):
                continue
            index = delta.get("index")
            call, function = self._calls.setdefault(index if isinstance(index, int) else position, ({}, {}))
            call |= {name: value for name, value in delta.items() if name not in ("index", "function")}
            parts = delta.get("function")
            for name, value in parts.items() if isinstance(parts, dict) else ():
                function.setdefault(name, []).append(value)


def _continued(values: list[Any]) -> Any:
    """Texts one after another, lists of parts one after another; of anything else the last."""
    values = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in values):
        return "".join(values) if values else None
    if all(isinstance(value, (str, list)) for value in values):
        return [part for value in values for part in _parts(value)]
    return values[-1]


def _parts(content: str | list[Any]) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
