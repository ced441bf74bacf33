"""``bench quality`` on real workers: a run that is killed is taken up again, nothing is paid twice."""

import json
from pathlib import Path

import pytest

from rlm_dist.schema import Role
from rlm_dist.simulated import SimulatedEndpoint
from rlm_dist.simulated.server import Latency
from tests.support.bench import MakeBench
from tests.support.command_line import Cli, command
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

ITEMS = 2
METHODS = ("base", "rlm")
TOTAL = ITEMS * len(METHODS)


def rows(folder: Path) -> list[dict[str, object]]:
    path = folder / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_run_that_is_killed_is_taken_up_again(
    make_bench: MakeBench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with SimulatedEndpoint(latency=Latency(0.15)) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.start(Role.SUB, concurrency=2)
        bench.wait_ready()
        folder = bench.folder / "run"
        words = ["bench", "quality", "--task", "needles", "--tokens", "500", "--items", str(ITEMS)]
        words += ["--method", ",".join(METHODS), "--window", "8000", "-o", str(folder)]
        with command(*words, **bench.env) as process:
            wait_until(lambda: len(rows(folder)) > 0, timeout_s=120)
            process.kill()
            process.wait()
        ended = rows(folder)
        assert 0 < len(ended) < TOTAL
        for name, value in bench.env.items():
            monkeypatch.setenv(name, value)
        done = Cli(capsys)(*words, "--json")
        assert done.code == 0, done.err
        found = rows(folder)
        assert found[: len(ended)] == ended
        assert len({(row["method"], row["item"]) for row in found}) == len(found) == TOTAL
        report = done.document
        assert report["simulated"]
        by_method = {row["method"]: row for row in report["rows"]}
        assert by_method["rlm"]["score"]["mean"] == 1.0
        assert by_method["base"]["root_calls"] == 0
        assert by_method["base"]["sub_calls"] == 1.0
        calls = sum(int(str(row["root_calls"])) + int(str(row["sub_calls"])) for row in found)
        assert endpoint.served.requests == calls
        assert (folder / "score-s-niah.svg").exists()
        again = Cli(capsys)(*words)
        assert again.code == 0
        assert "(simulated models)" in again.out
        assert endpoint.served.requests == calls
        compared = Cli(capsys)("bench", "quality", "compare", folder, "--json").document
        assert [row["pairs"] for row in compared["differences"]] == [ITEMS]
        refused = Cli(capsys)(*words, "--seed", "9")
        assert refused.code == 2
        assert "this run has seed 0, and not 9" in refused.err


def test_a_run_of_the_oracle_that_is_killed_goes_on_although_its_endpoint_has_another_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing configured but a Redis and a sub endpoint, which the oracle's own cluster does not use."""
    variables = {
        "RLM_HOME": str(tmp_path / "home"),
        "RLM_REDIS_URL": "redis://127.0.0.1:1/0",
        "RLM_SUB_API_URL": "http://127.0.0.1:1/v1",
        "RLM_ROOT_CONCURRENCY": "1",
    }
    folder = tmp_path / "run"
    words = ["bench", "quality", "--oracle", "--task", "needles", "--tokens", "500", "--items", str(ITEMS)]
    words += ["--method", "base", "-o", str(folder)]
    with command(*words, **variables) as process:
        wait_until(lambda: len(rows(folder)) > 0, timeout_s=120)
        process.kill()
        process.wait()
    assert len(rows(folder)) < ITEMS
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = Cli(capsys)(*words)
    assert done.code == 0, done.err
    assert [row["score"] for row in rows(folder)] == [1.0] * ITEMS
    assert done.out.count("(simulated models)") == 2
    refused = Cli(capsys)(*words, "--error-rate", "0.5")
    assert refused.code == 2
    assert "this run has error_rate 0.0, and not 0.5" in refused.err
