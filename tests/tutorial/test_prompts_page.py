"""The program in docs/prompts.md runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import PROJECT

pytestmark = pytest.mark.acceptance

PROGRAMS = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/prompts.md").read_text(), re.S)


def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    (program,) = PROGRAMS
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"
