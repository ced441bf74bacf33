"""Modules in the user's current folder neither break a command nor enter one of its processes.

``python -m`` puts that folder first, where Python itself may find its modules before we take it out again, so
there the names of modules of the standard library that it uses are not tried.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlm_dist.simulated import SimulatedEndpoint
from tests.support.command_line import next_line
from tests.support.environment import clean_environment

SCRIPT = [str(Path(sys.executable).parent / "rlm-dist")]
MODULE = [sys.executable, "-m", "rlm_dist"]
OTHERS = (
    "celery",
    "kombu",
    "redis",
    "flower",
    "openai",
    "pydantic",
    "typer",
    "rich",
    "tornado",
    "celeryconfig",
)
STANDARD = ("queue", "random", "json", "socket", "resource", "asyncio", "secrets", "tempfile", "subprocess")
OF_PYTHON = ("types", "os", "io", "typing", "importlib", "sitecustomize")
QUERY = "How many lines have the word 'a'?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with text, a batch, and a package ``workers``; ``poison`` adds modules."""
    (tmp_path / "here").mkdir()
    folder = tmp_path / "here"
    (folder / "text.txt").write_text("a\nb\nab\n")
    line = {"id": 1, "query": QUERY, "context_file": "text.txt"}
    (folder / "batch.jsonl").write_text(json.dumps(line) + "\n")
    return folder


def poison(folder: Path, *names: str) -> None:
    """Add modules that leave a mark and fail when they are imported, also as packages below."""
    for name in names:
        code = (
            f"open({str(folder / 'imported')!r}, 'a').write({name!r} + '\\n'); raise ImportError({name!r})\n"
        )
        (folder / f"{name}.py").write_text(code)
    for package in ("workers", "root_worker", "sub_worker"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(code)


def marks(folder: Path) -> list[str]:
    path = folder / "imported"
    return path.read_text().splitlines() if path.exists() else []


@contextmanager
def started(command: list[str], folder: Path, variables: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a command in the folder; it is stopped like by Ctrl-C, and must then end well."""
    process = subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=90)
            assert process.returncode == 0, err
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("rlm_dist", "names"),
    [(SCRIPT, OTHERS + STANDARD + OF_PYTHON), (MODULE, OTHERS + STANDARD)],
    ids=["script", "module"],
)
def test_modules_in_the_current_folder_enter_no_command(
    folder: Path, tmp_path: Path, rlm_dist: list[str], names: tuple[str, ...]
) -> None:
    poison(folder, *names)
    with SimulatedEndpoint() as endpoint:
        variables = {**clean_environment(), "RLM_HOME": str(tmp_path / "home"), "RLM_API_URL": endpoint.url}

        def done(*arguments: str) -> str:
            ended = subprocess.run(
                [*rlm_dist, *arguments],
                cwd=folder,
                env=variables,
                capture_output=True,
                text=True,
                check=False,
            )
            assert ended.returncode == 0, ended.stderr
            return ended.stdout

        assert done("run", "--context", "text.txt", "--query", QUERY) == "2\n"
        with started([*rlm_dist, "up", "--port", "0", "--json"], folder, variables) as up:
            assert {"flower"} < set(json.loads(next_line(up))["processes"])
            with started([*rlm_dist, "flower", "--port", "0", "--json"], folder, variables) as flower:
                assert "127.0.0.1" in next_line(flower)
                assert done("submit", "batch.jsonl", "--batch-id", "b1") == "b1\n"
                assert done("wait", "b1") == "b1: completed\n"
    assert marks(folder) == []


@pytest.mark.parametrize("role", ["root", "sub"])
@pytest.mark.parametrize("rlm_dist", [SCRIPT, MODULE], ids=["script", "module"])
def test_they_enter_no_worker(
    folder: Path, tmp_path: Path, redis_url: str, rlm_dist: list[str], role: str
) -> None:
    poison(folder, *OTHERS, *STANDARD)
    variables = {**clean_environment(), "RLM_HOME": str(tmp_path / "home"), "RLM_REDIS_URL": redis_url}
    process = subprocess.Popen(
        [*rlm_dist, "worker", role, "--concurrency", "1"],
        cwd=folder,
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            assert any("ready" in line for line in process.stderr)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 0
    assert marks(folder) == []
