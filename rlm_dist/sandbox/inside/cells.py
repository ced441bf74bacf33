"""Runs one code block as a REPL does, and formats a plain traceback of its error.

A traceback shows the frames of the model's own code and of the libraries it called, never those of this
package.
"""

import ast
import linecache
import os
import traceback
from collections.abc import Iterator
from typing import Any

from .output import Clip, clip

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__))
_ERROR_CHARS = 8000


def run(code: str, name: str, namespace: dict[str, Any]) -> Any:
    """Run ``code`` in ``namespace``; return the value of its last expression, None if it has none.

    The whole block is compiled before any of it runs, and the last expression is evaluated once.
    """
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    tree: Any = compile(code, name, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    body = compile(tree, name, "exec", dont_inherit=True)
    if not isinstance(last, ast.Expr):
        exec(body, namespace)  # noqa: S102  # what this process is for
        return None
    expression = compile(ast.Expression(last.value), name, "eval", dont_inherit=True)
    exec(body, namespace)  # noqa: S102
    return eval(expression, namespace)  # noqa: S307


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
