"""What people try first with any command: help, version, completion, several files, waiting."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rlm_dist import Client, Settings
from rlm_dist.schema import ErrorInfo, JobState, Outcome, Role
from tests.support.command_line import Cli, command, next_line
from tests.support.environment import clean_environment
from tests.support.played_jobs import answered, pay, play

FAILED = Outcome(state=JobState.FAILED, error=ErrorInfo(type="auth", message="m"))
EXHAUSTED = Outcome(state=JobState.EXHAUSTED, error=ErrorInfo(type="LimitExceeded", message="m"))


@pytest.fixture
def cli(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    monkeypatch.setenv("RLM_HOME", str(tmp_path / "home"))
    return Cli(capsys)


@pytest.fixture
def client(redis_url: str, tmp_path: Path) -> Client:
    return Client(Settings(redis_url=redis_url, home=tmp_path / "home"))


def test_help_has_a_short_name_everywhere(cli: Cli) -> None:
    assert cli("-h") == cli("--help")
    assert cli("status", "-h") == cli("status", "--help")
    assert cli("bench", "rate", "-h") == cli("bench", "rate", "--help")
    assert "Show one job or batch" in cli("status", "-h").out


def test_the_version_is_shown(cli: Cli) -> None:
    done = cli("--version")
    assert (done.code, done.out) == (0, "rlm-dist 0.1.0\n")


@pytest.mark.parametrize(
    ("line", "word"), [("rlm-dist can", "cancel"), ("rlm-dist results --fol", "--follow")]
)
def test_a_shell_completes_commands_and_options(line: str, word: str) -> None:
    words = {
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
        "_RLM_DIST_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [sys.executable, "-m", "rlm_dist"],
        env={**clean_environment(), **words},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert word in done.stdout.split()


def test_results_and_errors_do_not_overwrite_each_other(cli: Cli, tmp_path: Path) -> None:
    done = cli("results", "b", "-o", tmp_path / "a", "--errors", tmp_path / "x/../a")
    assert (done.code, list(tmp_path.glob("a"))) == (2, [])
    assert "--output and --errors name the same file" in done.err


def test_an_empty_list_says_so(cli: Cli) -> None:
    assert cli("list").out == "no batches\n"
    assert cli("list", "jobs", "--state", "failed").out == "no jobs\n"


def test_run_takes_several_files_after_one_option(cli: Cli, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    (tmp_path / "notes").mkdir()
    done = cli("run", "--context", tmp_path / "a", tmp_path / "notes", tmp_path / "b", "--query", "q")
    assert done.code == 2
    assert "notes" in done.err  # it is empty, so that the job is not run; it was understood as a context


def test_run_names_the_binary_files_of_a_folder_that_it_leaves_out(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    for n in range(12):
        (tmp_path / f"notes/{n:02}.png").write_bytes(b"\x89PNG")
    done = cli("run", "--context", tmp_path / "notes", "--query", "q")
    assert done.code == 2
    assert f"left out: {tmp_path}/notes/00.png: is not text in UTF-8\n" in done.err
    assert "left out: 2 more such files\n" in done.err
    assert done.err.endswith("notes: holds no text files\n")


def test_a_worker_hands_options_on_to_celery(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[list[str]] = []

    def execve(program: str, argv: list[str], environment: object) -> None:
        started.append(argv)
        raise SystemExit(0)

    monkeypatch.setattr("os.execve", execve)
    monkeypatch.chdir(tmp_path)
    cli("worker", "root", "--concurrency", "2", "--", "--max-tasks-per-child", "5")
    assert started[0][-2:] == ["--max-tasks-per-child", "5"]


@pytest.mark.parametrize(
    ("outcomes", "code", "state"),
    [
        ([answered("x"), answered("y")], 0, "completed"),
        ([answered("x"), FAILED], 1, "completed"),
        ([EXHAUSTED, answered("x")], 3, "completed"),
    ],
)
def test_waiting_ends_with_the_batch_and_its_exit_code(
    cli: Cli, client: Client, outcomes: list[Outcome], code: int, state: str
) -> None:
    items = [{"id": f"q{n}", "query": "q", "context": "c"} for n in range(len(outcomes))]
    batch = client.submit_batch(items)
    jobs = batch.jobs()

    def end() -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            play(client.store, job.id, outcome)

    thread = threading.Thread(target=end)
    thread.start()
    done = cli("wait", batch.id, "--json")
    thread.join()
    assert (done.code, done.document["state"]) == (code, state)
    one = cli("wait", jobs[0].id)
    assert (one.code, one.out) == ({0: 0, 1: 0, 3: 3}[code], f"{jobs[0].id}: {outcomes[0].state}\n")


def test_waiting_gives_up_after_its_time_and_says_so(cli: Cli, client: Client) -> None:
    job = client.submit("c", "q")
    done = cli("wait", job.id, "--timeout", "0")
    assert done.code == 1
    assert f"job {job.id} is still queued after 0 s" in done.err
    assert cli("cancel", job.id).code == 0
    assert cli("wait", job.id).code == 4


def test_the_simulated_endpoint_is_a_command(cli: Cli) -> None:
    with command("simulate") as process:
        assert "http://127.0.0.1:" in next_line(process)
    done = cli("simulate", "--faults", '[{"kind": "nonsense"}]')
    assert done.code == 2
    assert "--faults" in done.err


def test_a_batch_is_deleted_with_its_contexts(cli: Cli, client: Client) -> None:
    items = [{"id": f"q{n}", "query": "q", "context": f"a context, number {n}"} for n in range(2)]
    batch = client.submit_batch(items, "b")
    specs = [job.record().spec for job in batch.jobs()]
    refused = cli("delete", "b", "--yes")
    assert (refused.code, refused.err) == (2, "error: batch b is running: cancel it first\n")
    cli("cancel", "b")
    assert "--yes" in cli("delete", "b").err
    done = cli("delete", "b", "--yes", "--json")
    assert (done.code, done.document) == (0, {"id": "b", "deleted": "batch", "blobs": 2})
    assert not any(client.blobs.has(spec.context.sha256) for spec in specs)
    assert cli("status", "b").code == 2


def test_the_costs_of_a_batch_are_drawn(cli: Cli, client: Client, tmp_path: Path) -> None:
    batch = client.submit_batch([{"id": "q", "query": "q", "context": "c"}], "b")
    (job,) = batch.jobs()
    pay(client.store, job.id, Role.SUB, 7)
    play(client.store, job.id, answered("x"))
    assert cli("cost", "b", "--plot", tmp_path / "b.svg").code == 0
    assert b"sub model" in (tmp_path / "b.svg").read_bytes()
    refused = cli("cost", "--by", "tag", "--plot", tmp_path / "c.svg")
    assert (refused.code, "--plot" in refused.err) == (2, True)
