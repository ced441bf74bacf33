"""What the spans of calls, jobs and cells say."""

import json
from typing import Any, NamedTuple

import pytest

from rlm_dist.otel.attributes import (
    MOST_CHARS,
    call_attributes,
    cell_attributes,
    job_attributes,
    submit_attributes,
    turn_attributes,
)
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
from rlm_dist.schema.events import CellRan
from tests.support.store_values import spec

TEXT = "the prompt"
REQUEST = CallRequest(
    role=Role.SUB,
    model="auto",
    messages=(Message(role="user", content=TEXT),),
    max_output_tokens=9,
    temperature=0.5,
)
ANSWER = Completion(
    text="the answer",
    usage=Usage(input_tokens=10, output_tokens=3, cached_tokens=4, tier="flex"),
    finish_reason="length",
    model="gpt-x",
)
MONEY = ("gen_ai.usage.cost", "llm.cost.total", "rlm.cost_usd")


class Attempt(NamedTuple):
    """One paid attempt."""

    usage: Usage
    nanousd: int | None


def said_of(result: CallResult, *paid: Attempt, content: bool = False) -> dict[str, Any]:
    return dict(call_attributes("j1", "c#1", REQUEST, result, paid, content=content))


def test_a_call_has_the_names_that_langfuse_mlflow_and_phoenix_look_for() -> None:
    said = said_of(CallResult(completion=ANSWER, attempts=2), Attempt(ANSWER.usage, 2_000_000))
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "auto",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": "gpt-x",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "langfuse.observation.usage_details": (
            '{"input": 6, "input_cached_tokens": 4, "output": 3, "total": 13}'
        ),
        "gen_ai.usage.cost": 0.002,
        "openinference.span.kind": "LLM",
        "llm.system": "openai",
        "llm.model_name": "gpt-x",
        "llm.token_count.prompt": 10,
        "llm.token_count.completion": 3,
        "llm.token_count.total": 13,
        "llm.cost.total": 0.002,
        "mlflow.llm.cost": '{"total_cost": 0.002}',
        "rlm.job_id": "j1",
        "rlm.call_id": "c#1",
        "rlm.role": "sub",
        "rlm.cost_usd": 0.002,
        "rlm.tier": "flex",
        "rlm.attempts": 2,
        "rlm.cached": False,
        "rlm.truncated": True,
    }


def test_attempts_that_were_paid_for_in_vain_are_in_the_sums() -> None:
    attempts = [Attempt(Usage(input_tokens=5, output_tokens=1), 7), Attempt(ANSWER.usage, 3)]
    said = said_of(CallResult(completion=ANSWER), *attempts)
    assert (said["gen_ai.usage.input_tokens"], said["llm.token_count.total"]) == (15, 19)
    assert [said[name] for name in MONEY] == [pytest.approx(1e-8)] * 3


def test_an_unknown_price_is_not_a_price_of_nothing() -> None:
    said = said_of(CallResult(completion=ANSWER), Attempt(ANSWER.usage, None), Attempt(ANSWER.usage, 1))
    assert not said.keys() & set(MONEY)


def test_the_answer_of_another_call_costs_nothing() -> None:
    """The tokens of its usage were another call's."""
    said = said_of(CallResult(completion=ANSWER, cached=True))
    assert (said["rlm.cached"], said["llm.token_count.total"], said["gen_ai.usage.input_tokens"]) == (
        True,
        0,
        0,
    )
    assert [said[name] for name in MONEY] == [0.0] * 3


def test_a_failed_call_says_of_what_kind_and_not_in_the_endpoints_words() -> None:
    failed = CallResult(failure=CallFailure(kind="rate", message=f"not {TEXT}"))
    assert said_of(failed)["error.type"] == "rate"
    assert TEXT not in str(said_of(failed))
    assert TEXT in said_of(failed, content=True)["output.value"]


def test_texts_are_there_only_if_asked_for() -> None:
    result = CallResult(completion=ANSWER)
    assert TEXT not in str(said_of(result))
    assert ANSWER.text not in str(said_of(result))
    said = said_of(result, content=True)
    assert json.loads(said["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": TEXT}]}
    ]
    assert json.loads(said["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "the answer"}]}
    ]
    assert json.loads(said["input.value"]) == [{"role": "user", "content": TEXT}]
    assert said["output.value"] == "the answer"


def test_long_texts_are_cut_and_say_so() -> None:
    long = ANSWER.model_copy(update={"text": "x" * (MOST_CHARS + 5)})
    said = said_of(CallResult(completion=long), content=True)
    assert said["output.value"] == "x" * MOST_CHARS + " [… 5 characters more]"


def test_nothing_but_a_call_has_tokens_or_money() -> None:
    """Tools add them up over the trace."""
    cell = CellRan(
        turn=1, block=0, code="secret code", output="secret output", error=None, seconds=1.0,
        calls=2, failed_calls=1, state_lost=False,
    )  # fmt: skip
    outcome = Outcome(
        state=JobState.FAILED, answer="secret", error=ErrorInfo(type="E", message="secret"), iterations=3
    )
    job = job_attributes(spec("j1", batch_id="b"), epoch=2, outcome=outcome, content=False)
    for said in (job, cell_attributes("j1", cell, content=False), turn_attributes("j1", 1)):
        assert not [name for name in said if "usage" in name or "token" in name or "cost" in name]
        assert "secret" not in str(said)
    assert job["error.type"] == "E"
    assert submit_attributes(spec("j1", batch_id="b"))["rlm.batch_id"] == job["rlm.batch_id"] == "b"
    assert "rlm.batch_id" not in submit_attributes(spec("j1"))
    assert cell_attributes("j1", cell, content=True)["input.value"] == "secret code"
    assert job_attributes(spec("j1"), epoch=2, outcome=outcome, content=True)["output.value"] == "secret"
