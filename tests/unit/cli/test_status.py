"""What ``status`` and ``cost`` show of jobs and batches."""

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from rlm_dist.cli.batch_view import batch_lines, brief_line
from rlm_dist.cli.limit_lines import limit_lines
from rlm_dist.cli.status import batch_document, find, job_document, job_lines, list_lines
from rlm_dist.errors import NotFound
from rlm_dist.operations.pace import Pace, Rates
from rlm_dist.operations.progress import view
from rlm_dist.schema import (
    NANO,
    BatchRecord,
    BatchState,
    ContextInfo,
    ContextRef,
    Costs,
    EndedJob,
    ErrorInfo,
    JobRecord,
    JobSpec,
    JobState,
    Outcome,
    Role,
    Running,
)
from rlm_dist.schema.limits import ScopeState
from rlm_dist.schema.lists import JobPage, JobRow

CONTEXT = ContextRef(sha256="0" * 64, size_bytes=3, info=ContextInfo(kind="str", chars=3, items=1))
JOB = JobRecord(
    spec=JobSpec(id="j1", custom_id="q1", batch_id="b1", query="What\nis it?", context=CONTEXT),
    state=JobState.FAILED,
    epoch=2,
    owner="root@here:1",
    isolation="none",
    outcome=Outcome(state=JobState.FAILED, error=ErrorInfo(type="auth", message="refused"), iterations=3),
    queued_ms=1000,
    started_ms=2000,
    ended_ms=3000,
    costs=Costs(total_cost=0.5, root_llm_calls=3, root_llm_tokens=1500),
)
BATCH = BatchRecord(
    id="b1",
    state=BatchState.RUNNING,
    counts={
        JobState.QUEUED: 4,
        JobState.RUNNING: 1,
        JobState.SUCCEEDED: 3,
        JobState.FAILED: 2,
        JobState.CANCELLED: 0,
    },
    total=10,
    sealed=True,
    created_ms=1000,
    calls_in_flight=4,
    costs=Costs(total_cost=1.0, root_llm_tokens=1000, root_llm_calls=12, failed_calls=1),
)
NOW_MS = 200_000
RUNNING = Running(
    job_id="j1", batch_id="b1", started_ms=20_000, worker="w", calls_in_flight=4, nanousd=NANO // 5, tokens=7
)


ROW = JobRow(id="j1", custom_id="q1", state=JobState.FAILED)


class _Jobs:
    def get(self, job_id: str) -> JobRecord:
        if job_id != "j1":
            raise NotFound("job", job_id)
        return JOB

    def running(self) -> list[Running]:
        return [RUNNING.model_copy(update={"job_id": "x", "batch_id": "other"}), RUNNING]

    def records(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        return [JOB for _ in job_ids]


class _Batches:
    def get(self, batch_id: str) -> BatchRecord:
        if batch_id != "b1":
            raise NotFound("batch", batch_id)
        return BATCH

    def last_ended(self, batch_id: str, limit: int) -> list[EndedJob]:
        return [EndedJob(job_id="e", run_s=30.0, nanousd=NANO // 5, tokens=1, ended_ms=NOW_MS)] * 5


def records(endpoints: Sequence[ScopeState] = ()) -> Any:
    """The reads that these commands make of a store, which has one job and one batch."""
    return SimpleNamespace(
        jobs=_Jobs(),
        batches=_Batches(),
        limits=SimpleNamespace(scopes=lambda: list(endpoints)),
        connection=SimpleNamespace(now_ms=lambda: NOW_MS),
        lists=SimpleNamespace(
            named=lambda *_: [], reasons=lambda _: {"auth": 2}, page=lambda *_, **__: JobPage(rows=(ROW,))
        ),
        workers=SimpleNamespace(live=lambda role: [] if role is Role.ROOT else ["sub-1"]),
    )


def test_an_id_is_a_job_or_a_batch_or_an_error_that_names_it() -> None:
    assert find(records(), "j1") is JOB
    assert find(records(), "b1") is BATCH
    with pytest.raises(NotFound, match="no such job or batch: x9"):
        find(records(), "x9")


def test_a_job_as_text() -> None:
    assert list(job_lines(JOB)) == [
        "job j1 of batch b1: failed",
        "  query   What is it?",
        "  worker  root@here:1, started 2 times",
        "  sandbox none",
        "  error   auth: refused",
        "  used    root 3 calls, 1,500 tokens; sub 0 calls, 0 tokens; $0.500000",
    ]


def test_a_job_that_is_being_cancelled_says_so() -> None:
    record = JOB.model_copy(update={"state": JobState.RUNNING, "cancel_requested": True, "outcome": None})
    assert next(iter(job_lines(record))) == "job j1 of batch b1: running, cancellation requested"


def test_a_job_tells_of_code_that_came_out_otherwise_when_it_was_replayed() -> None:
    record = JOB.model_copy(update={"diverged_cells": 2})
    assert "  replay  2 code blocks gave a different result when run again" in list(job_lines(record))
    assert job_document(record)["diverged_cells"] == 2


SCOPE = ScopeState(
    url="http://e/v1", model="m", limit=40, found=True, in_flight=38, waiting=212,
    ended_last_minute=1000, refused_last_minute=12, blocked_s=0.0, away_since_ms=None, next_try_s=0.0,
)  # fmt: skip


def test_what_is_believed_of_an_endpoint() -> None:
    assert list(limit_lines([SCOPE])) == [
        "http://e/v1 m: endpoint limit 40 (found), 38 in flight, 212 calls wait, "
        "1.2% refused in the last minute"
    ]
    fresh = SCOPE.model_copy(update={"found": False, "waiting": 1, "ended_last_minute": 0, "blocked_s": 7.0})
    assert list(limit_lines([fresh])) == [
        "http://e/v1 m: endpoint limit 40 (not reached yet), 38 in flight, 1 call waits, "
        "takes no calls for 7 s"
    ]
    assert list(limit_lines([SCOPE.model_copy(update={"in_flight": 0, "waiting": 0})])) == []


def test_an_endpoint_that_is_away_says_since_when_and_when_it_is_tried_again() -> None:
    away = SCOPE.model_copy(update={"in_flight": 0, "away_since_ms": 1_700_000_000_000, "next_try_s": 20.0})
    since = time.strftime("%H:%M", time.localtime(1_700_000_000))
    assert list(limit_lines([away])) == [f"http://e/v1 m: endpoint away since {since}, next try in 20 s"]
    seen = view(records([away]), BATCH, Pace())
    assert f"  model    http://e/v1 m: endpoint away since {since}, next try in 20 s" in [
        *batch_lines(BATCH, seen)
    ]
    assert brief_line(BATCH, seen).endswith("next try in 20 s")
    assert "  model   http://e/v1 m: endpoint away" in "\n".join(job_lines(JOB, [away]))


def test_a_batch_tells_of_its_budgets() -> None:
    record = BATCH.model_copy(update={"max_usd": 2.5, "max_tokens": 20_000})
    lines = list(batch_lines(record, view(records(), record, Pace())))
    assert "  budget   20,000 tokens, $2.500000 for all jobs together" in lines
    assert batch_document(record)["max_usd"] == 2.5


def test_documents_tell_jobs_and_batches_apart() -> None:
    assert (job_document(JOB)["kind"], batch_document(BATCH)["kind"]) == ("job", "batch")
    assert job_document(JOB)["iterations"] == 3


def test_how_a_job_was_isolated_is_shown_once_it_has_started() -> None:
    waiting = JOB.model_copy(update={"isolation": None})
    assert not any("sandbox" in line for line in job_lines(waiting))
    assert (job_document(JOB)["isolation"], job_document(waiting)["isolation"]) == ("none", None)


def test_the_list_is_two_tables_or_a_word() -> None:
    lines = list(list_lines([BATCH], [JOB]))
    assert lines[1].split() == ["b1", "running", "10", "5", "$1.000000"]
    assert lines[-1].split() == ["j1", "failed", "b1", "$0.500000", "What", "is", "it?"]
    assert list(list_lines([], [])) == ["nothing has been submitted yet"]


def test_the_pace_is_that_of_the_last_minute() -> None:
    pace = Pace()
    assert pace.look(Costs(sub_llm_calls=10), 0) is None
    assert pace.look(Costs(sub_llm_calls=40, root_llm_tokens=500), 30_000) == Rates(calls=60, tokens=1000)
    assert pace.look(Costs(sub_llm_calls=40, root_llm_tokens=500), 90_000) == Rates(calls=0, tokens=0)


def test_a_look_at_a_batch_tells_its_pace_its_end_and_what_holds_it_up() -> None:
    pace = Pace()
    pace.look(Costs(), NOW_MS - 60_000)
    seen = view(records(), BATCH, pace)
    assert list(batch_lines(BATCH, seen)) == [
        "batch b1: running",
        "  progress ██████████░░░░░░░░░░ 50 %, 3 min",
        "  jobs     10: 4 queued, 1 running, 3 succeeded, 2 failed",
        "  failed   2 × auth: q1, …",
        "  workers  no root worker is running; rlm-dist worker root starts one, rlm-dist up both roles",
        "  calls    4 in flight, 12 calls/min, 1,000 tokens/min, 1 failed, 0 retries, 0 429s",
        "  used     root 12 calls, 1,000 tokens; sub 0 calls, 0 tokens",
        "  cost     $1.000000 so far, about $1.80 ($1.09 to $2.51) in total",
        "  left     about 2 min (14 s to 4 min)",
        "  slowest  q1 (j1): 3 min, 4 calls in flight, 7 tokens",
    ]
    assert brief_line(BATCH, seen) == (
        "5 of 10 ended, 2 of them without an answer (2 failed), 1 running, 4 in flight, "
        "12 calls/min, 1,000 tokens/min, 1 failed, 0 retries, 0 429s, "
        "$1.000000 so far, about $1.80 ($1.09 to $2.51) in total, about 2 min (14 s to 4 min) left; "
        "no root worker is running; rlm-dist worker root starts one, rlm-dist up both roles"
    )
    document = batch_document(BATCH, seen)
    assert document["calls_in_flight"] == 4
    assert document["rates"] == {"calls": 12.0, "tokens": 1000.0}
    assert {"projection", "slowest"} <= document.keys()


def test_workers_are_counted_and_all_is_not_said_too_soon() -> None:
    seen = view(records(), BATCH, Pace())
    alive = seen.model_copy(update={"workers": {Role.ROOT: 8, Role.SUB: 1}, "missing_workers": []})
    nearly = BATCH.model_copy(
        update={"total": 1000, "counts": {JobState.SUCCEEDED: 999, JobState.RUNNING: 1}}
    )
    lines = list(batch_lines(nearly, alive))
    assert "  workers  8 root slots, 1 sub worker" in lines
    assert "  progress ███████████████████░ 99 %, 3 min" in lines
    growing = BATCH.model_copy(update={"total": None})
    assert "  progress 5 ended, 3 min" in batch_lines(growing, alive)


def test_an_unknown_price_projects_nothing_and_the_end_needs_no_projection() -> None:
    unknown = BATCH.model_copy(update={"costs": Costs(total_cost=None)})
    assert "  cost     unknown so far" in batch_lines(unknown, view(records(), unknown, Pace()))
    over = BATCH.model_copy(update={"counts": {JobState.SUCCEEDED: 10}})
    lines = list(batch_lines(over, view(records(), over, Pace())))
    assert "  cost     $1.000000 so far" in lines
    assert not any("left" in line for line in lines)


def test_a_watch_without_a_terminal_says_that_a_batch_is_paused_and_why() -> None:
    paused = BATCH.model_copy(update={"state": BatchState.PAUSED, "pause_reason": "the quota is spent"})
    line = brief_line(paused, view(records(), paused, Pace()))
    assert line.startswith("paused: the quota is spent; 5 of 10 ended")


def test_jobs_that_met_a_limit_count_as_jobs_without_an_answer() -> None:
    counts = {JobState.SUCCEEDED: 3, JobState.EXHAUSTED: 22, JobState.CANCELLED: 1}
    batch = BATCH.model_copy(update={"counts": counts, "total": 30})
    line = brief_line(batch, view(records(), batch, Pace()))
    assert line.startswith("26 of 30 ended, 23 of them without an answer (22 exhausted, 1 cancelled), ")
