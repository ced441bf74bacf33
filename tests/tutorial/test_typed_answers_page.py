"""The program for jobs in docs/typed-answers.md runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import PROJECT

pytestmark = pytest.mark.acceptance


def test_the_program_for_jobs_runs(tmp_path: Path) -> None:
    """Its first answer has a quote that is not in the book, and is refused."""
    jobs = (PROJECT / "docs/typed-answers.md").read_text().split("\n## Jobs\n")[1].split("\n## ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", jobs, re.S)
    (tmp_path / "book.txt").write_text("Call me Ishmael.\nMy friend is\nQueequeg.\n")
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "name='Queequeg' quotes=['My friend is Queequeg.']\n"
