"""Parses tool calls that a model wrote as text instead of a fenced block.

Known shapes, in which the tool's name means running Python and its code is a string::

    <tool_call>{"name": "python", "arguments": {"code": "…"}}</tool_call>      also [TOOL_CALLS][{…}]
    <tool_call><function=python><parameter=code>…</parameter></function></tool_call>
    <invoke name="python"><parameter name="code">…</parameter></invoke>
    <|python_tag|>…
    {"name": "python", "arguments": {"code": "…"}}                              as the whole reply

Nothing inside a fenced block counts as a tool call.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

_PYTHON = re.compile(r"python|repl|interpreter|exec|^code$|run_?code", re.IGNORECASE)
_CODE_KEYS = ("code", "python", "python_code", "script", "source", "input")
_OPENINGS = ("<tool_call>", "<function=", "<invoke ", "<function_calls>", "<|python_tag|>", "[TOOL_CALLS]")
_CLOSINGS = re.compile(r"</(?:tool_call|function|invoke|function_calls|parameter)>")
_NAME = re.compile(r"<(?:function=|invoke name=)\"?([\w.:-]{1,100})\"?>")
_PARAMETER = re.compile(r"<parameter(?:=|\s+name=)\"?(\w{1,50})\"?>")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)


@dataclass(frozen=True)
class ToolCalls:
    """The code of known calls in order, the names in unknown calls, and the text before the first call."""

    found: bool = False
    codes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    rest: str = ""


def take_tool_calls(text: str) -> ToolCalls:
    """Find the tool calls of a reply."""
    stripped = text.strip()
    if stripped.startswith(("{", "[{")) and stripped.endswith(("}", "]")):
        calls = list(_json_calls(stripped))
        return _tool_calls(calls, "") if calls else ToolCalls()
    start = _start(text)
    if start is None:
        return ToolCalls()
    body = text[start:]
    if body.startswith("<|python_tag|>"):
        calls = [("python", body.removeprefix("<|python_tag|>").split("<|e", 1)[0].strip())]
    elif body.startswith("[TOOL_CALLS]"):
        calls = list(_json_calls(body.removeprefix("[TOOL_CALLS]").strip()))
    else:
        calls = [call for piece in _pieces(body) for call in _calls(piece)]
    return _tool_calls(calls or [("?", None)], text[:start])


def _start(text: str) -> int | None:
    """The position of the first tool call that begins a line, before any fenced block."""
    fence = _FENCE.search(text)
    head = text[: fence.start()] if fence else text
    starts = [at for opening in _OPENINGS if (at := head.find(opening)) >= 0 and _line_start(head, at)]
    return min(starts, default=None)


def _line_start(text: str, at: int) -> bool:
    return not text[text.rfind("\n", 0, at) + 1 : at].strip()


def _pieces(body: str) -> Iterator[str]:
    """Split a text that is written in tags into its calls."""
    opening = "<tool_call>" if "<tool_call>" in body else "<function=" if "<function=" in body else "<invoke "
    yield from (
        body.split(opening)[1:]
        if opening == "<tool_call>"
        else (opening + piece for piece in body.split(opening)[1:])
    )


def _calls(piece: str) -> Iterator[tuple[str, str | None]]:
    name = _NAME.search(piece)
    if name is None:
        closing = _CLOSINGS.search(piece)
        yield from _json_calls(piece[: closing.start()].strip() if closing else piece.strip())
        return
    code = None
    for parameter in _PARAMETER.finditer(piece):
        if parameter.group(1) in _CODE_KEYS:
            closing = _CLOSINGS.search(piece, parameter.end())
            code = piece[parameter.end() : closing.start() if closing else len(piece)].strip("\n")
            break
    yield name.group(1), code


def _json_calls(text: str) -> Iterator[tuple[str, str | None]]:
    """The calls in a JSON text, which may be none."""
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return
    for item in value if isinstance(value, list) else [value]:
        call = item.get("function", item) if isinstance(item, dict) else None
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            continue
        arguments = call.get("arguments", call.get("parameters"))
        if arguments is not None:
            yield call["name"], _code(arguments)


def _code(arguments: object) -> str | None:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, strict=False)
        except (ValueError, RecursionError):
            return None
    if not isinstance(arguments, dict):
        return None
    return next((arguments[key] for key in _CODE_KEYS if isinstance(arguments.get(key), str)), None)


def _tool_calls(calls: list[tuple[str, str | None]], rest: str) -> ToolCalls:
    codes, unknown = [], []
    for name, code in calls:
        if code is not None and _PYTHON.search(name):
            codes.append(code)
        else:
            unknown.append(name)
    return ToolCalls(True, tuple(codes), tuple(unknown), rest)
