"""The programs in docs/prompts.md run as they stand."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import PROJECT

pytestmark = pytest.mark.acceptance

PROGRAMS = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/prompts.md").read_text(), re.S)


def _output(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, cwd=folder, env=dict(os.environ), timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_programs_of_the_page_run(tmp_path: Path) -> None:
    """The second asks the sub model about each of two lines, and no root model."""
    asks_the_model, has_a_program = PROGRAMS
    assert _output(asks_the_model, tmp_path) == "1\n"
    answers = ast.literal_eval(_output(has_a_program, tmp_path))
    assert [answer.split()[0] for answer in answers] == ["5", "8"]  # it counts the words of its prompt
