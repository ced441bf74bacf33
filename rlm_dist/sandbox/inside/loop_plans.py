"""Finds loops whose ``llm_query`` calls can be told in advance, and gives each a plan of these calls.

The loop itself stays as it is. Only what it iterates over is handed through a function of the REPL (``HOOK``),
together with a *plan*: an expression, made of parts of the loop, that computes the arguments of the calls of
all iterations, in order and without any side effect. ``calls_ahead`` issues calls by it. So whatever a plan
gets wrong, the loop does what it did without; a wrong plan can only cost calls.

A loop gets a plan only if each of its iterations is sure to be reached unless a call fails:
- what the calls depend on is computed by operations on plain values, and no iteration changes it;
- answers are only stored, printed, joined, or looked at with operations that cannot fail;
- nothing ends the loop early, and it calls nothing that could ask the model or change what is planned.

Everything that the plan evaluates is evaluated again by the loop; what may fail in the loop is part of its
plan, which ends there.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence

from .plan_steps import Call, Choice, Each, Guard, Let, NoPlan, Slot, Step, build, call_count
from .plan_values import CALL, METHODS_OF_ANSWERS, NUMBER, TEXT, PlainExpressions, is_text, stored_names

HOOK = "__rlm_loop__"
_MAX_STATEMENTS = 60


def plan_loops(tree: ast.Module) -> ast.Module:
    """Give each loop of a block that can have one its plan; changes ``tree`` in place."""
    bound = frozenset(stored_names(tree))
    if CALL in bound or "*" in bound:
        return tree
    _Planner(bound).visit(tree)
    return tree


class _Planner(ast.NodeTransformer):
    """Visits the outer loop first; the inner ones only if that gets no plan."""

    def __init__(self, bound: frozenset[str]) -> None:
        self._bound = bound

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:  # noqa: N802
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:  # noqa: N802
        """A plan made in a class's own block could not see its names; in its methods it can."""
        for child in node.body:
            if isinstance(child, ast.FunctionDef):
                child.body = [self.visit(statement) for statement in child.body]
        return node

    def visit_For(self, node: ast.For) -> ast.AST:  # noqa: N802
        walk = _Walk(self._bound, stored_names(node))
        hook = self._hook(node.iter, walk, lambda: walk.loop(node))
        if hook is None:
            return self.generic_visit(node)
        node.iter = hook
        return node

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:  # noqa: N802
        return self._comprehension(node, node.generators, [node.elt])

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:  # noqa: N802
        return self._comprehension(node, node.generators, [node.elt], hashed=True)

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:  # noqa: N802
        return self._comprehension(node, node.generators, [node.key, node.value], hashed=True)

    def _comprehension(
        self,
        node: ast.AST,
        generators: list[ast.comprehension],
        values: Sequence[ast.expr],
        *,
        hashed: bool = False,
    ) -> ast.AST:
        walk = _Walk(self._bound, stored_names(node))
        hook = self._hook(
            generators[0].iter, walk, lambda: walk.comprehension(generators, values, hashed=hashed)
        )
        if hook is None:
            return self.generic_visit(node)
        generators[0].iter = hook
        return node

    def _hook(self, iterable: ast.expr, walk: "_Walk", follow: Callable[[], Step]) -> ast.Call | None:
        try:
            step = follow()
        except NoPlan:
            return None
        if not call_count([step]) or walk.plain.reads.keys() & walk.roots.keys():
            return None
        hook = ast.Call(
            ast.Name(HOOK, ast.Load()),
            [
                iterable,
                _function(build([step])),
                _function(_tuple(walk.plain.reads)),
                _function(_tuple(walk.roots)),
                ast.Constant(tuple(walk.roots.values())),
                ast.Constant(tuple(sorted(walk.plain.functions))),
            ],
            [],
        )
        return ast.fix_missing_locations(ast.copy_location(hook, iterable))


def _function(body: ast.expr) -> ast.Lambda:
    none = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    return ast.Lambda(none, body)


def _tuple(names: Iterable[str]) -> ast.Tuple:
    return ast.Tuple([ast.Name(name, ast.Load()) for name in names], ast.Load())


class _Walk:
    """One candidate: follows the statements of an iteration, and notes the steps of its plan.

    ``roots`` are the variables that the loop changes in place or adds to, each with what it must then be.
    ``_answers`` are the names that hold a value that depends on an answer, each with its kind.
    """

    def __init__(self, bound: frozenset[str], assigned: Iterable[str]) -> None:
        self._assigned = frozenset(assigned)
        self.plain = PlainExpressions(bound, self._assigned)
        self.roots: dict[str, str] = {}
        self._answers: dict[str, str] = {}
        self._text_lets: set[str] = set()
        self._steps: list[Step] = []
        self._statements = 0

    def loop(self, node: ast.For) -> Step:
        """The plan of a ``for`` statement."""
        self._note_sums(node)
        return self._each(node)

    def comprehension(
        self, generators: Sequence[ast.comprehension], values: Sequence[ast.expr], *, hashed: bool
    ) -> Step:
        """The plan of a comprehension; the first of its values is ``hashed`` if it is a set or dict."""
        first = generators[0]
        if any(generator.is_async for generator in generators):
            raise NoPlan
        self._require_plain(first.iter)
        self._bind(first.target)
        for test in first.ifs:
            self._require_plain(test)
        if len(generators) > 1:
            steps = [self.comprehension(generators[1:], values, hashed=hashed)]
        else:
            steps = self._block_of(lambda: self._values(values, hashed=hashed))
        return Each(first.target, first.iter, tuple(first.ifs), steps)

    def _values(self, values: Sequence[ast.expr], *, hashed: bool) -> None:
        for value in values:
            kind = self._value(value)
            if hashed and value is values[0]:
                self._hashable(value, kind)

    def _note_sums(self, node: ast.For) -> None:
        """What ``name += ...`` adds to exists before the loop: it may be shown at any time."""
        sums = [child for child in ast.walk(node) if isinstance(child, ast.AugAssign)]
        targets = [child.target for child in sums]
        for child in sums:
            if not isinstance(child.target, ast.Name) or not isinstance(child.op, ast.Add):
                raise NoPlan
            self._answers[child.target.id] = "any"
        for child in ast.walk(node):
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store) and child not in targets:
                if child.id in self._answers:  # it is also set in another way
                    raise NoPlan

    def _each(self, node: ast.For) -> Step:
        self._require_plain(node.iter)
        self._bind(node.target)
        return Each(node.target, node.iter, (), self._block(node.body))

    def _bind(self, target: ast.expr) -> None:
        names = _target_names(target)
        if names & self.roots.keys():
            raise NoPlan
        for name in names:
            self._answers.pop(name, None)
        self.plain.lets |= names
        self._text_lets -= names

    def _require_plain(self, node: ast.expr) -> None:
        if not self.plain.holds(node):
            raise NoPlan

    def _block(self, statements: Sequence[ast.stmt]) -> list[Step]:
        def walk() -> None:
            rest = list(statements)
            while rest:
                statement = rest.pop(0)
                if isinstance(statement, ast.If) and _ends_iteration(statement):
                    # ``if test: continue`` is ``if not test:`` around the rest.
                    statement = ast.copy_location(
                        ast.If(statement.test, statement.body[:-1] or [ast.Pass()], rest or [ast.Pass()]),
                        statement,
                    )
                    rest = []
                self._statement(statement)

        return self._block_of(walk)

    def _block_of(self, walk: Callable[[], object]) -> list[Step]:
        outer, self._steps = self._steps, []
        try:
            walk()
            return self._steps
        finally:
            self._steps = outer

    def _statement(self, node: ast.stmt) -> None:
        self._statements += 1
        method = getattr(self, f"_on_{type(node).__name__}", None)
        if method is None or self._statements > _MAX_STATEMENTS:
            raise NoPlan
        method(node)

    def _on_Pass(self, node: ast.Pass) -> None:  # noqa: N802
        pass

    def _on_Assign(self, node: ast.Assign) -> None:  # noqa: N802
        (target, *more) = node.targets
        if more:
            raise NoPlan
        self._assign(target, node.value)

    def _on_AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: N802
        if not node.simple or node.value is None or not self.plain.holds(node.annotation):
            raise NoPlan
        self._assign(node.target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Subscript):
            self._value(value)
            self._require_plain(target.slice)
            name = self._root(target.value, "slots")
            self._steps.append(Slot(name, target.slice))
        elif self.plain.holds(value):
            self._bind(target)
            if isinstance(target, ast.Name) and is_text(value):
                self._text_lets.add(target.id)
            self._steps.append(Let(target, value))
        elif isinstance(target, ast.Name):
            kind = self._value(value)
            if target.id in self.roots:
                raise NoPlan
            self._answers[target.id] = kind
            self.plain.lets.discard(target.id)
        else:
            raise NoPlan

    def _on_AugAssign(self, node: ast.AugAssign) -> None:  # noqa: N802
        assert isinstance(node.target, ast.Name)  # _note_sums has seen to it
        name = node.target.id
        self._answers[name] = "any"
        self.plain.lets.discard(name)
        if isinstance(node.value, ast.List):
            self._value(node.value)
            self._note_root(name, "list")
            return
        kind = self._value(node.value)
        if kind not in (TEXT, NUMBER):
            # A plain value whose type is only known when it runs: a sum of numbers, or else no plan.
            if kind != "plain":
                raise NoPlan
            self._steps.append(Guard(ast.BinOp(ast.Constant(0), ast.Add(), node.value)))
            kind = NUMBER
        self._note_root(name, kind)

    def _on_Expr(self, node: ast.Expr) -> None:  # noqa: N802
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print":
            self._print(call)
        elif (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in ("append", "add")
            and len(call.args) == 1
            and not call.keywords
        ):
            self._root(call.func.value, "list" if call.func.attr == "append" else "set")
            kind = self._value(call.args[0])
            if call.func.attr == "add":
                self._hashable(call.args[0], kind)
        else:
            self._value(call)

    def _print(self, call: ast.Call) -> None:
        self.plain.use("print")
        for argument in call.args:
            self._value(argument)
        for keyword in call.keywords:
            if keyword.arg not in ("sep", "end", "flush") or not isinstance(keyword.value, ast.Constant):
                raise NoPlan

    def _on_For(self, node: ast.For) -> None:  # noqa: N802
        if node.orelse:
            raise NoPlan
        step = self._each(node)
        self._forget(stored_names(node))
        self._steps.append(step)

    def _on_If(self, node: ast.If) -> None:  # noqa: N802
        if self.plain.holds(node.test):
            then, otherwise = self._branches([node.body, node.orelse])
            self._steps.append(Choice(node.test, then, otherwise))
            return
        self._value(node.test)
        for steps in self._branches([node.body, node.orelse]):
            if call_count(steps):
                raise NoPlan
            self._steps.append(Choice(ast.Constant(True), steps, []))

    def _on_Try(self, node: ast.Try) -> None:  # noqa: N802
        """Each failed call is caught in its own iteration, so the loop goes on."""
        if node.orelse or node.finalbody:
            raise NoPlan
        handlers = []
        for handler in node.handlers:
            if handler.name:
                self._answers[handler.name] = "any"
                self.plain.lets.discard(handler.name)
            body = handler.body
            handlers.append(body[:-1] if isinstance(body[-1], ast.Continue) else body)
        body_steps, *handled = self._branches([node.body, *handlers])
        if any(map(call_count, handled)):
            raise NoPlan
        self._steps.append(Choice(ast.Constant(True), body_steps, []))

    def _branches(self, bodies: Sequence[Sequence[ast.stmt]]) -> list[list[Step]]:
        """The steps of each branch; afterwards a name is known if every branch has assigned an answer to it."""
        lets, answers = set(self.plain.lets), dict(self._answers)
        results, ends = [], []
        for body in bodies:
            self.plain.lets, self._answers = set(lets), dict(answers)
            results.append(self._block(body))
            kinds_of_lets = {name: TEXT if name in self._text_lets else "any" for name in self.plain.lets}
            ends.append(kinds_of_lets | self._answers)
        changed = {name for body in bodies for statement in body for name in stored_names(statement)}
        self.plain.lets = lets - changed
        self._answers = {name: kind for name, kind in answers.items() if name not in changed}
        for name in changed:
            kinds = {end.get(name, "unknown") for end in ends}
            if "unknown" not in kinds:
                self._answers[name] = kinds.pop() if len(kinds) == 1 else "any"
        return results

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.plain.lets.discard(name)
            if self._answers.get(name) != "any" or name not in self.roots:
                self._answers.pop(name, None)

    def _root(self, node: ast.expr, kind: str) -> str:
        """The variable that is changed in place, which must be the same one in all iterations."""
        if not isinstance(node, ast.Name) or node.id in self._assigned:
            raise NoPlan
        self._note_root(node.id, kind)
        return node.id

    def _note_root(self, name: str, kind: str) -> None:
        if self.roots.setdefault(name, kind) != kind:
            raise NoPlan

    def _hashable(self, node: ast.expr, kind: str) -> None:
        if kind == "plain":
            self._steps.append(Guard(ast.Dict([node], [ast.Constant(0)])))
        elif kind not in (TEXT, NUMBER):
            raise NoPlan

    def _value(self, node: ast.expr) -> str:
        """The kind of a value that may depend on answers; what may fail or ask in it becomes a step."""
        if self.plain.holds(node):
            if not isinstance(node, ast.Constant):
                self._steps.append(Guard(node))
            is_known_text = isinstance(node, ast.Name) and node.id in self._text_lets
            return TEXT if is_known_text or is_text(node) else "plain"
        method = getattr(self, f"_value_{type(node).__name__}", None)
        if method is None:
            raise NoPlan
        kind: str = method(node)
        return kind

    def _value_Name(self, node: ast.Name) -> str:  # noqa: N802
        if node.id not in self._answers:
            raise NoPlan
        return self._answers[node.id]

    def _value_Call(self, node: ast.Call) -> str:  # noqa: N802
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func)
        if not isinstance(node.func, ast.Name):
            raise NoPlan
        if node.func.id == CALL:
            self._steps.append(self._call(node))
            return TEXT
        if node.func.id not in ("len", "str") or len(node.args) != 1 or node.keywords:
            raise NoPlan
        self.plain.use(node.func.id)
        kind = self._value(node.args[0])
        if node.func.id == "str":
            return TEXT
        if kind != TEXT:
            raise NoPlan
        return NUMBER

    def _call(self, node: ast.Call) -> Call:
        model = [keyword.value for keyword in node.keywords if keyword.arg == "model"]
        prompt = [keyword.value for keyword in node.keywords if keyword.arg == "prompt"]
        arguments = prompt + node.args + model
        if len(model) + len(prompt) != len(node.keywords) or not 1 <= len(arguments) <= 2:
            raise NoPlan
        if (prompt and node.args) or (model and len(arguments) == 1):
            raise NoPlan
        for argument in arguments:
            self._require_plain(argument)
        return Call(tuple(arguments))

    def _method(self, node: ast.Call, function: ast.Attribute) -> str:
        kind = METHODS_OF_ANSWERS.get(function.attr)
        texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        if kind is None or node.keywords or len(texts) != len(node.args):
            raise NoPlan
        if any(not isinstance(text, str) or not text for text in texts):
            raise NoPlan
        if len(texts) not in kind.arguments or self._value(function.value) != TEXT:
            raise NoPlan
        return kind.result

    def _value_JoinedStr(self, node: ast.JoinedStr) -> str:  # noqa: N802
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                if part.format_spec is not None and not self.plain.holds(part):
                    raise NoPlan
                self._value(ast.JoinedStr([part]) if self.plain.holds(part) else part.value)
        return TEXT

    def _value_BinOp(self, node: ast.BinOp) -> str:  # noqa: N802
        if not isinstance(node.op, ast.Add):
            raise NoPlan
        for side in (node.left, node.right):
            self._text(side)
        return TEXT

    def _text(self, node: ast.expr) -> None:
        """A part of a text: what is only known to be plain must turn out to be a str."""
        kind = self._value(node)
        if kind == "plain" and self.plain.holds(node):
            self._steps.append(Guard(ast.BinOp(ast.Constant(""), ast.Add(), node)))
        elif kind != TEXT:
            raise NoPlan

    def _value_Tuple(self, node: ast.Tuple) -> str:  # noqa: N802
        return self._display(node.elts)

    def _value_List(self, node: ast.List) -> str:  # noqa: N802
        return self._display(node.elts)

    def _display(self, values: Sequence[ast.expr]) -> str:
        for value in values:
            self._value(value)
        return "any"

    def _value_Dict(self, node: ast.Dict) -> str:  # noqa: N802
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise NoPlan
            self._hashable(key, self._value(key))
            self._value(value)
        return "any"

    def _value_Subscript(self, node: ast.Subscript) -> str:  # noqa: N802
        part = node.slice
        if not isinstance(part, ast.Slice) or not all(map(_is_bound, (part.lower, part.upper))) or part.step:
            raise NoPlan
        if self._value(node.value) != TEXT:
            raise NoPlan
        return TEXT

    def _value_Compare(self, node: ast.Compare) -> str:  # noqa: N802
        if len(node.ops) != 1:
            raise NoPlan
        right = node.comparators[0]
        if isinstance(node.ops[0], (ast.In, ast.NotIn)):
            self._text(node.left)
            self._text(right)
        elif isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
            self._value(node.left)
            self._value(right)
        else:
            raise NoPlan
        return "any"

    def _value_UnaryOp(self, node: ast.UnaryOp) -> str:  # noqa: N802
        if not isinstance(node.op, ast.Not):
            raise NoPlan
        self._value(node.operand)
        return "any"

    def _value_BoolOp(self, node: ast.BoolOp) -> str:  # noqa: N802
        first, *others = node.values
        self._value(first)
        for other in others:  # may be left out, so no call may be in it
            if call_count(self._block_of(lambda other=other: self._value(other))):
                raise NoPlan
        return "any"

    def _value_IfExp(self, node: ast.IfExp) -> str:  # noqa: N802
        plain = self.plain.holds(node.test)
        if not plain:
            self._value(node.test)
        kinds: list[str] = []
        then, otherwise = (
            self._block_of(lambda branch=branch: kinds.append(self._value(branch)))
            for branch in (node.body, node.orelse)
        )
        if plain:
            self._steps.append(Choice(node.test, then, otherwise))
        elif call_count(then + otherwise):
            raise NoPlan
        return kinds[0] if kinds[0] == kinds[1] and kinds[0] in (TEXT, NUMBER) else "any"


def _ends_iteration(node: ast.If) -> bool:
    return isinstance(node.body[-1], ast.Continue) and not node.orelse


def _is_bound(node: ast.expr | None) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return node is None or (isinstance(node, ast.Constant) and type(node.value) is int)


def _target_names(target: ast.expr) -> set[str]:
    """The names of a target that is a name, or names in tuples."""

    def names(node: ast.expr) -> Iterator[str]:
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, (ast.Tuple, ast.List)):
            for item in node.elts:
                yield from names(item)
        else:
            raise NoPlan

    return set(names(target))
