"""Tells whether the argument of a text ``FINAL(...)`` is Python or words.

``FINAL(len(hits))`` is Python. ``FINAL(The cat)`` does not parse, so it is words. In between are words that
happen to parse: ``well-known``, ``Alice and Bob``, ``Smith (2020)``. Such an argument is ``wordlike``:
whether it is code depends on whether its names exist in the REPL.
"""

import ast
import re
from dataclasses import dataclass

from rlm_dist.engine.parsing.programs import SourceText
from rlm_dist.engine.parsing.syntax import expression_of

_TEMPLATE = re.compile(r"\{[ \t]*([^\W\d][^{}\n]{0,200})\}")
_NAME = re.compile(r"[^\W\d]\w*")
_MARKED = re.compile(r"(`{1,3}|\*\*)([^`*\n]+)\1")
_MAX_MISSING = 3  # closing parentheses that a model forgot
_WORDLIKE = (ast.Name, ast.Attribute, ast.Tuple, ast.List, ast.Set, ast.BoolOp, ast.UnaryOp)
_JOINTS = {ast.Sub: b"-", ast.Div: b"/"}


@dataclass(frozen=True)
class Expression:
    """An argument that parses as a Python expression with names, calls or formatted text.

    ``code`` is the statement that hands in its value. ``names`` are the names in it, ``words`` says that it
    is built from words like ``and`` and ``not``, which join names in plain English too.
    """

    code: str
    names: tuple[str, ...]
    wordlike: bool
    words: bool


def expression(text: str) -> Expression | None:
    """The argument as an expression; None if it can only be words or a plain value."""
    missing = text.count("(") - text.count(")")
    if 0 < missing <= _MAX_MISSING and _parsed(f"({text}\n)") is None:
        text += ")" * missing
    source = f"({text}\n)"
    node = _parsed(source)
    if node is None:
        return _arguments(text)
    nodes = list(ast.walk(node))
    names = tuple(dict.fromkeys(part.id for part in nodes if isinstance(part, ast.Name)))
    if not names and not any(isinstance(part, ast.Call | ast.IfExp | ast.Lambda) for part in nodes):
        if isinstance(node, ast.Constant | ast.Tuple) or not any(map(_is_text, nodes)):
            return None
        if isinstance(node, ast.List | ast.Set | ast.Dict):
            return None
    text_of = SourceText(source)
    wordlike = bool(names) and all(
        _is_wordlike(part, text_of) for part in nodes if isinstance(part, ast.expr)
    )
    code = f"FINAL({text})" if "\n" not in text and _is_one_argument(text) else f"FINAL(({text}\n))"
    return Expression(code, names, wordlike, wordlike and any(map(_is_word_operator, nodes)))


def _arguments(text: str) -> Expression | None:
    """The text as arguments that are no expression, such as ``value=len(hits)`` and ``*hits``."""
    code = f"FINAL({text}\n)"
    call = _parsed(code)
    if not isinstance(call, ast.Call):
        return None
    parts = [part for argument in (*call.args, *call.keywords) for part in ast.walk(argument)]
    names = tuple(dict.fromkeys(part.id for part in parts if isinstance(part, ast.Name)))
    return Expression(code, names, wordlike=False, words=False) if names else None


def unmarked(text: str) -> str:
    """The text without the marks of Markdown around the whole of it."""
    marked = _MARKED.fullmatch(text)
    return marked.group(2).strip() if marked else text


def template_names(text: str) -> frozenset[str]:
    """The names in braces that begin with a name, as in ``There are {len(hits)} items``."""
    return frozenset(name for inner in _TEMPLATE.findall(text) for name in _NAME.findall(inner))


def _parsed(source: str) -> ast.expr | None:
    try:
        return expression_of(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def _is_one_argument(text: str) -> bool:
    call = _parsed(f"FINAL({text})")
    return isinstance(call, ast.Call) and len(call.args) == 1 and not call.keywords


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )


def _is_word_operator(node: ast.AST) -> bool:
    return isinstance(node, ast.BoolOp | ast.Compare | ast.Not)


def _is_wordlike(node: ast.AST, source: SourceText) -> bool:
    """Whether words may give this node by itself, whatever is inside it."""
    match node:
        case ast.Constant():
            return not _is_text(node)
        case ast.Compare():
            return all(isinstance(op, ast.Is | ast.IsNot | ast.In | ast.NotIn) for op in node.ops)
        case ast.BinOp():
            tight = source.between(node.left, node.right) == _JOINTS.get(type(node.op))
            return tight or isinstance(node.op, ast.BitAnd)
        case ast.Call():
            return not node.keywords and source.space_after(node.func)
        case ast.Subscript():
            return source.space_after(node.value)
    return isinstance(node, _WORDLIKE)
