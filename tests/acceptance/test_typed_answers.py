"""Typed answers on real workers: refusals, a judge, a validator, and a worker killed after a refusal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from rlm_dist.schema import JobState, Message, Role
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import MakeBench, job_id_of
from tests.support.deaths import Deaths

pytestmark = pytest.mark.acceptance


class Count(BaseModel):
    """The answer that is asked for."""

    n: int
    quotes: list[str]


def answer(n: object, *quotes: str) -> str:
    return f"```repl\nFINAL({{'n': {n!r}, 'quotes': {list(quotes)!r}}})\n```"


REPLIES = [
    "```repl\nn = len(context.split())\nprint(n)\n```",
    answer("six", "all work"),
    answer(6, "all play"),
    "```repl\nFINAL({'n': n, 'quotes': ['all work']})\n```",
]


def root_model(messages: Sequence[Message]) -> str:
    """Play the replies in turn."""
    return REPLIES[sum(message.role == "assistant" for message in messages)]


def judge_model(messages: Sequence[Message]) -> str:
    """Accept what has six words."""
    return json.dumps({"accept": '"n": 6' in messages[-1].content, "reason": ""})


def refuse_odd(answer: dict[str, Any], query: str, metadata: Mapping[str, Any]) -> str | None:
    """A validator."""
    return None if answer["n"] % metadata["divisor"] == 0 else "does not divide"


def test_a_killed_worker_and_refused_answers_change_neither_answer_nor_costs(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    deaths = Deaths(tmp_path / "deaths")
    with SimulatedEndpoint(root=root_model, sub=judge_model) as endpoint:
        bench = make_bench(endpoint)
        path = f"{__name__}:refuse_odd"
        bench.keep_alive(bench.start(Role.ROOT, concurrency=2, RLM_VALIDATORS=path, **deaths.environment))
        bench.start(Role.SUB, concurrency=2)
        # after the second refusal, while a sub-call is under way, and once its verdict is journaled
        deaths.plan(job_id_of("q"), "root.opened:3", "calls.sent", "root.finishing")
        bench.wait_ready()
        item: dict[str, Any] = {
            "id": "q",
            "query": "How many words?",
            "context": "all  work and no\nplay today",
        }
        item |= {"validator": path, "judge": "Is it right?", "metadata": {"divisor": 3}}
        batch = bench.client.submit_batch([item], "q", response_schema=Count, quote_check="quotes")
        (result,) = batch.results()
        assert (result.state, result.error) == (JobState.SUCCEEDED, None)
        assert result.answer_json == {"n": 6, "quotes": ["all work"]}
        assert not deaths.outstanding(job_id_of("q"))
        costs = batch.cost()
        assert (costs.root_llm_calls, costs.sub_llm_calls) == (4, 1)
        events = list(bench.client.job(job_id_of("q")).events())
        refused = [
            event.detail for event in events if event.event == "marked" and event.kind == "answer_refused"
        ]
        assert set(refused) == {"by the schema", "by the quote_check"}


def test_a_validator_that_the_worker_does_not_list_fails_the_job(make_bench: MakeBench) -> None:
    with SimulatedEndpoint(root=root_model) as endpoint:
        bench = make_bench(endpoint)
        bench.start(Role.ROOT, concurrency=1)
        bench.wait_ready()
        result = bench.client.submit("text", "How many?", validator="os:system").result(timeout=100)
        assert result.state is JobState.FAILED
        assert result.error is not None
        assert result.error.type == "AnswerCheckFailed"
        assert "not on this worker's list" in result.error.message
        assert "root" not in endpoint.served.by_role
