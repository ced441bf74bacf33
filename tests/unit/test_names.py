"""A class name stands for one thing in the whole package, so that a reader can search for it."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.support.environment import PROJECT


def class_names(node: ast.AST) -> Iterator[str]:
    """Yield the classes of a module and of its classes, without leading underscores.

    Classes inside functions are local to them and may repeat a name.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.ClassDef):
            yield child.name.lstrip("_")
        yield from class_names(child)


def homes_of(package: Path) -> dict[str, set[str]]:
    """Return the modules of a package in which each class name is defined."""
    homes: dict[str, set[str]] = defaultdict(set)
    for path in package.rglob("*.py"):
        for name in class_names(ast.parse(path.read_text())):
            homes[name].add(str(path.relative_to(package.parent)))
    return homes


def test_no_class_name_stands_for_two_things() -> None:
    homes = homes_of(PROJECT / "rlm_dist")
    assert len(homes) > 100
    clashes = {name: sorted(modules) for name, modules in homes.items() if len(modules) > 1}
    assert not clashes


def test_a_name_that_is_used_twice_is_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class Twice:\n    class Inner: ...\nif True:\n    class Late: ...\n")
    (tmp_path / "two.py").write_text("class _Twice: ...\ndef make():\n    class Inner: ...\n")
    homes = homes_of(tmp_path)
    assert {name for name, modules in homes.items() if len(modules) > 1} == {"Twice"}
    assert homes.keys() == {"Twice", "Inner", "Late"}
