"""The commands if no cluster is up: on the embedded server, with their own workers or with none."""

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_dist.local.redis.server import server
from rlm_dist.simulated import Fault, SimulatedEndpoint
from rlm_dist.store import connect
from tests.support.command_line import Cli, command, next_line
from tests.support.waiting import wait_until

NOWHERE = "http://127.0.0.1:1/v1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("RLM_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RLM_API_URL", NOWHERE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def kept_server(home: Path) -> Iterator[None]:
    """Keeps the embedded server running between commands."""
    with server(home):
        yield


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("a\nb\nab\n")
    return path


@pytest.fixture
def batch_file(tmp_path: Path) -> Path:
    path = tmp_path / "batch.jsonl"
    lines = [{"id": f"q{n}", "query": "What?", "context": "text"} for n in range(3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.usefixtures("kept_server")
@pytest.mark.parametrize(
    ("words", "noted"),
    [(["delete", "b1"], False), (["results", "b1"], False), (["wait", "b1"], True), (["retry", "b1"], True)],
)
def test_missing_workers_are_noted_only_where_a_command_needs_them(
    cli: Cli, words: list[str], noted: bool
) -> None:
    done = cli(*words)
    assert done.code == 2
    assert ("no workers are running here" in done.err) == noted


def test_sums_that_do_not_add_up_are_told(cli: Cli, home: Path, batch_file: Path) -> None:
    with server(home) as url, connect(url, client_name="test") as client:
        assert cli("submit", batch_file, "--batch-id", "b1").code == 0
        job = client.zrange("rlm:jobs", 0, 0)[0]
        assert cli("cost", job, "--check").out.endswith("  checked: 0 charges add up to these sums\n")
        client.hincrby(f"rlm:job:{job}:ledger", "spent_tokens", 5)
        done = cli("cost", job, "--check")
        assert done.code == 1
        assert done.out.endswith(f"  wrong: spent_tokens of job {job} is 5, but should be 0\n")
        assert cli("cost", "b1", "--check").code == 2


def test_a_batch_is_submitted_and_retried_with_what_the_command_line_says(
    cli: Cli, home: Path, batch_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(home) as url, connect(url, client_name="test") as client:
        assert "model 'auto' is not known" in cli("submit", batch_file, "--batch-max-usd", "1").err
        (tmp_path / "prices.json").write_text('{"*": {"input": 1, "output": 1}}')
        monkeypatch.setenv("RLM_PRICES", str(tmp_path / "prices.json"))
        policy = ("--on-divergence", "fail", "--batch-max-usd", "0.5", "--batch-max-tokens", "900")
        assert cli("submit", batch_file, "--batch-id", "b1", *policy).code == 0
        assert client.hmget("rlm:batch:b1", "max_nanousd", "max_tokens") == ["500000000", "900"]
        specs = [
            json.loads(client.hget(f"rlm:job:{name}", "spec")) for name in client.zrange("rlm:jobs", 0, -1)
        ]
        assert [spec["on_divergence"] for spec in specs] == ["fail"] * 3
        assert cli("retry", "b1", "--batch-max-usd", "0.75").code == 0
        assert client.hmget("rlm:batch:b1", "max_nanousd", "max_tokens") == ["750000000", "900"]


def test_an_endpoint_that_cannot_be_reached_is_told_with_the_ways_on(cli: Cli, context: Path) -> None:
    done = cli("run", "--context", context, "--query", "x")
    assert (done.code, done.out) == (5, "")
    for words in (NOWHERE, "RLM_API_URL", "--local", "--simulated"):
        assert words in done.err


def test_a_redis_that_cannot_be_reached_is_told_without_its_password(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_REDIS_URL", "redis://:hush-hush@127.0.0.1:1/0")
    for arguments in (["status"], ["cost", "x"], ["flower", "--port", "0"]):
        done = cli(*arguments)
        assert (done.code, done.out) == (5, "")
        assert "127.0.0.1:1" in done.err
        assert "hush-hush" not in done.err
        assert "Traceback" not in done.err


def test_a_bad_setting_is_named(cli: Cli, context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_ROOT_CONCURRENCY", "none")
    done = cli("run", "--context", context, "--query", "x", "--json")
    assert done.code == 2
    assert "RLM_ROOT_CONCURRENCY" in done.document["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--context", "missing.txt", "--query", "x"], "missing.txt: no such file"),
        (["run", "--query", "x"], "--context"),
        (["run", "--context", "text.txt", "--query", " "], "--query: is empty"),
        (["submit", "missing.jsonl"], "missing.jsonl"),
        (["flower", "--address", "0.0.0.0"], "FLOWER_BASIC_AUTH"),
        (["bogus"], "bogus"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_and_bad_input_end_with_code_2_and_one_clear_line(
    cli: Cli, context: Path, arguments: list[str], words: str
) -> None:
    done = cli(*arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert "Traceback" not in done.err


def test_a_model_file_is_taken_in_only_with_its_hash(cli: Cli, tmp_path: Path, home: Path) -> None:
    weights = tmp_path / "tiny.gguf"
    weights.write_bytes(b"GGUF and so on")
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    refused = cli("model", "pull", weights)
    assert (refused.code, refused.out) == (2, "")
    assert sha256 in refused.err
    done = cli("model", "pull", weights, "--sha256", sha256, "--json")
    assert done.document == {"model": str(weights), "path": str(home / "models/tiny.gguf")}


@pytest.mark.usefixtures("kept_server")
def test_an_id_that_is_not_there_is_told(cli: Cli) -> None:
    for command_name, words in [
        ("status", "no such job or batch: nope"),
        ("cost", "no such job or batch: nope"),
        ("cancel", "no such job or batch: nope"),
        ("results", "no such batch: nope"),
        ("pause", "no such batch: nope"),
        ("retry", "no such batch: nope"),
        ("trace", "no such job: nope"),
        ("finish", "no such batch: nope"),
    ]:
        options = ["--stalled-after", "5"] if command_name == "finish" else []
        done = cli(command_name, "nope", *options)
        assert (done.code, done.out) == (2, "")
        assert words in done.err


@pytest.mark.usefixtures("kept_server")
def test_every_bad_line_of_a_batch_is_told_and_nothing_is_enqueued(cli: Cli, batch_file: Path) -> None:
    with batch_file.open("a") as file:
        file.write('{"id": "q1", "query": "again", "context": "x"}\n{"id": "q9"}\n')
    done = cli("submit", batch_file)
    assert (done.code, done.out) == (2, "")
    assert "line 4" in done.err
    assert "line 5" in done.err
    assert cli("status", "--json").document == {"batches": [], "jobs": []}


def test_a_dry_run_counts_and_needs_nothing(
    cli: Cli, home: Path, batch_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks neither Redis nor an endpoint, stores nothing, and does not show an unknown value as 0."""
    monkeypatch.setenv("RLM_REDIS_URL", "redis://127.0.0.1:1/0")
    plan = cli("submit", batch_file, "--dry-run", "--json").document
    assert (plan["jobs"], plan["contexts"], plan["context_chars"], plan["left_out"]) == (3, 1, 4, 0)
    assert (plan["reading_tokens"], plan["floor_usd"]) == (3, None)
    assert plan["floor_tokens"] > 1000
    assert (plan["readings"], plan["long_prompts"], plan["long_prompt_ids"]) == ({"native": 3}, 0, [])
    (tmp_path / "prices.json").write_text('{"*": {"input": 1, "output": 1}}')
    monkeypatch.setenv("RLM_PRICES", str(tmp_path / "prices.json"))
    done = cli("submit", batch_file, "--dry-run")
    assert f"at least  {plan['floor_tokens']:,} tokens, ${plan['floor_tokens'] / 1e6:.6f}" in done.out
    assert done.out.endswith("nothing was enqueued\n")
    assert "read as" not in done.out
    assert "warning" not in done.out
    assert not home.exists()


def test_a_dry_run_says_how_lines_are_read_and_which_prompts_are_long(
    cli: Cli, home: Path, tmp_path: Path
) -> None:
    def request(name: str, *contents: str, system: str = "Be brief.") -> dict[str, object]:
        messages = [{"role": "user", "content": content} for content in contents]
        body = {"model": "m", "messages": [{"role": "system", "content": system}, *messages]}
        return {"custom_id": name, "body": body}

    lines = [
        request("long", "text " * 10_000),
        request("turns", "text", "What?"),
        *(request(f"alone{n}", "What is 2 + 2?") for n in range(2)),
        request("document as instructions", "What?", system="text " * 10_000),
        {"id": "native", "query": "What?" * 5000, "context": "text"},
    ]
    path = tmp_path / "batch.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plan = cli("submit", path, "--dry-run", "--json").document
    assert plan["readings"] == {"native": 1, "long": 1, "turns": 1, "alone": 3}
    assert plan["long_prompts"] == 2
    assert plan["long_prompt_ids"] == ["document as instructions", "native"]
    assert cli("submit", path, "--dry-run").out.splitlines()[1:6] == [
        "read as   1 × native line",
        "          1 × long request: it is the context",
        "          1 × short request: the earlier messages are the context",
        "          3 × short request alone: it is also the context",
        "contexts  4 different, 50,023 characters",
    ]
    warning = (
        "2 root prompts of over 20,000 characters, sent with every turn: document as instructions, native\n"
    )
    assert warning in cli("submit", path, "--dry-run").out
    assert not home.exists()


@pytest.mark.usefixtures("kept_server")
def test_a_batch_waits_in_the_store_for_workers_and_can_be_paused_resumed_and_cancelled(
    cli: Cli, batch_file: Path
) -> None:
    submitted = cli("submit", batch_file, "--batch-id", "b1")
    assert submitted.out == "b1\n"
    assert "rlm-dist up" in submitted.err
    assert cli("status", "b1", "--json").document["counts"]["queued"] == 3
    assert cli("pause", "b1").out == "b1: paused\n"
    assert cli("resume", "b1").out == "b1: running\n"
    assert cli("results", "b1", "--json").document["not_ended"] == 3
    (newest, *_) = cli("status", "--json").document["jobs"]
    assert cli("cancel", newest["id"]).out == f"{newest['id']}: cancelled\n"
    assert cli("cancel", "b1", "--json").document == {"id": "b1", "state": "cancelled"}
    ended = cli("results", "b1", "--json").document
    assert [result["state"] for result in ended["results"]] == ["cancelled"] * 3
    assert [result["custom_id"] for result in ended["results"]] == ["q0", "q1", "q2"]
    assert cli("retry", "b1").out == "b1: 3 jobs\n"
    assert cli("retry", "b1", "--json").document == {
        "id": "b1",
        "state": "running",
        "retried": 0,
        "left_out": {},
    }
    assert cli("status", "b1", "--json").document["counts"]["queued"] == 3


@pytest.mark.usefixtures("kept_server")
def test_a_webhook_is_checked_and_one_that_may_go_out_unsigned_is_told(
    cli: Cli, batch_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = cli("submit", batch_file, "--webhook", "https://me:hush@example.org/")
    assert (refused.code, "webhook: must not contain a user or password" in refused.err) == (2, True)
    assert "hush" not in refused.err
    address = ["--webhook", "http://127.0.0.1:1/"]
    assert "RLM_WEBHOOK_SECRET is not set here" in cli("submit", batch_file, "--batch-id", "b1", *address).err
    assert "webhook  waiting" in cli("status", "b1").out
    monkeypatch.setenv("RLM_WEBHOOK_SECRET", "whsec_dGhpcyBzZWNyZXQgaXMgb3Vycw==")
    assert "RLM_WEBHOOK_SECRET" not in cli("submit", batch_file, "--batch-id", "b2", *address).err


def test_the_doctor_tells_what_is_down_and_what_is_not(cli: Cli) -> None:
    done = cli("doctor", "--json")
    statuses = {check["name"]: check["status"] for check in done.document["checks"]}
    assert done.code == 5
    assert (statuses["redis"], statuses["blob store"], statuses["model endpoint"]) == ("ok", "ok", "failed")


def test_run_starts_its_own_workers_and_ctrl_c_cancels_the_job(home: Path, context: Path) -> None:
    query = "How many lines contain 'a'?"
    with SimulatedEndpoint(faults=[Fault(kind="hang")]) as endpoint:
        variables = {"RLM_HOME": str(home), "RLM_API_URL": endpoint.url}
        with command("run", "--context", context, "--query", query, "--json", **variables) as process:
            wait_until(lambda: endpoint.served.in_flight == 1, timeout_s=90)
            process.send_signal(signal.SIGINT)
            result = json.loads(next_line(process))
            assert process.wait(60) == 4
    assert result["state"] == "cancelled"
    assert not (home / "redis/server.json").exists()


def test_ctrl_c_ends_the_demonstration_not_one_question(home: Path) -> None:
    with command("demo", "--simulated", RLM_HOME=str(home)) as process:
        assert process.stderr is not None
        assert any("waiting for a worker" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert "question:" not in process.stderr.read()
        assert process.wait(60) == 4
    assert not (home / "redis/server.json").exists()


def test_the_demonstration_keeps_the_code_on_the_screen_and_its_jobs_can_be_looked_at(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with command("demo", "--simulated", RLM_HOME=str(home)) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert out.endswith("3 of 3 right\n")
    assert "    > result = sum(word in line for line in lines)\n" in err
    assert "sub-call answered in" in err
    (shown,) = [line for line in err.splitlines() if "look at a job again" in line]
    setting, _, name, job = shown.partition(": ")[2].split()
    assert setting == f"RLM_HOME={home}/demo"
    monkeypatch.setenv("RLM_HOME", f"{home}/demo")
    traced = cli(name, job)
    assert traced.code == 0
    assert "llm_query_batched(prompts)" in traced.out
