"""Runs one code block as a REPL does, and formats a plain traceback of its error.

A traceback shows the frames of the model's own code and of the libraries it called, never those of this
package.
"""

import ast
import asyncio
import inspect
import linecache
import os
import traceback
import types
from collections.abc import Iterator
from typing import Any

from .frames import MAX_ERROR_CHARS
from .loop_plans import plan_loops
from .output import Clip, clip
from .plan_values import CALL

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__))
_FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_ERROR_CHARS = MAX_ERROR_CHARS - 200  # the rest is for what is said about the cut, and about what to do


def run(code: str, name: str, namespace: dict[str, Any]) -> Any:
    """Run ``code`` in ``namespace``; return the value of its last expression, None if it has none.

    The whole block is compiled before any of it runs, and the last expression is evaluated once. ``await``
    works at the top level: then the block runs in an event loop of its own.
    """
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    tree = _parsed(code, name)
    parts = _planned(tree, name) if CALL in code else None
    if parts is None:
        parts = _compiled(_parsed(code, name), name)
    if any(part.co_flags & inspect.CO_COROUTINE for part in parts):
        return _run_in_loop(parts, namespace)
    value = None
    for part in parts:
        value = eval(part, namespace)  # noqa: S307  # what this process is for
    return value


def _parsed(code: str, name: str) -> ast.Module:
    tree: ast.Module = compile(code, name, "exec", _FLAGS | ast.PyCF_ONLY_AST, dont_inherit=True)
    return tree


def _planned(tree: ast.Module, name: str) -> list[types.CodeType] | None:
    """The block with plans of its loops; None if it cannot be compiled so, or too deep to be looked at."""
    try:
        return _compiled(plan_loops(tree), name)
    except Exception:  # noqa: BLE001  # then it is compiled as it was written, which may raise the same
        return None


def _compiled(tree: ast.Module, name: str) -> list[types.CodeType]:
    """The block, and its last expression if it has one, on its own."""
    *body, last = tree.body or [ast.Pass()]
    if not isinstance(last, ast.Expr):
        return [compile(tree, name, "exec", _FLAGS, dont_inherit=True)]
    block = ast.Module(body, tree.type_ignores)
    return [
        compile(block, name, "exec", _FLAGS, dont_inherit=True),
        compile(ast.Expression(last.value), name, "eval", _FLAGS, dont_inherit=True),
    ]


def _run_in_loop(parts: list[types.CodeType], namespace: dict[str, Any]) -> Any:
    """Run the parts in one event loop; an error is raised without the frames of the loop."""
    errors: list[BaseException] = []

    async def play() -> Any:
        value = None
        try:
            for part in parts:
                value = eval(part, namespace)  # noqa: S307
                if part.co_flags & inspect.CO_COROUTINE:
                    value = await value
        except BaseException as error:  # noqa: BLE001  # raised again below
            errors.append(error)
        return value

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        value = runner.run(play())
    if errors:
        raise errors[0]
    return value


def describe(error: BaseException) -> str:
    """A plain traceback of ``error``, cut in the middle if it is long."""
    try:
        report = traceback.TracebackException.from_exception(error)
        for part in _parts(report):
            frames = [frame for frame in part.stack if not frame.filename.startswith(_OWN_FOLDER)]
            part.stack = traceback.StackSummary.from_list(frames)
        text = "".join(report.format()).rstrip()
    except Exception:  # noqa: BLE001  # the error's own __str__ may raise anything, memory may be full
        text = type(error).__name__
    return clip(Clip(text, "", 0), _ERROR_CHARS).joined()


def _parts(report: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    visited: set[int] = set()
    pending: list[traceback.TracebackException | None] = [report]
    while pending:
        part = pending.pop()
        if part is None or id(part) in visited:
            continue
        visited.add(id(part))
        yield part
        pending += [part.__cause__, part.__context__, *(part.exceptions or ())]
