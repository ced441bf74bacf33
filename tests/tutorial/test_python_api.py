"""A tour of the Python API in ten steps, each over the same running cluster."""

import json
from pathlib import Path

import pytest

from rlm_dist import RLM_REPL, BatchState, Client, JobState
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

BOOK = "Call me Ishmael.\nThe magic number for Ahab is 1851.\nHe has one leg.\n"
QUESTION = "What is the magic number for Ahab?"


def ahab(number: int) -> dict[str, object]:
    """One job of a batch, as a dict."""
    context = f"The magic number for Ahab is {number}."
    return {"id": f"ahab-{number}", "query": QUESTION, "context": context}


def test_submit_a_job_and_wait_for_its_answer() -> None:
    """A job is one query over one context; ``result`` waits for its end."""
    with Client() as client:
        result = client.submit(BOOK, QUESTION).result(timeout=60)
    assert result.state is JobState.SUCCEEDED
    assert result.answer == "1851"


def test_read_what_a_job_cost() -> None:
    """Each job has a ledger of calls, tokens and US dollars, by role."""
    with Client() as client:
        job = client.submit(BOOK, QUESTION)
        job.result(timeout=60)
        cost = job.cost()
    assert (cost.root_llm_calls, cost.sub_llm_calls) == (3, 1)
    assert cost.root_llm_tokens > cost.sub_llm_tokens > 0
    assert cost.total_cost is not None
    assert cost.total_cost > 0


def test_follow_what_happens_in_a_job() -> None:
    """``events`` yields what has happened in the job and then what happens, until its end."""
    with Client() as client:
        events = list(client.submit(BOOK, QUESTION).events())
    kinds = [event.event for event in events]
    assert (kinds[0], kinds[-1]) == ("job_started", "job_ended")
    assert kinds.count("root_replied") == kinds.count("cell_ran") == 3
    assert kinds.count("sub_calls_answered") == 1


def test_submit_a_batch_and_take_results_as_they_finish() -> None:
    """A batch is many jobs, each a dict with an id; ``results`` yields each result when its job ends."""
    with Client() as client:
        batch = client.submit_batch([ahab(1), ahab(2), ahab(3)])
        answers = {result.custom_id: result.answer for result in batch.results()}
        assert answers == {"ahab-1": "1", "ahab-2": "2", "ahab-3": "3"}
        assert batch.status() is BatchState.COMPLETED


def test_submit_a_batch_file_and_read_results_in_its_order() -> None:
    """A batch file has one job on each line; a context may be a file next to it."""
    Path("book.txt").write_text(BOOK)
    lines = [ahab(7), {"id": "book", "query": QUESTION, "context_file": "book.txt"}]
    Path("questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Client() as client:
        batch = client.submit_file("questions.jsonl")
        assert [result.answer for result in batch.results_in_order()] == ["7", "1851"]


def test_limit_a_job_and_keep_its_partial_answer() -> None:
    """A job that reaches a limit ends as exhausted; what it had written so far is its partial answer."""
    with Client() as client:
        result = client.submit(BOOK, "Summarise the book.", max_sub_calls=1).result(timeout=60)
    assert result.state is JobState.EXHAUSTED
    assert result.answer is None
    assert result.partial_answer == "The first half."
    assert result.costs.sub_llm_calls == 1


def test_cancel_a_job() -> None:
    """Cancelling a running job aborts its calls and ends it within seconds."""
    with Client() as client:
        job = client.submit(BOOK, "What is a secret that nobody tells?")
        wait_until(lambda: job.status() is JobState.RUNNING)
        job.cancel()
        assert job.result(timeout=60).state is JobState.CANCELLED


def test_retry_the_jobs_that_have_no_answer() -> None:
    """``retry`` runs the unanswered jobs of a batch again, here with a larger budget of tokens."""
    with Client() as client:
        batch = client.submit_batch([ahab(1), ahab(2)], "nightly", batch_max_tokens=1)
        assert [result.state for result in batch.results()] == [JobState.EXHAUSTED] * 2
        assert client.retry("nightly", batch_max_tokens=1_000_000) == 2
        assert sorted(str(result.answer) for result in batch.results()) == ["1", "2"]


def test_come_back_to_a_batch_by_its_id() -> None:
    """A batch belongs to the cluster: another client finds it, and submitting it twice runs it once."""
    with Client() as client:
        client.submit_batch([ahab(4)], "friday")
    with Client() as client:
        (result,) = client.batch("friday").results()
        assert result.answer == "4"
        again = client.submit_batch([ahab(4)], "friday")
        assert [job.id for job in again.jobs()] == [result.id]


def test_complete_with_the_rlm_class() -> None:
    """``RLM_REPL.completion`` returns the answer itself, and ``cost_summary`` adds up what the calls cost."""
    with RLM_REPL(max_iterations=5) as rlm:
        assert rlm.completion(BOOK, QUESTION) == "1851"
        assert rlm.cost_summary()["sub_llm_calls"] == 1
        rlm.reset()
        assert rlm.cost_summary()["root_llm_calls"] == 0
