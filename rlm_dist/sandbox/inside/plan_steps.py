"""The steps of a plan, and the expression that they make.

That expression gives an iterable whose items are: a tuple, the arguments of a call; a dict ``{"at": variable,
"key": key}``, a slot that the loop stores to; a generator, an inner loop. Lists are guards, which only have
to be evaluated; an empty one begins each iteration.
"""

import ast
from collections.abc import Sequence
from typing import NamedTuple

_ITEM = "__rlm_item__"


class NoPlan(Exception):
    """A loop is left as it is."""


class PlannedCall(NamedTuple):
    """A call with these arguments."""

    arguments: tuple[ast.expr, ...]


class Guard(NamedTuple):
    """What the loop evaluates, too; the plan ends where it fails."""

    value: ast.expr


class Slot(NamedTuple):
    """An assignment to an item of a variable."""

    variable: str
    key: ast.expr


class Let(NamedTuple):
    """A name with the value that it has for the rest of the iteration."""

    target: ast.expr
    value: ast.expr


class Branch(NamedTuple):
    """Steps of which only some are taken."""

    test: ast.expr
    then: "list[Step]"
    otherwise: "list[Step]"


class Each(NamedTuple):
    """A loop."""

    target: ast.expr
    iterable: ast.expr
    tests: tuple[ast.expr, ...]
    steps: "list[Step]"


Step = PlannedCall | Guard | Slot | Let | Branch | Each


def call_count(steps: Sequence[Step]) -> int:
    """How many calls these steps have, of all their branches and loops together."""
    count = 0
    for step in steps:
        if isinstance(step, PlannedCall):
            count += 1
        elif isinstance(step, Branch):
            count += call_count(step.then) + call_count(step.otherwise)
        elif isinstance(step, Each):
            count += call_count(step.steps)
    return count


def build(steps: Sequence[Step]) -> ast.expr:
    """The expression for these steps, a tuple of their items."""
    items: list[ast.expr] = []
    for at, step in enumerate(steps):
        if isinstance(step, Let):
            once = ast.Tuple([step.value], ast.Load())
            items.append(_starred(_nested(step.target, once, build(steps[at + 1 :]), ast.ListComp)))
            break
        items.append(_item(step))
    return ast.Tuple(items, ast.Load())


def _item(step: Step) -> ast.expr:
    if isinstance(step, PlannedCall):
        return ast.Tuple(list(step.arguments), ast.Load())
    if isinstance(step, Guard):
        return ast.List([step.value], ast.Load())
    if isinstance(step, Slot):
        values: list[ast.expr] = [ast.Name(step.variable, ast.Load()), step.key]
        return ast.Dict([ast.Constant("at"), ast.Constant("key")], values)
    if isinstance(step, Branch):
        return _starred(ast.IfExp(step.test, build(step.then), build(step.otherwise)))
    assert isinstance(step, Each)
    items = build(step.steps)
    for test in reversed(step.tests):
        items = ast.IfExp(test, items, ast.Tuple([], ast.Load()))
    items = ast.Tuple([ast.List([], ast.Load()), _starred(items)], ast.Load())
    return _nested(step.target, step.iterable, items, ast.GeneratorExp)


def _nested(target: ast.expr, iterable: ast.expr, items: ast.expr, kind: type) -> ast.expr:
    """All ``items`` for all values of ``target``."""
    outer = ast.comprehension(target, iterable, [], 0)
    inner = ast.comprehension(ast.Name(_ITEM, ast.Store()), items, [], 0)
    made: ast.expr = kind(ast.Name(_ITEM, ast.Load()), [outer, inner])
    return made


def _starred(value: ast.expr) -> ast.Starred:
    return ast.Starred(value, ast.Load())
