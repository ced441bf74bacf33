"""Reads what an endpoint says about an error, whatever the shape of its body.

Providers nest the same few facts differently: ``{"error": {"message": ...}}``, ``{"error": "text"}``,
``{"message": ...}``, ``{"detail": [...]}``, ``[{"error": ...}]``, JSON inside a text, plain text, or HTML.
All are walked in the same way. Fields that may quote the prompt (``input``, ``failed_generation``) are not
read.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from rlm_dist.bounded_json import parse
from rlm_dist.llm.retry import requested_delay_s

_MAX_DEPTH = 8
_MAX_ITEMS = 8
_MAX_TEXT_CHARS = 2000
_MAX_NESTED_CHARS = 65_536
_MOST_DELAY_S = 1e7  # a longer one is no delay but nonsense
_CODE_FIELDS = (
    "code",
    "type",
    "status",
    "reason",
    "statusCode",
    "error_code",
    "error_type",
    "limit_source",
    "__type",
)
# In this order: the general message before the details.
_TEXT_FIELDS = ("message", "msg", "error", "title", "detail", "errors", "raw")
# These repeat the message, or hold only codes and delays.
_SILENT_FIELDS = ("metadata", "details", "violations")
_SECONDS_FIELDS = ("retryDelay", "retry_after", "retry_after_seconds", "retry_after_s", "retryAfter")
_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})", re.I)
_ASKED_DELAY = re.compile(
    r"(?:again|retry|wait)\s+(?:in|after|for)\s+((?:\d+(?:\.\d+)?\s*[a-z]+[\s,]*(?:and\s+)?){1,4})", re.I
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.I)
_UNITS_S = {
    "ms": 0.001, "msec": 0.001, "millisecond": 0.001,
    "s": 1.0, "sec": 1.0, "second": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0,
    "d": 86_400.0, "day": 86_400.0,
}  # fmt: skip


class ErrorBody(NamedTuple):
    """The facts in an error's body.

    ``codes`` are its codes, types and reasons in lower case. ``status`` is the HTTP status that it names
    itself. ``parameter`` is the request's field that it is about. ``sizes`` are the tokens of the prompt and
    of the model's window.
    """

    text: str = ""
    codes: frozenset[str] = frozenset()
    status: int | None = None
    parameter: str = ""
    delay_s: float | None = None
    sizes: tuple[int, int] | None = None


def read_error(body: object) -> ErrorBody:
    """The facts in ``body``: the text of a response, or JSON that is parsed already."""
    walk = _Walk()
    walk.visit(body, 0)
    text = ": ".join(walk.texts)[:_MAX_TEXT_CHARS]
    delay_s = walk.delay_s if walk.delay_s is not None else asked_delay_s(text)
    return ErrorBody(text, frozenset(walk.codes), walk.status, walk.parameter, delay_s, walk.sizes)


def error_in_reply(reply: Mapping[str, Any]) -> object:
    """The error that a body with HTTP 200 has in place of an answer, at its top or in its choice, or None."""
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(choice, dict):
        message = choice.get("message")
        if choice.get("error"):
            return choice["error"]
        if message.get("content") if isinstance(message, dict) else choice.get("text"):
            return None
    has_error = reply.get("error") or (not choices and reply.keys() & {"message", "detail"})
    return reply if has_error else None


def asked_delay_s(text: str) -> float | None:
    """The seconds in words such as "Please try again in 6m0s" or "Please retry after 7 seconds"."""
    phrase = _ASKED_DELAY.search(text)
    if phrase is None:
        return None
    units = [(float(number), _unit_s(unit)) for number, unit in _DURATION.findall(phrase[1])]
    parts_s = [number * unit_s for number, unit_s in units if unit_s is not None]
    return sum(parts_s) if parts_s and sum(parts_s) < _MOST_DELAY_S else None


class _Walk:
    """Collects the facts of one body; the first one of each sort counts."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.codes: set[str] = set()
        self.status: int | None = None
        self.parameter = ""
        self.delay_s: float | None = None
        self.sizes: tuple[int, int] | None = None

    def visit(self, node: object, depth: int, *, silent: bool = False) -> None:
        if depth > _MAX_DEPTH:
            return
        if isinstance(node, str):
            self._visit_text(node, depth, silent=silent)
        elif isinstance(node, list):
            for item in node[:_MAX_ITEMS]:
                self.visit(item, depth + 1, silent=silent)
        elif isinstance(node, dict):
            self._visit_object(node, depth, silent=silent)

    def _visit_text(self, text: str, depth: int, *, silent: bool) -> None:
        text = text.strip()
        if text.startswith(("{", "[")) and (depth == 0 or len(text) <= _MAX_NESTED_CHARS):
            try:
                parsed = parse(text)
            except ValueError:
                pass
            else:
                self.visit(parsed, depth + 1, silent=silent)
                return
        if text.startswith("<"):
            title = _TITLE.search(text[:5000])
            text = f"an HTML page, {title[1].strip()!r}" if title else "an HTML page"
        text = " ".join(text[: 2 * _MAX_TEXT_CHARS].split())
        if text and not silent and not any(text in earlier for earlier in self.texts):
            self.texts.append(text[:_MAX_TEXT_CHARS])

    def _visit_object(self, node: dict[str, object], depth: int, *, silent: bool) -> None:
        for name in _CODE_FIELDS:
            self._note_code(node.get(name))
        if "perday" in str(node.get("quotaId")).lower():  # Gemini's name of a daily quota
            self.codes.add("quota_per_day")
        if node.get("flagged_input") is not None:  # OpenRouter: the prompt did not pass a moderation
            self.codes.add("moderation")
        self._note_sizes(node)
        self._note_delay(node)
        location = node.get("loc")
        param = node.get("param")
        if isinstance(location, list) and location:
            param = location[-1]
            if "msg" in node and not silent:
                self.texts.append(f"{'.'.join(map(str, location[:_MAX_ITEMS]))}: {node['msg']}"[:500])
        if isinstance(param, str) and not self.parameter:
            self.parameter = param
        for name in _TEXT_FIELDS:
            self.visit(node.get(name), depth + 1, silent=silent)
        for name in _SILENT_FIELDS:
            # A router's ``metadata.raw`` is what the provider behind it said.
            inner = node.get(name)
            raw = inner.get("raw") if isinstance(inner, dict) else None
            self.visit(raw, depth + 1, silent=silent)
            self.visit(inner, depth + 1, silent=True)

    def _note_code(self, code: object) -> None:
        if isinstance(code, str) and code:
            self.codes.add(code[:100].lower())
        number = int(code) if isinstance(code, str) and re.fullmatch(r"[0-9]{3}", code) else code
        if isinstance(number, int) and 400 <= number < 600 and self.status is None:
            self.status = number

    def _note_sizes(self, node: dict[str, object]) -> None:
        prompt, window = node.get("n_prompt_tokens"), node.get("n_ctx")  # llama.cpp
        if isinstance(prompt, int) and isinstance(window, int):
            self.sizes = self.sizes or (prompt, window)

    def _note_delay(self, node: dict[str, object]) -> None:
        if self.delay_s is not None:
            return
        delays = [_seconds(node.get(name)) for name in _SECONDS_FIELDS]
        delay_ms = _seconds(node.get("retry_after_ms"))
        delays.append(None if delay_ms is None else delay_ms / 1000)
        headers = node.get("headers")
        if isinstance(headers, Mapping):  # OpenRouter's ``metadata.headers``
            delays.append(requested_delay_s({str(k).lower(): str(v) for k, v in headers.items()}))
        self.delay_s = next((delay_s for delay_s in delays if delay_s is not None), None)


def _seconds(value: object) -> float | None:
    """A delay as a number, as text such as ``34s`` or ``1.5``, or as ``{"seconds": 34}``."""
    if isinstance(value, dict):
        value = value.get("seconds")
    if isinstance(value, str):
        whole = _DURATION.findall(value)
        if whole:
            return asked_delay_s(f"retry in {value}")
        try:
            value = float(value)
        except ValueError:
            return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < _MOST_DELAY_S else None  # type: ignore[operator, arg-type]


def _unit_s(unit: str) -> float | None:
    unit = unit.lower()
    return _UNITS_S.get(unit, _UNITS_S.get(unit.removesuffix("s") or unit))
