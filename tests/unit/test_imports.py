"""What import-linter cannot say: which modules of others the inside of the sandbox may import."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environment import PROJECT

INSIDE = sorted((PROJECT / "rlm_dist/sandbox/inside").glob("*.py"))
# They confine the process; bound read-only into the sandbox beside the standard library.
CONFINING = {"landlockpy", "seccompy"}


def imported(path: Path) -> Iterator[str]:
    """Top-level names of what a module imports; ``.`` is a sibling, ``..`` and more are above it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level or (node.module or "").partition(".")[0]


@pytest.mark.parametrize("path", INSIDE, ids=lambda path: path.stem)
def test_inside_the_sandbox_only_the_standard_library_and_siblings_are_imported(path: Path) -> None:
    assert set(imported(path)) <= {*sys.stdlib_module_names, *CONFINING, "."}
