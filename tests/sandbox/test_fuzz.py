"""What a REPL or a model sends, fuzzed with atheris, which is not among our dependencies."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import PROJECT
from tests.unit.sandbox.test_frames import HONEST

_REPLIES = [
    "Look:\n```repl\nprint(len(context))\n```\nFINAL(5)",
    "<think>hm</think>FINAL_VAR(x)",
    '<tool_call>\n{"name": "python", "arguments": {"code": "print(1)"}}\n</tool_call>',
]
SEEDS = {"frames": [json.dumps(message) for message in HONEST], "replies": _REPLIES}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", SEEDS)
def test_nothing_that_comes_in_breaks_the_reader(target: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("LOUD: atheris is not installed: nothing was fuzzed by coverage")
    for number, seed in enumerate(SEEDS[target]):
        (tmp_path / str(number)).write_text(seed)
    options = ["-runs=200000", "-timeout=20", f"-artifact_prefix={tmp_path}/"]
    completed = subprocess.run(
        [sys.executable, "-m", "tests.sandbox.fuzz", target, str(tmp_path), *options],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert completed.returncode == 0, completed.stderr[-3000:]
    assert "Done 200000 runs" in completed.stderr
