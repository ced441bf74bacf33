"""The commands against a whole cluster run by ``rlm-dist up``, with the simulated endpoint behind it."""

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlm_dist.simulated import SimulatedEndpoint
from tests.support.command_line import Cli, command, next_line
from tests.support.scripts import alive
from tests.support.waiting import wait_until

NEEDLE = "What is the magic number for blue-cat?"
TEXT = "alpha\nThe magic number for blue-cat is 4711.\nbeta\n"


class Up(NamedTuple):
    """A running ``rlm-dist up`` and what it printed about itself."""

    home: Path
    record: dict[str, Any]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = tmp_path_factory.mktemp("home")
    with SimulatedEndpoint() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("RLM_", "OPENAI_"))]:
            patch.delenv(name)
        variables = {"RLM_HOME": str(home), "RLM_API_URL": endpoint.url, "RLM_ROOT_CONCURRENCY": "2"}
        with command("up", "--port", "0", "--json", **variables) as process:
            record = json.loads(next_line(process))
            # Without the endpoint: the cluster has its own, and commands must not need another.
            patch.setenv("RLM_HOME", str(home))
            patch.setenv("RLM_API_URL", "http://127.0.0.1:1/v1")
            yield Up(home, record)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        wait_until(lambda: not any(alive(pid) for pid in record["processes"].values()))
        assert not (home / "redis/server.json").exists()


def test_up_says_where_redis_the_logs_and_the_endpoint_are(up: Up) -> None:
    assert up.record["redis"].startswith("redis://127.0.0.1:")
    assert "@" not in up.record["redis"]
    assert (Path(up.record["logs"]) / "root1.log").exists()
    assert up.record["endpoint"].startswith("http://127.0.0.1:")
    assert up.record["models"] == {"root": "auto", "sub": "auto"}


def test_up_warns_if_the_endpoint_does_not_answer(tmp_path: Path) -> None:
    variables = {"RLM_HOME": str(tmp_path / "home"), "RLM_API_URL": "http://127.0.0.1:1/v1"}
    with command("up", "--port", "0", **variables) as process:
        assert process.stderr is not None
        assert any("warning: jobs cannot run yet" in line for line in process.stderr)


@pytest.fixture
def cli(up: Up, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def batch_file(tmp_path: Path) -> Path:
    request = "a\nb\n" * 2000 + "How many lines contain 'b'?"
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": request}]
    lines = [
        {"id": "needle", "query": NEEDLE, "context": TEXT},
        {"id": "short", "query": NEEDLE, "context": TEXT, "max_iterations": 1},
        {
            "custom_id": "chat",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "auto", "messages": chat},
        },
    ]
    path = tmp_path / "batch.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_run_prints_the_answer_alone_on_stdout_and_progress_on_stderr(cli: Cli, context: Path) -> None:
    done = cli("run", "--context", context, "--query", NEEDLE)
    assert (done.code, done.out) == (0, "4711\n")
    assert "1 sub-call done" in done.err
    assert done.err.splitlines()[-1].startswith("succeeded: 3 turns, 1 sub-call, root ")


def test_run_json_is_one_document_in_the_shape_of_results(cli: Cli, context: Path) -> None:
    done = cli("run", "--context", context, "--query", NEEDLE, "--json", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert list(done.document) == [
        "id",
        "custom_id",
        "batch_id",
        "state",
        "answer",
        "answer_json",
        "partial_answer",
        "error",
        "iterations",
        "limits_reached",
        "isolation",
        "costs",
        "timing",
    ]
    assert done.document["isolation"] in ("namespaces", "landlock", "seccomp")
    assert done.document["answer"] == "4711"
    assert done.document["costs"]["sub_llm_calls"] == 1


def test_run_takes_several_files_and_a_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.txt").write_text("one\n")
    (tmp_path / "docs/b.txt").write_text("one\ntwo\n")
    query = "How many lines contain 'one'?"
    folder = cli("run", "--context", tmp_path / "docs", "--query", query)
    files = cli(
        "run", "--context", tmp_path / "docs/a.txt", "--context", tmp_path / "docs/b.txt", "--query", query
    )
    assert (folder.out, files.out) == ("2\n", "2\n")


def test_a_limit_ends_run_with_code_3(cli: Cli, context: Path) -> None:
    done = cli("run", "--context", context, "--query", NEEDLE, "--max-iterations", "1", "--json")
    assert done.code == 3
    assert done.document["state"] == "exhausted"


def test_a_batch_goes_in_and_its_results_come_out(cli: Cli, batch_file: Path, tmp_path: Path) -> None:
    submitted = cli("submit", batch_file, "--batch-id", "b1")
    assert (submitted.code, submitted.out) == (0, "b1\n")
    followed = [json.loads(line) for line in cli("results", "b1", "--follow").out.splitlines()]
    assert {line["custom_id"] for line in followed} == {"needle", "short", "chat"}

    done = cli("results", "b1", "-o", tmp_path / "out.jsonl", "--errors", tmp_path / "errors.jsonl", "--json")
    assert done.document == {"batch_id": "b1", "ended": 3, "without_answer": 1, "not_ended": 0}
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    (lost,) = (json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines())
    assert (first["custom_id"], first["answer"]) == ("needle", "4711")
    assert second["response"]["body"]["choices"][0]["message"]["content"] == "2001"
    assert (lost["custom_id"], lost["state"]) == ("short", "exhausted")

    status = cli("status", "b1", "--watch", "--json").document
    assert (status["state"], status["counts"]["succeeded"], status["counts"]["exhausted"]) == (
        "completed",
        2,
        1,
    )
    cost = cli("cost", "b1", "--json").document
    assert {line["role"] for line in cost["models"]} == {"root", "sub"}
    assert cost["costs"]["total_cost"] is None
    assert "price unknown" in cli("cost", "b1").out
    checked = cli("cost", "b1", "--check", "--json")
    charges = cost["costs"]["root_llm_calls"] + cost["costs"]["sub_llm_calls"]
    assert (checked.code, checked.document["check"]) == (0, {"charges": charges, "differences": []})


def test_a_pilot_runs_first_and_is_not_run_again(cli: Cli, batch_file: Path) -> None:
    """Without a terminal the submission stops after the pilot and says how to continue."""
    stopped = cli("submit", batch_file, "--batch-id", "p1", "--pilot", "2")
    assert (stopped.code, stopped.out) == (2, "")
    assert "the other 1 jobs were not submitted" in stopped.err
    assert f"rlm-dist submit {batch_file} --batch-id p1" in stopped.err
    assert "--pilot" not in stopped.err.splitlines()[-1]
    status = cli("status", "p1", "--json").document
    assert (status["total"], sum(status["counts"].values()), status["sealed"]) == (3, 2, False)
    spent = status["costs"]

    done = cli("submit", batch_file, "--batch-id", "p1", "--pilot", "2", "--yes", "--json").document
    assert (done["batch_id"], done["jobs"]) == ("p1", 3)
    assert done["pilot"]["states"] == {state: count for state, count in status["counts"].items() if count}
    assert done["pilot"]["whole_tokens"]["likely"] > sum(
        spent[f"{role}_llm_tokens"] for role in ("root", "sub")
    )
    results = [json.loads(line) for line in cli("results", "p1", "--follow").out.splitlines()]
    assert sorted(result["custom_id"] for result in results) == ["chat", "needle", "short"]
    for job_id in (result["id"] for result in results if "costs" in result):
        assert cli("status", job_id, "--json").document["times_started"] == 1


def test_a_batch_id_attaches_with_the_same_file_and_refuses_another(cli: Cli, batch_file: Path) -> None:
    assert cli("submit", batch_file, "--batch-id", "b2").code == 0
    assert cli("submit", batch_file, "--batch-id", "b2", "--json").document["batch_id"] == "b2"
    batch_file.write_text(batch_file.read_text().replace("blue-cat", "red-cat"))
    refused = cli("submit", batch_file, "--batch-id", "b2")
    assert (refused.code, refused.out) == (2, "")


def test_trace_tells_code_output_sub_calls_and_costs(cli: Cli, context: Path) -> None:
    job = cli("run", "--context", context, "--query", NEEDLE, "--json").document["id"]
    text = cli("trace", job).out
    for words in (
        f"job {job} on root@",
        "── turn 1",
        "1 sub-call answered",
        "succeeded after 3 turns",
        "  4711",
    ):
        assert words in text
    document = cli("trace", job, "--json").document
    kinds = [event["event"] for event in document["events"]]
    assert (kinds[0], kinds[-1]) == ("job_started", "job_ended")
    assert {"message_added", "root_replied", "cell_ran", "sub_calls_answered"} <= set(kinds)
    assert document["query"] == NEEDLE


def test_a_tier_is_asked_for_counted_and_shown(cli: Cli, context: Path) -> None:
    asked = ("--tier", "flex", "--sub-tier", "priority")
    result = cli("run", "--context", context, "--query", NEEDLE, *asked, "--json").document
    assert result["costs"]["tiers"] == {"flex": None, "priority": None}  # the simulated models have no price
    cost = cli("cost", result["id"], "--check").out
    assert "root simulated-root (flex): " in cost
    assert "sub simulated-root (priority): 1 call, " in cost
    lines = cli("cost", result["id"], "--json").document["models"]
    assert [(line["role"], line["tier"]) for line in lines] == [("root", "flex"), ("sub", "priority")]
    trace = cli("trace", result["id"]).out
    assert " out (flex), " in trace
    assert "1 by the tier priority" in trace


def test_flower_shows_ids_and_no_text_of_the_user(cli: Cli, up: Up, tmp_path: Path) -> None:
    answer = "918273645546372819"  # as long as this, so that it is not a part of a time or an id by chance
    context = tmp_path / "text.txt"
    context.write_text(f"The magic number for blue-cat is {answer}.\n")
    document = cli("run", "--context", context, "--query", NEEDLE, "--json").document
    assert document["answer"] == answer
    job = document["id"]

    def shown() -> str:
        address = f"{up.record['flower']}/tasks/datatable?draw=1&start=0&length=100&search%5Bvalue%5D="
        order = "&order%5B0%5D%5Bcolumn%5D=0&order%5B0%5D%5Bdir%5D=asc&columns%5B0%5D%5Bdata%5D=name"
        with urllib.request.urlopen(address + order) as page:
            text: str = page.read().decode()
        return text if f"job={job} turn=" in text and f"job={job}" in text else ""

    text = wait_until(shown)
    assert "rlm.root" in text
    assert "rlm.sub" in text
    assert "blue-cat" not in text
    assert answer not in text


def test_flower_is_read_only(up: Up) -> None:
    request = urllib.request.Request(f"{up.record['flower']}/api/worker/shutdown/any", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    refused.value.close()
    assert refused.value.code in (401, 403)


def test_a_second_cluster_for_the_same_home_is_refused(cli: Cli) -> None:
    done = cli("up", "--port", "0")
    assert done.code == 2
    assert "a cluster is already up" in done.err


def test_a_local_model_is_refused_beside_workers_with_their_own(cli: Cli, context: Path) -> None:
    done = cli("run", "--context", context, "--query", "x", "--local")
    assert done.code == 2
    assert "--local" in done.err


def test_a_worker_that_is_killed_is_started_again(cli: Cli, up: Up, context: Path) -> None:
    os.kill(up.record["processes"]["sub1"], signal.SIGKILL)
    done = cli("run", "--context", context, "--query", "What is the magic number for blue-cat ?")
    assert (done.code, done.out) == (0, "4711\n")
