"""The program in docs/votes.md runs as it stands."""

import os
import re
import subprocess
import sys

import pytest

from tests.support.environment import PROJECT

pytestmark = pytest.mark.acceptance


def test_the_program_of_the_page_runs() -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/votes.md").read_text(), re.S)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=dict(os.environ), timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["succeeded 7", "3 (0, 1, 2) 7"]
    assert lines[2].startswith("9 3 ")
