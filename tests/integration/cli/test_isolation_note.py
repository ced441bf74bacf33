"""A command says on stderr that model-written code is not isolated, as far as it can know."""

import json
import os
from pathlib import Path

import pytest

from rlm_dist.cli.output import NOT_ISOLATED
from rlm_dist.cli.session import ClusterRecord, announce
from rlm_dist.local.home import hold_up
from rlm_dist.local.redis.server import server
from rlm_dist.simulated import SimulatedEndpoint
from rlm_dist.store import connect
from tests.support.command_line import Cli

NOWHERE = "http://127.0.0.1:1/v1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("RLM_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RLM_API_URL", NOWHERE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batch.jsonl").write_text(json.dumps({"id": "q", "query": "?", "context": "a text"}))
    return tmp_path / "home"


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def test_submit_knows_it_from_the_cluster_of_this_machine(cli: Cli, home: Path) -> None:
    with server(home), hold_up(home):
        announce(home, ClusterRecord(prompts="coder", sandboxed=False))
        assert NOT_ISOLATED in cli("submit", "batch.jsonl").err
        announce(home, ClusterRecord(prompts="coder"))
        assert NOT_ISOLATED not in cli("submit", "batch.jsonl").err


def test_submit_tells_it_of_workers_with_its_own_settings(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(home):
        assert NOT_ISOLATED not in cli("submit", "batch.jsonl").err
        monkeypatch.setenv("RLM_SANDBOX", "off")
        assert NOT_ISOLATED in cli("submit", "batch.jsonl").err


def test_status_tells_it_of_a_job_and_of_its_batch(cli: Cli, home: Path) -> None:
    with server(home) as url, connect(url, client_name="test") as client:
        cli("submit", "batch.jsonl", "--batch-id", "b1")
        (job,) = client.zrange("rlm:jobs", 0, -1)
        for isolation, told in (("landlock", False), ("none", True)):
            client.hset(f"rlm:job:{job}", "isolation", isolation)
            assert [NOT_ISOLATED in cli("status", name).err for name in (job, "b1")] == [told, told]


def test_run_tells_it_before_and_after(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_SANDBOX", "off")
    monkeypatch.setenv("RLM_SANDBOX_MIN", "off")
    with SimulatedEndpoint() as endpoint:
        monkeypatch.setenv("RLM_API_URL", endpoint.url)
        done = cli("run", "--context", tmp_path / "batch.jsonl", "--query", "How many lines contain 'a'?")
    assert done.err.count(NOT_ISOLATED) == 2
