"""Finds loops whose ``llm_query`` calls can be told in advance, and gives each a plan of these calls.

The loop itself stays as it is. What it iterates over is handed through a function of the REPL (``HOOK``),
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

from .plan_answers import ANY, PLAIN, AnswerExpressions
from .plan_steps import Branch, Each, Guard, Let, NoPlan, Slot, Step, build, call_count
from .plan_values import CALL, NUMBER, TEXT, is_text, stored_names

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

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """A plan made in a class's own block could not see its names; in its methods it can."""
        for child in node.body:
            if isinstance(child, ast.FunctionDef):
                child.body = [self.visit(statement) for statement in child.body]
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        walk = _LoopWalk(self._bound, stored_names(node))
        hook = self._hook(node.iter, walk, lambda: walk.loop(node))
        if hook is None:
            return self.generic_visit(node)
        node.iter = hook
        return node

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        return self._comprehension(node, node.generators, [node.elt])

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        return self._comprehension(node, node.generators, [node.elt], hashed=True)

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        return self._comprehension(node, node.generators, [node.key, node.value], hashed=True)

    def _comprehension(
        self,
        node: ast.AST,
        generators: list[ast.comprehension],
        values: Sequence[ast.expr],
        *,
        hashed: bool = False,
    ) -> ast.AST:
        walk = _LoopWalk(self._bound, stored_names(node))
        hook = self._hook(
            generators[0].iter, walk, lambda: walk.comprehension(generators, values, hashed=hashed)
        )
        if hook is None:
            return self.generic_visit(node)
        generators[0].iter = hook
        return node

    def _hook(self, iterable: ast.expr, walk: "_LoopWalk", follow: Callable[[], Step]) -> ast.Call | None:
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
                _constants(walk.roots.values()),
                _constants(sorted(walk.plain.functions)),
            ],
            [],
        )
        return ast.fix_missing_locations(ast.copy_location(hook, iterable))


def _function(body: ast.expr) -> ast.Lambda:
    none = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    return ast.Lambda(none, body)


def _tuple(names: Iterable[str]) -> ast.Tuple:
    return ast.Tuple([ast.Name(name, ast.Load()) for name in names], ast.Load())


def _constants(values: Iterable[str]) -> ast.Tuple:
    return ast.Tuple([ast.Constant(value) for value in values], ast.Load())


class _LoopWalk(AnswerExpressions):
    """One candidate: follows the statements of an iteration, and notes the steps of its plan.

    ``roots`` are the variables that the loop changes in place or adds to, each with what it must then be.
    """

    def __init__(self, bound: frozenset[str], assigned: Iterable[str]) -> None:
        super().__init__(bound, assigned)
        self.roots: dict[str, str] = {}
        self._sums: set[str] = set()
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
        self.require_plain(first.iter)
        self._bind(first.target)
        for test in first.ifs:
            self.require_plain(test)
        if len(generators) > 1:
            steps = [self.comprehension(generators[1:], values, hashed=hashed)]
        else:
            steps = self.block_of(lambda: self._values(values, hashed=hashed))
        return Each(first.target, first.iter, tuple(first.ifs), steps)

    def _values(self, values: Sequence[ast.expr], *, hashed: bool) -> None:
        for value in values:
            kind = self.value(value)
            if hashed and value is values[0]:
                self.hashable(value, kind)

    def _note_sums(self, node: ast.For) -> None:
        """What ``name += ...`` adds to exists before the loop: it may be shown at any time."""
        sums = [child for child in ast.walk(node) if isinstance(child, ast.AugAssign)]
        targets = {child.target for child in sums}
        for child in sums:
            if not isinstance(child.target, ast.Name) or not isinstance(child.op, ast.Add):
                raise NoPlan
            self.answers[child.target.id] = ANY
        others = (
            name for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        )
        self._sums = set(self.answers)
        if any(name.id in self._sums for name in others if name not in targets):
            raise NoPlan  # it is also set in another way

    def _each(self, node: ast.For) -> Step:
        self.require_plain(node.iter)
        self._bind(node.target)
        return Each(node.target, node.iter, (), self._block(_without_continue(node.body)))

    def _bind(self, target: ast.expr) -> None:
        names = _target_names(target)
        if names & self.roots.keys():
            raise NoPlan
        for name in names:
            self.answers.pop(name, None)
        self.plain.lets |= names
        self.text_lets -= names

    def _block(self, statements: Sequence[ast.stmt]) -> list[Step]:
        def walk() -> None:
            for statement in statements:
                self._statement(statement)

        return self.block_of(walk)

    def _statement(self, node: ast.stmt) -> None:
        self._statements += 1
        method = getattr(self, f"_on_{type(node).__name__.lower()}", None)
        if method is None or self._statements > _MAX_STATEMENTS:
            raise NoPlan
        method(node)

    def _on_pass(self, node: ast.Pass) -> None:
        pass

    def _on_assign(self, node: ast.Assign) -> None:
        (target, *more) = node.targets
        if more:
            raise NoPlan
        self._assign(target, node.value)

    def _on_annassign(self, node: ast.AnnAssign) -> None:
        if not node.simple or node.value is None or not self.plain.holds(node.annotation):
            raise NoPlan
        self._assign(node.target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Subscript):
            self.value(value)
            self.require_plain(target.slice)
            name = self._root(target.value, "slots")
            self.steps.append(Slot(name, target.slice))
        elif self.plain.holds(value):
            self._bind(target)
            if isinstance(target, ast.Name) and is_text(value):
                self.text_lets.add(target.id)
            self.steps.append(Let(target, value))
        elif isinstance(target, ast.Name):
            kind = self.value(value)
            if target.id in self.roots:
                raise NoPlan
            self.answers[target.id] = kind
            self.plain.lets.discard(target.id)
        else:
            raise NoPlan

    def _on_augassign(self, node: ast.AugAssign) -> None:
        assert isinstance(node.target, ast.Name)  # _note_sums has seen to it
        name = node.target.id
        self.answers[name] = ANY
        self.plain.lets.discard(name)
        if isinstance(node.value, ast.List):
            self.value(node.value)
            self._note_root(name, "list")
            return
        kind = self.value(node.value)
        if kind not in (TEXT, NUMBER):
            # A plain value whose type is only known when it runs: a sum of numbers, or else no plan.
            if kind != PLAIN:
                raise NoPlan
            self.steps.append(Guard(ast.BinOp(ast.Constant(0), ast.Add(), node.value)))
            kind = NUMBER
        self._note_root(name, kind)

    def _on_expr(self, node: ast.Expr) -> None:
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
            kind = self.value(call.args[0])
            if call.func.attr == "add":
                self.hashable(call.args[0], kind)
        else:
            self.value(call)

    def _print(self, call: ast.Call) -> None:
        self.plain.use("print")
        for argument in call.args:
            self.value(argument)
        for keyword in call.keywords:
            if keyword.arg not in ("sep", "end", "flush") or not isinstance(keyword.value, ast.Constant):
                raise NoPlan

    def _on_for(self, node: ast.For) -> None:
        if node.orelse:
            raise NoPlan
        names = set(stored_names(node)) - self._sums
        self._forget(names)  # its second iteration finds in them what its first one left
        step = self._each(node)
        self._forget(names)
        self.steps.append(step)

    def _on_if(self, node: ast.If) -> None:
        if self.plain.holds(node.test):
            then, otherwise = self._branches([node.body, node.orelse])
            self.steps.append(Branch(node.test, then, otherwise))
            return
        self.value(node.test)
        for steps in self._branches([node.body, node.orelse]):
            if call_count(steps):
                raise NoPlan
            self.steps.append(Branch(ast.Constant(True), steps, []))

    def _on_try(self, node: ast.Try) -> None:
        """Each failed call is caught in its own iteration, so the loop goes on."""
        if node.orelse or node.finalbody:
            raise NoPlan
        handlers = []
        for handler in node.handlers:
            if handler.name:
                self.answers[handler.name] = ANY
                self.plain.lets.discard(handler.name)
            body = handler.body
            handlers.append(body[:-1] if isinstance(body[-1], ast.Continue) else body)
        body_steps, *handled = self._branches([node.body, *handlers])
        if any(map(call_count, handled)):
            raise NoPlan
        self.steps.append(Branch(ast.Constant(True), body_steps, []))

    def _branches(self, bodies: Sequence[Sequence[ast.stmt]]) -> list[list[Step]]:
        """The steps of each branch; afterwards a name is known if every branch has given it a value."""
        lets, answers = set(self.plain.lets), dict(self.answers)
        results, ends = [], []
        for body in bodies:
            self.plain.lets, self.answers = set(lets), dict(answers)
            results.append(self._block(body))
            kinds_of_lets = {name: TEXT if name in self.text_lets else ANY for name in self.plain.lets}
            ends.append(kinds_of_lets | self.answers)
        changed = {name for body in bodies for statement in body for name in stored_names(statement)}
        self.plain.lets = lets - changed
        self.answers = {name: kind for name, kind in answers.items() if name not in changed}
        for name in changed:
            kinds = {end.get(name, "unknown") for end in ends}
            if "unknown" not in kinds:
                self.answers[name] = kinds.pop() if len(kinds) == 1 else ANY
        return results

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.plain.lets.discard(name)
            self.answers.pop(name, None)

    def _root(self, node: ast.expr, kind: str) -> str:
        """The variable that is changed in place, which must be the same one in all iterations."""
        if not isinstance(node, ast.Name) or node.id in self.assigned:
            raise NoPlan
        self._note_root(node.id, kind)
        return node.id

    def _note_root(self, name: str, kind: str) -> None:
        if self.roots.setdefault(name, kind) != kind:
            raise NoPlan


def _without_continue(body: Sequence[ast.stmt]) -> Sequence[ast.stmt]:
    """The body of a loop with ``if test: continue`` as ``if test: pass`` and an ``else`` around the rest."""
    for at, node in enumerate(body):
        if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Continue) and not node.orelse:
            then, rest = node.body[:-1], [*_without_continue(body[at + 1 :])]
            return [*body[:at], ast.copy_location(ast.If(node.test, then, rest), node)]
    return body


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
