"""What the command line writes: closed to others below ``RLM_HOME``, and as the umask says elsewhere."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.simulated import SimulatedEndpoint
from tests.support.command_line import Cli


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Commands with a home in ``tmp_path``, whose workers reach a simulated endpoint."""
    for name in [name for name in os.environ if name.startswith(("RLM_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLM_HOME", str(tmp_path / "home"))
    with SimulatedEndpoint() as endpoint:
        monkeypatch.setenv("RLM_API_URL", endpoint.url)
        yield Cli(capsys)


@pytest.fixture
def umask() -> Iterator[None]:
    """Sets back the umask that a test changes."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.usefixtures("umask")
def test_nothing_below_the_home_is_open_to_others(cli: Cli, tmp_path: Path) -> None:
    """With the umask 0; files of blobs and cached contexts are closed by the folders that hold them."""
    os.umask(0)
    (tmp_path / "text.txt").write_text("The magic number for blue-cat is 4711.\n" * 5000)
    (tmp_path / "home").mkdir()
    done = cli("run", "--context", "text.txt", "--query", "What is the magic number for blue-cat?")
    assert (done.code, done.out) == (0, "4711\n")
    home = tmp_path / "home"
    found = [home, *home.rglob("*")]
    assert {"blobs", "server.log", "logs"} <= {path.name for path in found}
    closed = {home / "blobs", home / "cache/contexts"}
    open_to_others = [path for path in found if mode(path) & 0o077 and not closed & {*path.parents}]
    assert open_to_others == []


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_of_results_has_the_mode_of_the_umask(
    cli: Cli, tmp_path: Path, mask: int, expected: int
) -> None:
    os.umask(mask)
    line = {"id": "a", "query": "What?", "context": "text"}
    (tmp_path / "batch.jsonl").write_text(json.dumps(line) + "\n")
    assert cli("submit", "batch.jsonl", "--batch-id", "b1").code == 0
    assert cli("cancel", "b1").code == 0
    cli("results", "b1", "-o", "answers.jsonl", "--errors", "errors.jsonl")
    assert {mode(tmp_path / name) for name in ("answers.jsonl", "errors.jsonl")} == {expected}
