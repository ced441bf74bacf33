"""``list``, tags, and ``cost --by tag``."""

import json
from pathlib import Path

import pytest

from rlm_dist.schema import JobState, Outcome, Role
from rlm_dist.store import Store, connect
from tests.support.command_line import Cli
from tests.support.played_jobs import answered, pay, play


@pytest.fixture
def cli(
    redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Cli:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    monkeypatch.setenv("RLM_HOME", str(tmp_path / "home"))
    return Cli(capsys)


@pytest.fixture
def batch_file(tmp_path: Path) -> Path:
    path = tmp_path / "batch.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"q{n}", "query": "?", "context": "t"}) + "\n" for n in range(3))
    )
    return path


def test_batches_and_jobs_are_listed_and_paged(cli: Cli, batch_file: Path) -> None:
    assert cli("list", "--json").document == {"rows": [], "next": None}
    for name in ("b1", "b2", "b3"):
        assert cli("submit", batch_file, "--batch-id", name, "--tag", f"team={name}").code == 0
    cli("cancel", "b2")
    first = cli("list", "--limit", "2", "--json").document
    assert [row["id"] for row in first["rows"]] == ["b3", "b2"]
    second = cli("list", "batches", "--limit", "2", "--after", first["next"], "--json").document
    assert ([row["id"] for row in second["rows"]], second["next"]) == (["b1"], None)
    assert [row["id"] for row in cli("list", "--state", "cancelled", "--json").document["rows"]] == ["b2"]
    tagged = cli("list", "--tag", "team=b1")
    assert tagged.out.splitlines()[1].split() == ["b1", "running", "3", "0", "$0.000000", "team=b1"]
    assert len(cli("list", "jobs", "--json").document["rows"]) == 9
    page = cli("list", "jobs", "--state", "cancelled", "--limit", "2")
    assert len(page.out.splitlines()) == 3
    assert "--after " in page.err
    of_tag = cli("list", "jobs", "--tag", "team=b3", "--json").document["rows"]
    assert {row["batch_id"] for row in of_tag} == {"b3"}


def test_the_jobs_of_a_batch_are_sorted_and_filtered(cli: Cli, batch_file: Path, redis_url: str) -> None:
    cli("submit", batch_file, "--batch-id", "b")
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        ids = store.batches.job_ids("b", 0, 9)
        for job_id, nanousd in zip(ids, (5, 9), strict=False):
            pay(store, job_id, Role.SUB, nanousd)
        play(store, ids[0], answered("x"))
        play(store, ids[1], Outcome(state=JobState.FAILED))
    by_cost = cli("list", "--batch", "b", "--sort", "cost", "--descending", "--json").document["rows"]
    assert [row["custom_id"] for row in by_cost] == ["q1", "q0"]
    lines = cli("list", "jobs", "--batch", "b").out.splitlines()
    assert [line.split()[1] for line in lines] == ["NAME", "q0", "q1", "q2"]
    assert cli("list", "--batch", "b", "--reason", "nothing", "--json").document["rows"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--state", "exhausted"], "--state: must be one of running, paused, completed, cancelled"),
        (["jobs", "--state", "gone"], "--state: must be one of queued, running"),
        (["--after", "nonsense"], "cursor: is not one that an earlier page gave"),
        (["--sort", "cost"], "--batch"),
        (["batches", "--batch", "b"], "--batch lists the jobs of one batch"),
        (["--batch", "nope"], "no such batch: nope"),
        (["--tag", "x"], "--tag: must be NAME=VALUE"),
        (["things"], "things"),
    ],
)
def test_what_cannot_be_listed_is_said(cli: Cli, arguments: list[str], words: str) -> None:
    done = cli("list", *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_a_job_in_place_of_a_batch_is_named(cli: Cli, batch_file: Path) -> None:
    cli("submit", batch_file, "--batch-id", "b")
    (job, *_) = cli("list", "jobs", "--json").document["rows"]
    assert f"{job['id']} is a job of batch b, not a batch" in cli("list", "--batch", job["id"]).err


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        (["a=1", "a=2"], "'a' is given twice"),
        ([f"t{n}=x" for n in range(17)], "tags: must be at most 16"),
        (["a="], "the value of a must be text of 1 to 200"),
        ([f"a={'x' * 201}"], "the value of a must be text of 1 to 200"),
        (["a=\x1b[2J"], "printable"),
        ([f"{'n' * 65}=x"], "a name must be up to 64"),
        (["=x"], "a name must be up to 64"),
    ],
)
def test_bad_tags_are_refused_before_anything_is_enqueued(
    cli: Cli, batch_file: Path, tags: list[str], words: str
) -> None:
    done = cli("submit", batch_file, *(word for tag in tags for word in ("--tag", tag)))
    assert (done.code, words in done.err) == (2, True)
    assert cli("list", "--json").document["rows"] == []


def test_tags_are_shown_and_costs_are_split_by_them(cli: Cli, batch_file: Path, redis_url: str) -> None:
    cli("submit", batch_file, "--batch-id", "b1", "--tag", "team=a", "--tag", "run=1")
    cli("submit", batch_file, "--batch-id", "b2", "--tag", "team=b")
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        pay(store, store.batches.job_ids("b1", 0, 1)[0], Role.ROOT, 3_000_000)
        pay(store, store.batches.job_ids("b2", 0, 1)[0], Role.ROOT, None)
    assert "  tags     run=1, team=a\n" in cli("status", "b1").out
    rows = cli("cost", "--by", "tag:team", "--json").document["rows"]
    assert [(row["value"], row["costs"]["total_cost"]) for row in rows] == [("a", 0.003), ("b", None)]
    lines = cli("cost", "--by", "tag").out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["run", "1"],
        ["run", "(none)"],
        ["team", "a"],
        ["team", "b"],
    ]
    assert lines[1].split()[2:] == ["1", "0", "1", "110", "$0.003000"]
    assert lines[2].split()[-1] == "unknown"


@pytest.mark.parametrize("arguments", [[], ["--by", "model"], ["--by", "tag:"], ["b", "--by", "tag"]])
def test_cost_takes_an_id_or_a_tag(cli: Cli, arguments: list[str]) -> None:
    done = cli("cost", *arguments)
    assert (done.code, done.out) == (2, "")
