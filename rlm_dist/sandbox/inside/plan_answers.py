"""Expressions that may depend on answers: what a planned loop may do with an answer, since it cannot fail."""

import ast
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from .plan_steps import Branch, Guard, NoPlan, PlannedCall, Step, call_count
from .plan_values import CALL, METHODS_OF_ANSWERS, NUMBER, TEXT, PlainExpressions, is_text

ANY, PLAIN = "any", "plain"  # kinds of values, besides TEXT and NUMBER


class AnswerExpressions:
    """Finds the kind of each value in an iteration; what may fail or ask in it becomes one of its ``steps``.

    ``answers`` are the names that hold a value that depends on an answer, each with its kind; ``text_lets``
    those of the plain names that hold a text.
    """

    def __init__(self, bound: frozenset[str], assigned: Iterable[str]) -> None:
        self.assigned = frozenset(assigned)
        self.plain = PlainExpressions(bound, self.assigned)
        self.answers: dict[str, str] = {}
        self.text_lets: set[str] = set()
        self.steps: list[Step] = []

    def block_of(self, walk: Callable[[], object]) -> list[Step]:
        """The steps that are added while this function runs."""
        outer, self.steps = self.steps, []
        try:
            walk()
            return self.steps
        finally:
            self.steps = outer

    def require_plain(self, node: ast.expr) -> None:
        """Refuse what the plan cannot evaluate."""
        if not self.plain.holds(node):
            raise NoPlan

    def hashable(self, node: ast.expr, kind: str) -> None:
        """Require a value that can be a key."""
        if kind == PLAIN:
            self.steps.append(Guard(ast.Dict([node], [ast.Constant(0)])))
        elif kind not in (TEXT, NUMBER):
            raise NoPlan

    def value(self, node: ast.expr) -> str:
        """The kind of a value that may depend on answers; what may fail or ask in it becomes a step."""
        if self.plain.holds(node):
            if not isinstance(node, ast.Constant):
                self.steps.append(Guard(node))
            is_known_text = isinstance(node, ast.Name) and node.id in self.text_lets
            return TEXT if is_known_text or is_text(node) else PLAIN
        method = getattr(self, f"_value_{type(node).__name__.lower()}", None)
        if method is None:
            raise NoPlan
        kind: str = method(node)
        return kind

    def _value_name(self, node: ast.Name) -> str:
        if node.id not in self.answers:
            raise NoPlan
        return self.answers[node.id]

    def _value_call(self, node: ast.Call) -> str:
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func)
        if not isinstance(node.func, ast.Name):
            raise NoPlan
        if node.func.id == CALL:
            self.steps.append(self._call(node))
            return TEXT
        if node.func.id not in ("len", "str") or len(node.args) != 1 or node.keywords:
            raise NoPlan
        self.plain.use(node.func.id)
        kind = self.value(node.args[0])
        if node.func.id == "str":
            return TEXT
        if kind != TEXT:
            raise NoPlan
        return NUMBER

    def _call(self, node: ast.Call) -> PlannedCall:
        model = [keyword.value for keyword in node.keywords if keyword.arg == "model"]
        prompt = [keyword.value for keyword in node.keywords if keyword.arg == "prompt"]
        arguments = prompt + node.args + model
        if len(model) + len(prompt) != len(node.keywords) or not 1 <= len(arguments) <= 2:
            raise NoPlan
        if (prompt and node.args) or (model and len(arguments) == 1):
            raise NoPlan
        for argument in arguments:
            self.require_plain(argument)
        return PlannedCall(tuple(arguments))

    def _method(self, node: ast.Call, function: ast.Attribute) -> str:
        kind = METHODS_OF_ANSWERS.get(function.attr)
        texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        if kind is None or node.keywords or len(texts) != len(node.args):
            raise NoPlan
        if any(not isinstance(text, str) or not text for text in texts):
            raise NoPlan
        if len(texts) not in kind.arguments or self.value(function.value) != TEXT:
            raise NoPlan
        return kind.result

    def _value_joinedstr(self, node: ast.JoinedStr) -> str:
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                if part.format_spec is not None and not self.plain.holds(part):
                    raise NoPlan
                self.value(ast.JoinedStr([part]) if self.plain.holds(part) else part.value)
        return TEXT

    def _value_binop(self, node: ast.BinOp) -> str:
        if not isinstance(node.op, ast.Add):
            raise NoPlan
        for side in (node.left, node.right):
            self._text(side)
        return TEXT

    def _text(self, node: ast.expr) -> None:
        """A part of a text: what is only known to be plain must turn out to be a str."""
        kind = self.value(node)
        if kind == PLAIN and self.plain.holds(node):
            self.steps.append(Guard(ast.BinOp(ast.Constant(""), ast.Add(), node)))
        elif kind != TEXT:
            raise NoPlan

    def _value_tuple(self, node: ast.Tuple) -> str:
        return self._display(node.elts)

    def _value_list(self, node: ast.List) -> str:
        return self._display(node.elts)

    def _display(self, values: Sequence[ast.expr]) -> str:
        for value in values:
            self.value(value)
        return ANY

    def _value_dict(self, node: ast.Dict) -> str:
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise NoPlan
            self.hashable(key, self.value(key))
            self.value(value)
        return ANY

    def _value_subscript(self, node: ast.Subscript) -> str:
        part = node.slice
        if not isinstance(part, ast.Slice) or not all(map(_is_bound, (part.lower, part.upper))) or part.step:
            raise NoPlan
        if self.value(node.value) != TEXT:
            raise NoPlan
        return TEXT

    def _value_compare(self, node: ast.Compare) -> str:
        if len(node.ops) != 1:
            raise NoPlan
        right = node.comparators[0]
        if isinstance(node.ops[0], (ast.In, ast.NotIn)):
            self._text(node.left)
            self._text(right)
        elif isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
            self.value(node.left)
            self.value(right)
        else:
            raise NoPlan
        return ANY

    def _value_unaryop(self, node: ast.UnaryOp) -> str:
        if not isinstance(node.op, ast.Not):
            raise NoPlan
        self.value(node.operand)
        return ANY

    def _value_boolop(self, node: ast.BoolOp) -> str:
        first, *others = node.values
        self.value(first)
        for other in others:  # may be left out, so no call may be in it
            if call_count(self.block_of(partial(self.value, other))):
                raise NoPlan
        return ANY

    def _value_ifexp(self, node: ast.IfExp) -> str:
        plain = self.plain.holds(node.test)
        if not plain:
            self.value(node.test)
        kinds: list[str] = []
        then = self.block_of(lambda: kinds.append(self.value(node.body)))
        otherwise = self.block_of(lambda: kinds.append(self.value(node.orelse)))
        if plain:
            self.steps.append(Branch(node.test, then, otherwise))
        elif call_count(then + otherwise):
            raise NoPlan
        return kinds[0] if kinds[0] == kinds[1] and kinds[0] in (TEXT, NUMBER) else ANY


def _is_bound(node: ast.expr | None) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return node is None or (isinstance(node, ast.Constant) and type(node.value) is int)
