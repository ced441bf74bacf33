"""What status and cost show of jobs and batches."""

import pytest

from rlm_dist.cli.pace import Pace
from rlm_dist.cli.status import (
    batch_document,
    batch_lines,
    ended,
    find,
    job_document,
    job_lines,
    list_lines,
)
from rlm_dist.errors import NotFound
from rlm_dist.models import (
    BatchRecord,
    BatchState,
    ContextInfo,
    ContextRef,
    Costs,
    ErrorInfo,
    JobRecord,
    JobSpec,
    JobState,
    Outcome,
)

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
    counts={JobState.QUEUED: 5, JobState.SUCCEEDED: 3, JobState.FAILED: 2, JobState.RUNNING: 0},
    total=10,
    sealed=True,
    created_ms=1000,
    costs=Costs(total_cost=1.0, root_llm_tokens=1000),
)


class Records:
    """A store with one job and one batch."""

    def job(self, job_id: str) -> JobRecord:
        if job_id != "j1":
            raise NotFound("job", job_id)
        return JOB

    def batch(self, batch_id: str) -> BatchRecord:
        if batch_id != "b1":
            raise NotFound("batch", batch_id)
        return BATCH


def test_an_id_is_a_job_or_a_batch_or_an_error_that_names_it() -> None:
    assert find(Records(), "j1") is JOB
    assert find(Records(), "b1") is BATCH
    with pytest.raises(NotFound, match="no such job or batch: x9"):
        find(Records(), "x9")


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
    assert next(iter(job_lines(record))) == "job j1 of batch b1: running, cancellation asked for"


def test_a_job_tells_of_code_that_came_out_otherwise_when_it_was_replayed() -> None:
    record = JOB.model_copy(update={"diverged_cells": 2})
    assert "  replay  2 code blocks came out otherwise when run again" in list(job_lines(record))
    assert job_document(record)["diverged_cells"] == 2


def test_a_batch_as_text_leaves_out_states_that_no_job_is_in() -> None:
    assert list(batch_lines(BATCH)) == [
        "batch b1: running",
        "  jobs  10: 5 queued, 3 succeeded, 2 failed",
        "  used  root 0 calls, 1,000 tokens; sub 0 calls, 0 tokens; $1.000000",
    ]
    assert ended(BATCH) == 5


def test_a_batch_tells_of_its_budgets() -> None:
    record = BATCH.model_copy(update={"max_usd": 2.5, "max_tokens": 20_000})
    assert list(batch_lines(record))[-1] == "  may   20,000 tokens, $2.500000, all jobs together"
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


def test_the_pace_is_that_since_the_first_look() -> None:
    pace = Pace()
    assert list(pace.lines(BATCH, 5, 0)) == ["  pace  ? tokens/min, $1.0000 so far, about $2.0000 in the end"]
    later = BATCH.model_copy(update={"costs": Costs(total_cost=1.4, sub_llm_tokens=4000)})
    assert list(pace.lines(later, 7, 120_000)) == [
        "  pace  1,500 tokens/min, $1.4000 so far, about $2.0000 in the end",
        "  left  about 3 min",
    ]


def test_an_unknown_price_projects_nothing() -> None:
    unknown = BATCH.model_copy(update={"costs": Costs(total_cost=None)})
    assert list(Pace().lines(unknown, 5, 0)) == ["  pace  ? tokens/min, cost unknown"]
