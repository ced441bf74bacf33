"""A chat that grows past the root model's window, through real workers."""

import json
from collections.abc import Sequence

import pytest

from rlm_dist.client.client import Client
from rlm_dist.schema import JobState, Message, Role
from rlm_dist.schema.events import JobStarted, Marked
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import MakeBench, job_id_of, submit
from tests.support.deaths import Deaths

pytestmark = pytest.mark.acceptance

TURNS = 14
CUT = "characters; the whole is in `history[0]`]"


def test_a_window_is_learned_and_a_job_killed_after_a_compaction_pays_nothing_twice(
    make_bench: MakeBench,
) -> None:
    """The worker dies when the first reply to a cut chat is paid for, and not yet in the journal."""
    planned: list[int] = []

    def root(messages: Sequence[Message]) -> str:
        turn = sum(message.role == "assistant" for message in messages)
        if any(CUT in message.content for message in messages) and not planned:
            planned.append(turn)
            deaths.plan(job_id_of("long"), f"root.settled:{endpoint.served.requests}")
        if turn < TURNS:
            return f"```repl\nprint('{turn % 10}' * 9000, len(history))\n```"
        return "```repl\nFINAL(len(history[0]['output']))\n```"

    with SimulatedEndpoint(root=root, window=14_000) as endpoint:
        bench = make_bench(endpoint)
        deaths = Deaths(bench.folder / "deaths")
        bench.keep_alive(bench.start(Role.ROOT, concurrency=1, **deaths.environment))
        bench.start(Role.SUB, concurrency=1)
        bench.wait_ready()
        job_id = submit(bench.client, "long", "a context", "How long?", max_iterations=TURNS + 2)
        result = bench.client.job(job_id).result(150)
        assert (result.state, result.answer_json) == (JobState.SUCCEEDED, 9003)
        assert planned
        assert not deaths.outstanding(job_id)
        served = endpoint.served
        assert served.answered == TURNS + 1
        assert served.faults["too_long"] >= 1
        costs = result.costs
        assert costs.duplicate_paid_calls == 0
        assert costs.root_llm_calls == served.answered
        assert costs.root_input_tokens == served.usage.input_tokens
        events = list(bench.client.job(job_id).events())
        assert sum(isinstance(event, JobStarted) for event in events) == 2
        marks = [event for event in events if isinstance(event, Marked) and event.kind == "compacted"]
        assert len(marks) >= 2
        assert all("→" in mark.detail for mark in marks)


def test_older_turns_are_summarised_by_the_sub_model_within_a_known_window_and_own_prompts(
    make_bench: MakeBench,
) -> None:
    """The summary is a sub-call of the job; the prompts are those of the worker's file."""
    chats: list[Sequence[Message]] = []

    def root(messages: Sequence[Message]) -> str:
        chats.append(messages)
        if len(chats) <= TURNS:
            return f"```repl\nprint('{len(chats) % 10}' * 9000)\n```"
        return "```repl\nFINAL(len(history))\n```"

    with SimulatedEndpoint(root=root, sub=lambda _: "the gist of it", window=14_000) as endpoint:
        bench = make_bench(endpoint)
        file = bench.folder / "prompts.json"
        texts = {"system": "My own: context, repl, llm_query, FINAL.", "task": "{query} {context}"}
        file.write_text(json.dumps(texts))
        own = {"RLM_PROMPTS": str(file), "RLM_MODEL_WINDOWS": "simulated-root=14000"}
        bench.start(Role.ROOT, concurrency=1, **own)
        bench.start(Role.SUB, concurrency=1)
        bench.wait_ready()
        with Client(bench.settings.with_prompts("file")) as client:
            job = client.submit(
                "c", "q", compaction="summary", instructions="Be brief.", max_iterations=TURNS + 2
            )
            result = job.result(150)
            assert (result.state, result.answer_json) == (JobState.SUCCEEDED, TURNS)
            assert endpoint.served.faults == {}
            assert result.costs.sub_llm_calls >= 1
            assert (
                chats[0][0].content
                == f"{texts['system']}\n\nInstructions of the user for this work:\nBe brief."
            )
            assert "the gist of it" in chats[-1][3].content
            events = list(job.events())
            marks = [event for event in events if isinstance(event, Marked)]
            assert [mark.kind for mark in marks] == ["compacted"] * result.costs.sub_llm_calls
            assert all(mark.detail.endswith("summarised") for mark in marks)
            (started,) = (event for event in events if isinstance(event, JobStarted))
            assert started.prompts_sha256 is not None
            assert "Be brief" not in bench.workers[0].text()
