"""Every module, function and Lua script keeps the size limits of the house style."""

import ast
from pathlib import Path

import pytest

from tests.support.environment import PROJECT

MODULES = sorted(
    path for folder in ("rlm_dist", "workers", "tests") for path in (PROJECT / folder).rglob("*.py")
)
SCRIPTS = sorted((PROJECT / "rlm_dist").rglob("*.lua"))


def ids(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_modules_have_at_most_500_lines_and_functions_60(path: Path) -> None:
    source = path.read_text()
    assert source.count("\n") <= 500
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {node.name: size for node in functions if (size := (node.end_lineno or 0) - node.lineno + 1) > 60}
    assert not long


@pytest.mark.parametrize("path", SCRIPTS, ids=ids)
def test_lua_scripts_have_at_most_60_lines(path: Path) -> None:
    """A prelude to several scripts is not an operation itself, and may have 90."""
    assert path.read_text().count("\n") <= (90 if path.stem.startswith("prelude") else 60)
