"""Queries of one session through real worker processes: they share a REPL, and nothing is paid again."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rlm_dist.client.session import Session
from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import JobState, Message, Role, session_job_id
from rlm_dist.schema.events import CellRan, Marked, MessageAdded
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import Bench, MakeBench
from tests.support.deaths import Deaths

pytestmark = pytest.mark.acceptance

WAIT_S = 150.0
CONTEXT = "Ahab hunts.\nIshmael tells.\nQueequeg throws."
PLANS = {
    "Collect the names.": (
        "names = [line.split()[0] for line in context.splitlines()]\n"
        "notes = llm_query_batched([f'Label it.\\nLine: {line}' for line in context.splitlines()])\n"
        "import random\nlot = random.random()\nprint(len(names), lot, SHOW_VARS())",
        "answer['content'] = 'a draft'\nFINAL(', '.join(names))",
    ),
    "How many?": (
        "extra = llm_query('one more question')\nprint(len(notes), lot)",
        "fresh = not answer['content'] and not answer['ready']\nprint(len(history))",
        "FINAL([len(notes), fresh, len(history), session_history[0]['answer']])",
    ),
    "What was added?": (
        "print(context_1, extra)",
        "FINAL([context_1, names[-1], len(session_history), context == context_0])",
    ),
    "Lose it.": ("import os\nos._exit(3)", "FINAL(names[0])"),
    "Leave something.": ("left = len(notes) + 2",),
    "What is left?": ("FINAL(left)",),
}


def root(messages: Sequence[Message]) -> str:
    """The next block of the query's plan."""
    query = messages[1].content.rpartition("Question:\n")[2].split("\n\n")[0]
    turn = sum(message.role == "assistant" for message in messages)
    return f"```repl\n{PLANS[query][turn]}\n```"


@pytest.fixture
def endpoint() -> Iterator[SimulatedEndpoint]:
    with SimulatedEndpoint(root=root) as endpoint:
        yield endpoint


@pytest.fixture
def deaths(tmp_path: Path) -> Deaths:
    return Deaths(tmp_path / "deaths")


@pytest.fixture
def bench(make_bench: MakeBench, endpoint: SimulatedEndpoint, deaths: Deaths) -> Bench:
    bench = make_bench(endpoint)
    bench.keep_alive(bench.start(Role.ROOT, concurrency=2, **deaths.environment))
    bench.start(Role.SUB, concurrency=4)
    bench.wait_ready()
    return bench


def ask(session: Session, query: str, **options: int) -> object:
    result = session.ask(query, timeout=WAIT_S, **options)  # type: ignore[arg-type]  # the tests' options are ints
    assert result.error is None, result.error
    return result.answer if result.answer_json is None else result.answer_json


def marks(bench: Bench, job_id: str) -> list[str]:
    return [event.kind for event in bench.client.job(job_id).events() if isinstance(event, Marked)]


def test_queries_share_variables_and_nothing_is_paid_again(bench: Bench, endpoint: SimulatedEndpoint) -> None:
    with bench.client.session(CONTEXT) as session:
        assert ask(session, "Collect the names.") == "Ahab, Ishmael, Queequeg"
        assert ask(session, "How many?") == [3, True, 4, "Ahab, Ishmael, Queequeg"]
        assert session.add("notes.txt", "The whale is white.") == "context_1"
        assert ask(session, "What was added?") == ["The whale is white.", "Queequeg", 2, True]
        assert ask(session, "Lose it.") == "Ahab"
    jobs = session.jobs()
    assert [job.cost().sub_llm_calls for job in jobs] == [3, 1, 0, 0]
    assert [job.cost().root_llm_calls for job in jobs] == [2, 3, 2, 2]
    assert [job.cost().cache_hits for job in jobs] == [0, 0, 0, 0]
    assert (endpoint.served.by_role["root"], endpoint.served.by_role["sub"]) == (9, 4)
    assert [job.record().diverged_cells for job in jobs] == [0] * 4
    assert marks(bench, jobs[2].id) == ["session_rebuilt"]
    second, third = ([e.text for e in job.events() if isinstance(e, MessageAdded)][1] for job in jobs[1:3])
    assert "Query 1:\nCollect the names.\n\nAnswer 1:\nAhab, Ishmael, Queequeg" in second
    assert "names: list, 3 items" in second
    assert "`context_1` was added as 'notes.txt'. `context_1` is a str of 19 characters." in third


def test_a_worker_that_is_killed_in_the_second_query_changes_nothing(
    bench: Bench, endpoint: SimulatedEndpoint, deaths: Deaths
) -> None:
    with bench.client.session(CONTEXT, on_divergence="fail") as session:
        deaths.plan(session_job_id(session.id, 1), "journal.written:3", "journal.written:1")
        ask(session, "Collect the names.")
        assert ask(session, "How many?") == [3, True, 4, "Ahab, Ishmael, Queequeg"]
    second = session.jobs()[1]
    assert not deaths.outstanding(second.id)
    assert second.record().epoch == 3
    assert (endpoint.served.by_role["root"], endpoint.served.by_role["sub"]) == (5, 4)
    assert any(event.replayed for event in second.events() if isinstance(event, CellRan))


def test_a_query_without_an_answer_leaves_its_variables(bench: Bench) -> None:
    with bench.client.session(CONTEXT, max_iterations=5) as session:
        ask(session, "Collect the names.")
        assert session.ask("Leave something.", timeout=WAIT_S, max_iterations=1).state is JobState.EXHAUSTED
        assert ask(session, "What is left?") == 5
        assert session.jobs()[2].record().spec.limits.max_iterations == 5


def test_another_process_continues_it(bench: Bench) -> None:
    with bench.client.session(CONTEXT, max_usd=None, max_iterations=7) as session:
        session.add("one", "The first file.")
        ask(session, "Collect the names.")
    code = (
        "import sys; from rlm_dist import Client\n"
        "with Client() as client:\n"
        "    session = client.reopen_session(sys.argv[1])\n"
        "    print(session.ask('How many?', timeout=150).answer_json)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, session.id],
        capture_output=True, text=True, env=os.environ | bench.env, timeout=WAIT_S,
    )  # fmt: skip
    assert done.stdout == "[3, True, 4, 'Ahab, Ishmael, Queequeg']\n", done.stderr
    reopened = bench.client.reopen_session(session.id)
    assert ask(reopened, "What was added?") == ["The first file.", "Queequeg", 2, True]
    assert {job.record().spec.limits.max_iterations for job in reopened.jobs()} == {7}


def test_a_chain_with_a_gap_is_refused_by_its_sessions_name(bench: Bench) -> None:
    session = bench.client.session(CONTEXT)
    ask(session, "Collect the names.")
    other = bench.client.reopen_session(session.id)
    ask(other, "How many?")
    with pytest.raises(InputError, match="another process has asked"):
        session.submit("How many?")
    bench.client.job(session_job_id(session.id, 0)).delete()
    with pytest.raises(NotFound, match=f"no such session: {session.id}"):
        other.submit("What was added?")
    with pytest.raises(NotFound, match=f"no such session: {session.id}"):
        bench.client.reopen_session(session.id)
