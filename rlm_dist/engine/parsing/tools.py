"""Parses tool calls that a model wrote as text instead of a fenced block.

Known shapes, in which the tool's name means running Python and its code is a string::

    <tool_call>{"name": "python", "arguments": {"code": "…"}}</tool_call>      also [TOOL_CALLS][{…}]
    <tool_call><function=python><parameter=code>…</parameter></function></tool_call>
    <invoke name="python"><parameter name="code">…</parameter></invoke>
    <|python_tag|>…
    {"name": "python", "arguments": {"code": "…"}}                              as the whole reply

``<tool_call>`` may be repeated; in JSON its code may hold anything, also tags and fences. Native tool calls
of an endpoint arrive in this shape after the text beside them. Nothing inside a fenced block counts as a tool
call.
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
_MAX_TRIALS = 32  # each takes time that grows with the length of the reply
_DECODER = json.JSONDecoder(strict=False)
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")


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
        calls = list(_tagged_calls(body))
    return _tool_calls(calls or [("?", None)], text[:start])


def _start(text: str) -> int | None:
    """The position of the first tool call that begins a line outside every fenced block."""
    at, fence = 0, ""
    for line in text.splitlines(keepends=True):
        stripped = line.strip()
        mark = _FENCE.match(line)
        if not fence and stripped.startswith(_OPENINGS):
            return at + len(line) - len(line.lstrip())
        if fence and mark and stripped.strip(fence[0]) == "" and stripped.startswith(fence):
            fence = ""
        elif not fence and mark and mark.group(1) not in line[mark.end() :]:
            fence = mark.group(1)
        at += len(line)
    return None


def _tagged_calls(body: str) -> Iterator[tuple[str, str | None]]:
    """The calls in a text that is written in tags."""
    if "<tool_call>" not in body:
        opening = "<function=" if "<function=" in body else "<invoke "
        for piece in body.split(opening)[1:]:
            yield from _calls(opening + piece)
        return
    at = body.find("<tool_call>")
    failed_trials = 0
    while at >= 0:
        at += len("<tool_call>")
        json_end = _json_end(body, at) if failed_trials < _MAX_TRIALS else None
        failed_trials += json_end is None
        end = body.find("<tool_call>", json_end or at)
        yield from _calls(body[at : json_end or (end if end >= 0 else len(body))])
        at = end


def _json_end(body: str, at: int) -> int | None:
    """The end of the JSON value that begins at ``at``, after white space; None if there is none."""
    start = at + len(body[at : at + 100]) - len(body[at : at + 100].lstrip())
    if body[start : start + 1] not in ("{", "["):
        return None
    try:
        _, end = _DECODER.raw_decode(body, start)
    except (ValueError, RecursionError):
        return None
    return end


def _calls(piece: str) -> Iterator[tuple[str, str | None]]:
    if _json_end(piece, 0) is not None:
        yield from _json_calls(piece.strip())
        return
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
        value, _ = _DECODER.raw_decode(text)
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
    """The code in the arguments of a call; a text that is no JSON object is the code itself."""
    if isinstance(arguments, str):
        text = arguments
        try:
            arguments = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            return None if text.lstrip().startswith("{") else text
        if not isinstance(arguments, dict):
            return arguments if isinstance(arguments, str) else text
    if not isinstance(arguments, dict):
        return None
    texts = [value for value in arguments.values() if isinstance(value, str)]
    if len(arguments) == len(texts) == 1:
        return texts[0]
    return next((arguments[key] for key in _CODE_KEYS if isinstance(arguments.get(key), str)), None)


def _tool_calls(calls: list[tuple[str, str | None]], rest: str) -> ToolCalls:
    codes, unknown = [], []
    for name, code in calls:
        if code is not None and code.strip() and _PYTHON.search(name):
            codes.append(code)
        else:
            unknown.append(name)
    return ToolCalls(True, tuple(codes), tuple(unknown), rest)
