"""The programs in docs/python.md run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import PROJECT

pytestmark = pytest.mark.acceptance

PROGRAMS = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/python.md").read_text(), re.S)


@pytest.mark.parametrize(("number", "printed"), [(0, 1), (1, 101), (2, 11)])
def test_a_program_of_the_page_runs(number: int, printed: int, tmp_path: Path) -> None:
    assert len(PROGRAMS) == 3
    (tmp_path / "book.txt").write_text("Call me Ishmael. My friend is Queequeg.\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[number]],
        capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == printed
