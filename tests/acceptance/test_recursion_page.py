"""The program in docs/recursion.md runs as it stands, with workers of two depths that it starts."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlm_dist.schema import Message
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.environment import PROJECT, clean_environment

pytestmark = pytest.mark.acceptance


def root(messages: Sequence[Message]) -> str:
    """A job asks a child about each chapter; a child hands in what it sees."""
    if any("who met whom here" in message.content for message in messages):
        return "```repl\nFINAL(context.upper())\n```"
    return "```repl\nFINAL(' '.join(rlm_query_batched(['who met whom here'] * len(context), context)))\n```"


def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/recursion.md").read_text(), re.S)
    with SimulatedEndpoint(root=root) as endpoint:
        env = {**clean_environment(), "RLM_API_URL": endpoint.url, "RLM_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=env,
            timeout=150,
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "succeeded ADA MET BOB IN ROME. BOB MET EVE IN OSLO. ADA MET EVE IN BONN."
    assert lines[1] == "4 calls of root models, those of children included"
