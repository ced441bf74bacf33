"""Which expressions a plan may evaluate: operations on plain values, without side effects.

Values are plain if they are texts, numbers and the like, or lists, tuples, dicts of such; ``calls_ahead``
checks this when the loop runs.
"""

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .plan_steps import NoPlan

CALL = "llm_query"
TEXT, NUMBER = "text", "number"
_FUNCTIONS = """
abs bool chr dict divmod enumerate float int len list max min ord range repr reversed round sorted str sum
tuple zip
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
_METHOD_NAMES = """
strip lstrip rstrip removeprefix removesuffix split rsplit splitlines partition rpartition join lower upper
casefold title capitalize replace startswith endswith find rfind index count format zfill ljust rjust center
isdigit isalpha isspace isalnum isupper islower isnumeric get items keys values
"""
_METHODS = frozenset(_METHOD_NAMES.split())
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_PARTS: dict[type, tuple[str, ...]] = {
    ast.JoinedStr: ("values",),
    ast.FormattedValue: ("value", "format_spec"),
    ast.UnaryOp: ("operand",),
    ast.BoolOp: ("values",),
    ast.IfExp: ("test", "body", "orelse"),
    ast.Subscript: ("value", "slice"),
    ast.Slice: ("lower", "upper", "step"),
    ast.Tuple: ("elts",),
    ast.List: ("elts",),
}
_COMPREHENSIONS = (ast.ListComp, ast.GeneratorExp)


class Method(NamedTuple):
    """What a method of an answer returns, and how many texts it may be given."""

    result: str
    arguments: tuple[int, ...]


# Methods of an answer that cannot fail when their arguments are texts that are not empty.
METHODS_OF_ANSWERS = {
    **dict.fromkeys(("strip", "lstrip", "rstrip"), Method(TEXT, (0, 1))),
    **dict.fromkeys(("lower", "upper", "casefold", "title", "capitalize"), Method(TEXT, (0,))),
    **dict.fromkeys(("removeprefix", "removesuffix"), Method(TEXT, (1,))),
    "replace": Method(TEXT, (2,)),
    **dict.fromkeys(("startswith", "endswith"), Method("any", (1,))),
    **dict.fromkeys(("find", "count"), Method(NUMBER, (1,))),
    "split": Method("any", (0, 1)),
    "splitlines": Method("any", (0,)),
}


class PlainExpressions:
    """Tells plain expressions, and notes the variables and functions that they use.

    ``bound`` are all names that the block binds anywhere; ``assigned`` those that the loop does. ``lets`` are
    the names that hold a plain value at this point of the iteration.
    """

    def __init__(self, bound: frozenset[str], assigned: frozenset[str]) -> None:
        self.lets: set[str] = set()
        self.reads: dict[str, None] = {}
        self.functions: set[str] = set()
        self._bound = bound
        self._assigned = assigned

    def use(self, function: str) -> None:
        """Note a function of Python's own that the loop calls."""
        if function in self._bound:
            raise NoPlan
        self.functions.add(function)

    def holds(self, node: ast.AST | None) -> bool:
        """Whether the plan can evaluate this."""
        if node is None or isinstance(node, ast.Constant):
            return True
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, _COMPREHENSIONS):
            return self._comprehension(node)
        if isinstance(node, ast.BinOp):
            return isinstance(node.op, _OPERATORS) and self.holds(node.left) and self.holds(node.right)
        parts = _parts(node)
        return parts is not None and all(map(self.holds, parts))

    def _name(self, name: str) -> bool:
        if name in self.lets:
            return True
        if name in self._assigned or name == CALL:
            return False
        self.reads[name] = None
        return True

    def _call(self, node: ast.Call) -> bool:
        function = node.func
        if any(keyword.arg is None or not self.holds(keyword.value) for keyword in node.keywords):
            return False
        if not all(map(self.holds, node.args)):
            return False
        if isinstance(function, ast.Attribute):
            return function.attr in _METHODS and self.holds(function.value)
        if not isinstance(function, ast.Name) or function.id not in FUNCTIONS or function.id in self._bound:
            return False
        if function.id == "str" and len(node.args) + len(node.keywords) > 1:
            return False  # it decodes, and a handler of its errors may be the model's own
        self.use(function.id)
        return True

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> bool:
        before = set(self.lets)
        try:
            for generator in node.generators:
                if generator.is_async or not self.holds(generator.iter):
                    return False
                self.lets |= set(stored_names(generator.target))
                if not all(map(self.holds, generator.ifs)):
                    return False
            return self.holds(node.elt)
        finally:
            self.lets = before


def is_text(node: ast.expr) -> bool:
    """Whether this is a text whatever its variables are."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _parts(node: ast.AST) -> list[ast.AST | None] | None:
    """The parts of an expression that is plain if they are; None if it may never be."""
    if isinstance(node, ast.Compare):
        identity = any(isinstance(operator, (ast.Is, ast.IsNot)) for operator in node.ops)
        if identity and not all(map(_is_singleton, node.comparators)):
            return None  # the plan computes values of its own, which may be other objects
        return [node.left, *node.comparators]
    if isinstance(node, ast.Dict):
        return None if None in node.keys else [*node.keys, *node.values]
    names = _PARTS.get(type(node))
    if names is None:
        return None
    values = [getattr(node, name) for name in names]
    return [part for value in values for part in (value if isinstance(value, list) else [value])]


def _is_singleton(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and any(node.value is value for value in (None, True, False))


def stored_names(tree: ast.AST) -> Iterator[str]:
    """Each name that some part of this code binds, in whatever way; ``*`` if it may be any name."""
    for node in ast.walk(tree):
        yield from _bound_by(node)


def _bound_by(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Name):
        return () if isinstance(node.ctx, ast.Load) else (node.id,)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return (node.name,)
    if isinstance(node, ast.arg):
        return (node.arg,)
    if isinstance(node, ast.alias):
        return ((node.asname or node.name).partition(".")[0],)
    if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
        return (node.name,) if node.name else ()
    if isinstance(node, ast.MatchMapping):
        return (node.rest,) if node.rest else ()
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        return node.names
    return ()
