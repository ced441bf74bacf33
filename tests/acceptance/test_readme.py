"""What the README shows is what happens: its batch, its Python, its tables."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.cli.app import COMMANDS
from rlm_dist.settings import Settings
from rlm_dist.simulated import SimulatedEndpoint
from tests.acceptance.processes import ROOT, clean_environment
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance

README = (ROOT / "README.md").read_text()
NEEDLE = "The magic number for copper-fox is 7654321.\n"


def block(section: str, language: str, nth: int = 0) -> str:
    """The nth code block of a language in a section."""
    body = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return str(re.findall(rf"```{language}\n(.*?)```", body, re.S)[nth])


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with an endpoint, a home, and a command ``rlm-dist`` that runs this checkout."""
    command = tmp_path / "bin" / "rlm-dist"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m rlm_dist "$@"\n')
    command.chmod(0o755)
    prices = tmp_path / "prices.json"
    prices.write_text('{"*": {"input": 1, "output": 4}}')  # a budget of money is refused without
    with SimulatedEndpoint() as endpoint:
        yield {
            **clean_environment(),
            "RLM_PRICES": str(prices),
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
            "RLM_API_URL": endpoint.url,
            "RLM_HOME": str(tmp_path / "home"),
        }


def test_the_batch_in_five_lines(environment: dict[str, str], tmp_path: Path) -> None:
    """``up``, ``submit``, ``status --watch``, ``results`` and ``cost``, as they stand there."""
    lines = block("A batch in five lines", "bash").splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("export RLM_API_URL=")
    items = [
        {"id": f"q{n}", "query": "What is the magic number for copper-fox?", "context": f"{n}\n" + NEEDLE * n}
        for n in range(1, 6)
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    script = "\n".join(["set -e", lines[1], "up=$!", *lines[2:], "kill -TERM $up", "wait $up"])
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", script],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [(answer["custom_id"], answer["answer"]) for answer in answers] == [
        (item["id"], "7654321") for item in items
    ]
    assert (tmp_path / "failed.jsonl").read_text() == ""
    assert "simulated-root" in done.stdout
    assert "total $0.0" in done.stdout


def test_the_python_example(environment: dict[str, str], tmp_path: Path) -> None:
    """The example runs as it stands, on its own embedded cluster, and leaves nothing behind."""
    (tmp_path / "book.txt").write_text("Call me Ishmael.\n")
    process = subprocess.Popen(
        [sys.executable, "-c", block("A batch in five lines", "python")],
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    said, _ = process.communicate(timeout=170)
    assert process.returncode == 0
    assert float(said.split()[-1]) > 0
    wait_until(lambda: not (tmp_path / "home" / "redis" / "server.json").exists())


def test_the_tables_name_every_command_and_setting_and_no_other() -> None:
    """Commands and settings that users may type are the ones there are."""
    commands = README.split("\n## Commands\n")[1].split("\n## ")[0]
    shown = {
        word for cell in re.findall(r"^\| (.*?) \|", commands, re.M) for word in re.findall(r"`(\w+)", cell)
    }
    assert shown == set(COMMANDS)
    table = README.split("\n## Settings\n")[1].split("\n## ")[0]
    names = {
        name for cell in re.findall(r"^\| (.*?) \|", table, re.M) for name in re.findall(r"`(RLM_\w+)`", cell)
    }
    inner = {"RLM_BROKER_PREFIX"}
    assert names == {f"RLM_{name.upper()}" for name in Settings.model_fields} - inner
