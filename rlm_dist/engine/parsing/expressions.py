"""Tells whether the argument of a text ``FINAL(...)`` is Python or words.

``FINAL(len(hits))`` is Python. ``FINAL(The cat)`` does not parse, so it is words. In between are words that
happen to parse: ``well-known``, ``Alice and Bob``, ``Smith (2020)``. Such an argument is ``wordlike``: whether
it is code depends on whether its names exist in the REPL.
"""

import ast
import re
import warnings
from dataclasses import dataclass

from rlm_dist.engine.parsing.programs import SourceText

_TEMPLATE = re.compile(r"\{[ \t]*([^\W\d][^{}\n]{0,200})\}")
_NAME = re.compile(r"[^\W\d]\w*")
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
    source = f"({text}\n)"
    node = _parsed(source)
    if node is None:
        return None
    nodes = list(ast.walk(node))
    names = tuple(dict.fromkeys(part.id for part in nodes if isinstance(part, ast.Name)))
    if not names and not any(isinstance(part, ast.Call | ast.IfExp | ast.Lambda) for part in nodes):
        if isinstance(node, ast.Constant | ast.Tuple) or not any(map(_is_text, nodes)):
            return None
        if isinstance(node, ast.List | ast.Set | ast.Dict):
            return None
    try:
        wordlike = bool(names) and _wordlike(node, SourceText(source))
    except RecursionError:
        wordlike = False
    code = f"FINAL({text})" if "\n" not in text and _is_one_argument(text) else f"FINAL(({text}\n))"
    return Expression(code, names, wordlike, wordlike and any(map(_is_word_operator, nodes)))


def template_names(text: str) -> frozenset[str]:
    """The names in braces that begin with a name, as in ``There are {len(hits)} items``."""
    return frozenset(name for inner in _TEMPLATE.findall(text) for name in _NAME.findall(inner))


def _parsed(source: str) -> ast.expr | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source, mode="eval").body
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


def _wordlike(node: ast.expr, source: SourceText) -> bool:
    match node:
        case ast.Name():
            return True
        case ast.Constant(value):
            return not isinstance(value, str | bytes)
        case ast.Attribute():
            return _wordlike(node.value, source)
        case ast.Tuple() | ast.List() | ast.Set():
            return all(_wordlike(part, source) for part in node.elts)
        case ast.BoolOp():
            return all(_wordlike(part, source) for part in node.values)
        case ast.UnaryOp():
            return _wordlike(node.operand, source)
        case ast.Compare():
            by_word = all(isinstance(op, ast.Is | ast.IsNot | ast.In | ast.NotIn) for op in node.ops)
            return by_word and all(_wordlike(part, source) for part in (node.left, *node.comparators))
        case ast.BinOp():
            tight = source.between(node.left, node.right) == _JOINTS.get(type(node.op))
            joined = tight or isinstance(node.op, ast.BitAnd)
            return joined and _wordlike(node.left, source) and _wordlike(node.right, source)
        case ast.Call():
            parts = (node.func, *node.args)
            return (
                not node.keywords
                and source.space_after(node.func)
                and all(_wordlike(part, source) for part in parts)
            )
        case ast.Subscript():
            spaced = source.space_after(node.value)
            return spaced and _wordlike(node.value, source) and _wordlike(node.slice, source)
    return False
