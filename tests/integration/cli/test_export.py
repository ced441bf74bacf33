"""``rlm-dist export`` over a real Redis: which jobs it writes, in which form, and what becomes of others."""

import json
import os
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.blobs.store import open_blobs
from rlm_dist.operations.training_lines import ExportCounts, Selection, TrainingForm, training_lines
from rlm_dist.schema import (
    CallFailure,
    CallRequest,
    CallResult,
    Completion,
    ErrorInfo,
    JobState,
    Message,
    Outcome,
    Role,
    Usage,
)
from rlm_dist.schema.events import Event
from rlm_dist.schema.trajectories import JobTrajectory
from rlm_dist.store import OpenCall, Settlement, Spend, Store, connect
from rlm_dist.store.trace import TraceSink
from tests.support.command_line import Cli, Done
from tests.support.store_values import LEASE_MS, finish_job, running_job, spec, start_job
from tests.support.trajectories import answered, call_ids, ran, replied, say, started
from tests.unit.bench.quality_runs.run_values import row

LOOK = "I look.\n\n```repl\nprint(len(context))\n```"
HAND_IN = "```repl\nFINAL('nine')\n```"
SYSTEM, QUERY = "You have a REPL. \u2028 \x1b[31m", "How long is it? שלום"
USAGE = Usage(input_tokens=5, output_tokens=2)
FAILED = Outcome(
    state=JobState.FAILED, error=ErrorInfo(type="auth", message="no"), partial_answer="half", iterations=1
)
SUCCEEDED = Outcome(state=JobState.SUCCEEDED, answer="nine", iterations=2)


class Played:
    """A batch whose jobs this test played the workers of."""

    def __init__(self, client: redis.Redis, home: Path) -> None:
        self.client = client
        self.store = Store(client, retention_s=1000)
        blobs = open_blobs("redis", home=home, client=client, retention_s=1000)
        self.payloads = Payloads(store=self.store, blobs=blobs)
        self._jobs = 0

    def play(
        self, job_id: str, outcome: Outcome = SUCCEEDED, *, nanousd: int | None = 2000, text: str = ""
    ) -> None:
        """Run a job of two turns and two sub-calls, of which the second fails, to its end."""
        epoch = running_job(self.store, job_id, batch_id="b", index=self._jobs, max_sub_calls=1000)
        self._jobs += 1
        ids = call_ids(2)
        self.answer(job_id, epoch, ids, nanousd)
        hand_in: list[Event] = [replied(1), say(1, "assistant", HAND_IN)]
        self.emit(
            job_id, started(), say(0, "system", SYSTEM + text), say(0, "user", QUERY),
            replied(0), say(0, "assistant", LOOK), answered(ids),
            ran(0, calls=2, error=None if outcome is SUCCEEDED else "Traceback"), say(0, "user", "Output: 9"),
            *(hand_in if outcome is SUCCEEDED else []),
        )  # fmt: skip
        assert finish_job(self.store, job_id, epoch, outcome)

    def emit(self, job_id: str, *events: Event) -> None:
        """Store events of a job."""
        sink = TraceSink(self.store.journals, job_id, self.payloads, now_ms=self.store.connection.now_ms)
        for event in events:
            sink(event)
        sink.flush()

    def answer(self, job_id: str, epoch: int, ids: list[str], nanousd: int | None) -> None:
        """Answer the first of two sub-calls, and fail the second."""
        message = Message(role="user", content="Is it long?")
        request = CallRequest(role=Role.SUB, model="m", messages=(message,)).model_dump_json()
        self.store.calls.open(job_id, epoch, [OpenCall(call_id, request, 1, 1) for call_id in ids])
        self.store.calls.claim(job_id, ids, "sub@here:1", LEASE_MS)
        done = Completion(text="yes", usage=USAGE, finish_reason="stop", model="m")
        failure = CallFailure(kind="timeout", message="no answer")
        results = [CallResult(completion=done), CallResult(failure=failure)]
        spends = [Spend("m", USAGE, nanousd), None]
        self.store.calls.settle(
            job_id, "sub@here:1",
            [
                Settlement(call_id, Role.SUB, result.model_dump_json(), spend)
                for call_id, result, spend in zip(ids, results, spends, strict=True)
            ],
        )  # fmt: skip


@pytest.fixture
def played(redis_url: str, tmp_path: Path) -> Iterator[Played]:
    with connect(redis_url, client_name="test") as client:
        batch = Played(client, tmp_path)
        batch.store.batches.create("b", "digest", 9)
        yield batch


@pytest.fixture
def cli(redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    monkeypatch.setenv("RLM_BLOB_URL", "redis")
    return Cli(capsys)


def lines(done: Done) -> list[dict[str, Any]]:
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.split("\n") if line]


def chat(*texts: str) -> list[dict[str, str]]:
    roles = ("system", *("user", "assistant") * len(texts))
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def scores(folder: Path, **by_name: float) -> Path:
    path = folder / "scores.jsonl"
    path.write_text(
        "".join(json.dumps({"custom_id": k, "score": v, "n": 1}) + "\n" for k, v in by_name.items())
    )
    return path


def test_messages_are_the_chat_alone(played: Played, cli: Cli) -> None:
    played.play("j0")
    played.play("j1", FAILED)
    done = cli("export", "b", "--format", "messages")
    whole = chat(SYSTEM, QUERY, LOOK, "Output: 9", HAND_IN)
    assert lines(done) == [{"messages": whole}, {"messages": whole[:3]}]
    assert done.err == "2 jobs exported, in 2 lines\n"


def test_each_good_turn_is_a_sample(played: Played, cli: Cli) -> None:
    played.play("j0")
    played.play("j1", FAILED)
    done = cli("export", "b", "--format", "sft")
    first, *middle, last = chat(SYSTEM, QUERY, LOOK, "Output: 9", HAND_IN)
    assert lines(done) == [
        {"prompt": [first, middle[0]], "completion": [middle[1]]},
        {"prompt": [first, *middle], "completion": [last]},
    ]
    assert done.err == "2 jobs exported, in 2 lines\n1 turn left out: 1 code_error\n"
    called = lines(cli("export", "b", "--format", "sft", "--sub-calls", "--only", "succeeded"))
    assert called[2:] == [
        {
            "prompt": [{"role": "user", "content": "Is it long?"}],
            "completion": [{"role": "assistant", "content": "yes"}],
        }
    ]


def test_a_line_of_jsonl_has_all_that_is_known(played: Played, cli: Cli, tmp_path: Path) -> None:
    played.play("j0")
    (line,) = lines(cli("export", "b", "--scores", scores(tmp_path, j0=0.5)))
    one = JobTrajectory.model_validate(line)
    assert (one.schema_id, one.job_id, one.custom_id, one.batch_id) == (
        "rlm_dist.trajectory/1",
        "j0",
        "j0",
        "b",
    )
    assert (one.model, one.sub_model, one.query, one.score, one.won) == (
        "big-model",
        "small-model",
        "q",
        0.5,
        True,
    )
    assert one.context == spec().context
    assert one.outcome == SUCCEEDED
    assert one.costs == played.store.jobs.costs("j0")
    assert [cost.role for cost in one.models] == ["sub"]
    (cell,) = one.turns[0].cells
    good, bad = cell.calls
    assert (good.state, good.answer, good.model, good.cost) == ("answered", "yes", "m", 2e-6)
    assert (good.input_tokens, good.output_tokens) == (5, 2)
    assert (bad.state, bad.answer, bad.error) == ("failed", None, "timeout: no answer")
    assert [message.content for message in good.messages] == ["Is it long?"]
    assert [one.messages[turn.reply].content for turn in one.turns] == [LOOK, HAND_IN]


def test_jobs_are_chosen_by_outcome_score_and_cost(played: Played, cli: Cli, tmp_path: Path) -> None:
    played.play("right")
    played.play("wrong")
    played.play("unscored")
    played.play("dear", nanousd=3_000_000_000)
    played.play("unpriced", nanousd=None)
    played.play("failed", FAILED)
    running_job(played.store, "running", batch_id="b", index=6)
    known = scores(tmp_path, right=1, wrong=0.99, dear=2, unpriced=1, failed=1, elsewhere=1)

    def names(*options: str | Path) -> tuple[list[str], str]:
        done = cli("export", "b", *options)
        return [line["job_id"] for line in lines(done)], done.err

    assert names("--only", "right", "--scores", known, "--max-usd", "1") == (
        ["right"],
        "1 job exported, in 1 line\n6 jobs left out: 1 not right, 1 without a score, 1 dearer than $1, "
        "1 of unknown cost, 1 without an answer, 1 not ended\n",
    )
    assert names("--only", "right", "--scores", known)[0] == ["right", "dear", "unpriced"]
    assert names("--only", "succeeded")[0] == ["right", "wrong", "unscored", "dear", "unpriced"]
    assert names()[1] == "6 jobs exported, in 6 lines\n1 job left out: 1 not ended\n"


def test_the_results_of_a_quality_run_are_scores_of_its_jobs(
    played: Played, cli: Cli, tmp_path: Path
) -> None:
    """They have the score of an item once for each method: that of the job itself counts."""
    played.play("right")
    played.play("wrong")
    rows = [
        row("i1", job_id="right"),
        row("i1", "base", 0.0, job_id="other"),
        row("i2", "rlm", 0.0, job_id="wrong"),
    ]
    results = tmp_path / "results.jsonl"
    results.write_text("\n".join(each.model_dump_json() for each in rows))
    done = cli("export", "b", "--only", "right", "--scores", results)
    assert [line["job_id"] for line in lines(done)] == ["right"], done.err


def test_jobs_whose_content_is_gone_are_counted(played: Played, cli: Cli) -> None:
    played.play("j0")
    played.play("j1", text="x" * 70_000)
    played.play("j2")
    played.play("j3")
    played.play("j5")
    for key in played.client.scan_iter("rlm:blob*"):  # the long text of the second
        played.client.delete(key)
    played.client.delete("rlm:job:j2:trace")
    played.client.delete("rlm:job:j3")
    last, _ = played.store.journals.read_events("j5")[-1]
    played.client.xdel("rlm:job:j5:trace", last)
    played.store.jobs.create([spec("j4", batch_id="b", index=5)])
    played.store.jobs.cancel("j4")  # before it has begun
    done = cli("export", "b")
    assert [line["job_id"] for line in lines(done)] == ["j0"]
    gone = "3 with content that is gone, 1 removed or past its retention, 1 without a reply"
    assert done.err == f"1 job exported, in 1 line\n5 jobs left out: {gone}\n"


def test_a_program_that_answered_has_no_reply_to_learn_from(played: Played, cli: Cli) -> None:
    played.store.jobs.create([spec("p", batch_id="b").model_copy(update={"program": "FINAL('nine')"})])
    epoch = start_job(played.store, "p", "root-1", LEASE_MS)
    assert epoch is not None
    ids = call_ids(2)
    played.answer("p", epoch, ids, 1000)
    handed_in = replied(0).model_copy(update={"model": "program"})
    played.emit(
        "p", started(), say(0, "system", SYSTEM), say(0, "user", QUERY), handed_in,
        say(0, "assistant", HAND_IN), answered(ids), ran(0, calls=2),
    )  # fmt: skip
    assert finish_job(played.store, "p", epoch, SUCCEEDED.model_copy(update={"iterations": 0}))
    for form in ("messages", "sft"):
        done = cli("export", "b", "--format", form)
        assert (lines(done), done.err.splitlines()[1]) == ([], "1 job left out: 1 without a reply")
    assert len(lines(cli("export", "b", "--format", "sft", "--sub-calls"))) == 1
    (line,) = lines(cli("export", "b"))
    assert [turn["problem"] for turn in line["turns"]] == ["program"]


def test_samples_without_a_winner_are_in_jsonl_alone(played: Played, cli: Cli) -> None:
    played.store.jobs.create([spec("v", batch_id="b").model_copy(update={"samples": 2})])
    epoch = start_job(played.store, "v", "root-1", LEASE_MS)
    assert epoch is not None
    for sample in (1, 0):
        opening = say(0, "system", SYSTEM), say(0, "user", QUERY)
        for event in (*opening, replied(0), say(0, "assistant", HAND_IN)):
            played.emit("v", event.model_copy(update={"sample": sample}))
    assert finish_job(played.store, "v", epoch, FAILED)
    done = cli("export", "b", "--format", "messages")
    assert (lines(done), done.err.splitlines()[1]) == ([], "1 job left out: 1 without a winning sample")
    assert [(line["sample"], line["won"]) for line in lines(cli("export", "b"))] == [(0, False), (1, False)]


def test_the_file_is_private_and_appears_when_it_is_whole(played: Played, cli: Cli, tmp_path: Path) -> None:
    played.play("j0")
    file = tmp_path / "train.jsonl"
    umask = os.umask(0)
    try:
        assert cli("export", "b", "--format", "messages", "-o", file).out == ""
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.write_text("old")
        file.chmod(0o644)
        assert cli("export", "b", "--format", "messages", "-o", file).code == 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    finally:
        os.umask(umask)
    assert len(file.read_text().splitlines()) == 1
    done = cli("export", "b", "-o", "/dev/full")
    assert (done.code, done.err) == (2, "error: /dev/full: cannot be written (No space left on device)\n")


def test_what_cannot_be_is_said_in_a_line(played: Played, cli: Cli, tmp_path: Path) -> None:
    played.play("j0")
    bad, file = tmp_path / "bad.jsonl", tmp_path / "train.jsonl"
    assert cli("export", "b", "--only", "right").err == "error: --only right needs --scores FILE\n"
    assert cli("export", "none").code == 2
    assert cli("export", "j0").err == "error: j0 is a job of batch b, not a batch\n"
    assert cli("export", "b", "--sub-calls").err == "error: --sub-calls is an option of --format sft\n"
    for text, problem in [
        ("", "has no scores"),
        ("{", "line 1: is not JSON"),
        ('{"custom_id": "a"}', "line 1: is not"),
        ('\n{"custom_id": 1, "score": 1}', "line 2: is not"),
        ('{"custom_id": "a", "score": "1"}', "line 1: is not"),
    ]:
        bad.write_text(text)
        done = cli("export", "b", "--scores", bad)
        assert (done.code, problem in done.err) == (2, True), done.err
    elsewhere = scores(tmp_path, elsewhere=1)
    done = cli("export", "b", "--only", "right", "--scores", elsewhere, "-o", file)
    assert (done.code, done.err) == (2, f"error: {elsewhere}: has no score for a job of batch b\n")
    assert not file.exists()


def test_memory_does_not_grow_with_the_number_of_jobs(played: Played) -> None:
    """Forty jobs with 60 kB of text each, 2.4 MB, never hold the half of that."""
    for number in range(40):
        played.play(f"j{number}", text=f"{number} " + "x" * 60_000)
    counts = ExportCounts()
    tracemalloc.start()
    try:
        for line in training_lines(
            played.store, played.payloads, "b", TrainingForm("jsonl"), Selection(), counts
        ):
            assert isinstance(line, JobTrajectory)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert counts.jobs == 40
    assert peak < 1_200_000
