"""``trace --html`` over a real Redis: one file a job, a folder a batch, private and whole."""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.operations.viewer.trace_page import JOB_COLUMNS
from rlm_dist.schema import CallRequest, CallResult, Completion, JobState, Message, Outcome, Role, Usage
from rlm_dist.schema.events import Event
from rlm_dist.store import OpenCall, Settlement, Spend, Store, connect
from rlm_dist.store.trace import TraceSink
from tests.support.command_line import Cli
from tests.support.store_values import LEASE_MS, finish_job, running_job
from tests.support.trajectories import answered, call_ids, ran, replied, say, started

COUNT = 450
SECRET = "SECRET"
LONG = f"{SECRET} {'x' * 70_000}"  # goes to the blob store


class Played:
    """Jobs that this test played the workers of."""

    def __init__(self, client: redis.Redis, home: Path) -> None:
        self.store = Store(client, retention_s=1000)
        blobs = open_blobs("redis", home=home, client=client, retention_s=1000)
        self.payloads = Payloads(store=self.store, blobs=blobs)

    def play(self, job_id: str, calls: int, *, batch_id: str | None = None, index: int = 0) -> None:
        """Run a job of one turn to its end."""
        epoch = running_job(self.store, job_id, batch_id=batch_id, index=index, max_sub_calls=1000)
        ids = call_ids(calls)
        now_ms = self.store.connection.now_ms
        emit = TraceSink(self.store.journals, job_id, self.payloads, now_ms=now_ms)
        before: list[Event] = [started(), say(0, "user", SECRET), replied(0), say(0, "assistant", SECRET)]
        for event in before:
            emit(event)
        self._answer(job_id, epoch, ids)
        emit(answered(ids))
        emit(ran(0, calls=calls, text=f"\n# {SECRET}"))
        emit.flush()
        done = Outcome(state=JobState.SUCCEEDED, answer=f"{SECRET} answer", iterations=1)
        assert finish_job(self.store, job_id, epoch, done)

    def _answer(self, job_id: str, epoch: int, ids: list[str]) -> None:
        for number, call_id in enumerate(ids):
            content = LONG if number == 0 else f"{SECRET} prompt {number}"
            message = Message(role="user", content=content)
            request = CallRequest(role=Role.SUB, model="m", messages=(message,)).model_dump_json()
            packed = self.payloads.pack(job_id, request)
            self.store.calls.open(job_id, epoch, [OpenCall(call_id, packed, 1, 1)])
        self.store.calls.claim(job_id, ids, "sub@here:1", LEASE_MS)
        usage = Usage(input_tokens=5, output_tokens=2)
        done = Completion(text=f"{SECRET} reply", usage=usage, finish_reason="stop", model="m")
        result = CallResult(completion=done, started_ms=self.store.connection.now_ms()).model_dump_json()
        spend = Spend("m", usage, 2000)
        self.store.calls.settle(
            job_id, "sub@here:1", [Settlement(call_id, Role.SUB, result, spend) for call_id in ids]
        )


@pytest.fixture
def played(redis_url: str, tmp_path: Path) -> Iterator[Played]:
    with connect(redis_url, client_name="test") as client:
        yield Played(client, tmp_path)


@pytest.fixture
def cli(redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    monkeypatch.setenv("RLM_BLOB_URL", "redis")
    return Cli(capsys)


def rows(html: str, kind: str = "rlm-rows") -> list[list[object]]:
    chunks = re.findall(rf'<script type="application/json" class="{kind}">(.*?)</script>', html, re.DOTALL)
    return [row for chunk in chunks for row in json.loads(chunk)]


def test_a_jobs_page_has_all_its_calls_and_is_private(played: Played, cli: Cli, tmp_path: Path) -> None:
    played.play("j", COUNT)
    file = tmp_path / "out.html"
    file.write_text("old")
    file.chmod(0o644)
    done = cli("trace", "j", "--html", file, "--json")
    assert done.document == {"id": "j", "path": str(file), "jobs": 1}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob("*out.html*")] == ["out.html"]
    html = file.read_text()
    assert {row[2] for row in rows(html)} == set(call_ids(COUNT))
    assert {row[0] for row in rows(html)} == {0}  # all of them in the one block
    prompts = {text[0] for text in rows(html, "rlm-texts")}
    assert {LONG, f"{SECRET} prompt {COUNT - 1}"} <= prompts
    assert "$0.0009" in html  # 450 calls of two millionths of a dollar each


def test_a_page_without_content_has_none(played: Played, cli: Cli, tmp_path: Path) -> None:
    played.play("j", 3)
    assert cli("trace", "j", "--html", tmp_path / "out.html", "--no-content").code == 0
    html = (tmp_path / "out.html").read_text()
    assert SECRET not in html
    assert len(rows(html)) == 3


def test_a_batch_becomes_a_folder_with_an_index(played: Played, cli: Cli, tmp_path: Path) -> None:
    played.store.batches.create("b", "digest", 2)
    played.play("j-0", 2, batch_id="b", index=0)
    played.play("j/1", 1, batch_id="b", index=1)
    folder = tmp_path / "pages"
    assert cli("trace", "b", "--html", folder).out == f"2 pages written to {folder}\n"
    listed = [dict(zip(JOB_COLUMNS, row, strict=True)) for row in rows((folder / "index.html").read_text())]
    assert [(row["id"], row["calls"], row["note"]) for row in listed] == [
        ("j-0", 2, f"{SECRET} answer"),
        ("j/1", 1, f"{SECRET} answer"),
    ]
    files = {str(row["file"]) for row in listed}
    assert {path.name for path in folder.iterdir()} == files | {"index.html"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    for file in files:
        assert 'href="index.html"' in (folder / file).read_text()
    assert cli("trace", "b", "--html", folder, "--no-content").code == 0
    assert not any(SECRET in path.read_text() for path in folder.iterdir())


def test_what_cannot_be_written_is_said_and_leaves_nothing(played: Played, cli: Cli, tmp_path: Path) -> None:
    played.play("j", 1)
    missing = cli("trace", "j", "--html", tmp_path / "no" / "such" / "file.html")
    assert (missing.code, missing.out) == (2, "")
    assert "cannot be written: No such file or directory" in missing.err
    folder = cli("trace", "j", "--html", tmp_path)
    assert (folder.code, folder.out) == (2, "")
    assert not [path for path in tmp_path.parent.iterdir() if path.name.startswith(f".{tmp_path.name}.")]
    nobody = cli("trace", "nope", "--html", tmp_path / "x.html")
    assert (nobody.code, nobody.err) == (2, "error: no such job or batch: nope\n")
    assert not (tmp_path / "x.html").exists()
    assert cli("trace", "j", "--no-content").code == 2


def test_the_json_of_a_trace_has_no_packed_ids(played: Played, cli: Cli) -> None:
    played.play("j", 2)
    (event,) = [
        event
        for event in cli("trace", "j", "--json").document["events"]
        if event["event"] == "sub_calls_answered"
    ]
    assert event["calls"] == 2
    assert "call_ids" not in event
