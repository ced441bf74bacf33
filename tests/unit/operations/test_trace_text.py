"""Lines of costs, as ``cost`` and ``trace`` show them."""

from typing import Any

import pytest

from rlm_dist.operations.trace_text import cost_lines, event_lines, tokens, trace_lines
from rlm_dist.schema import ContextInfo, JobState, ModelCosts, Role, Usage, Vote
from rlm_dist.schema.events import Event, JobEnded, JobStarted, Marked, ToolCalled
from rlm_dist.store.trace import TracedEvent


def line(**fields: Any) -> str:
    """The line of one model."""
    basis = {"calls": 2, "input_tokens": 1000, "cached_tokens": 400, "output_tokens": 50, "cost": 0.5}
    (text,) = cost_lines([ModelCosts.model_validate({"role": Role.SUB, "model": "m:7b", **basis, **fields})])
    return text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "  sub m:7b: 2 calls, 1,000 tokens in (400 cached), 50 out, $0.500000"),
        ({"cost": None}, "  sub m:7b: 2 calls, 1,000 tokens in (400 cached), 50 out, price unknown"),
        ({"tier": "flex"}, "  sub m:7b (flex): 2 calls, 1,000 tokens in (400 cached), 50 out, $0.500000"),
        (
            {"cache_write_tokens": 7, "reasoning_tokens": 30, "audio_tokens": 11, "billed_calls": 1},
            "  sub m:7b: 2 calls, 1,000 tokens in (400 cached, 7 written to the cache), "
            "50 out (30 reasoning), $0.500000, 11 tokens of audio, 1 call as billed by the endpoint",
        ),
    ],
)
def test_a_line_of_costs_has_what_is_known(fields: dict[str, Any], text: str) -> None:
    assert line(**fields) == text


def test_the_samples_of_a_job_are_shown_one_after_another_and_then_the_votes() -> None:
    info = ContextInfo(kind="str", chars=3, items=1)
    started = JobStarted(
        job_id="j", epoch=1, worker="w", model="m", sub_model="s", prompts="coder", isolation="none",
        context=info, samples=2,
    )  # fmt: skip
    votes = (Vote(answer="7", count=2, samples=(0, 1)),)
    ended = JobEnded(state=JobState.SUCCEEDED, answer="7", error=None, iterations=4, votes=votes)
    mixed = [
        Marked(turn=turn, kind=f"k{sample}{turn}", sample=sample) for turn in (0, 1) for sample in (0, 1)
    ]
    events: list[Event] = [started, *mixed, ended]
    trace = [TracedEvent(f"{at}-0", at, event) for at, event in enumerate(events)]
    lines = [line.split("  (+")[0] for line in trace_lines(trace) if line.startswith(("──", "  !", "  2 v"))]
    assert lines == [
        "── sample 1 of 2, turn 0", "  ! k00", "── sample 1 of 2, turn 1", "  ! k01",
        "── sample 2 of 2, turn 0", "  ! k10", "── sample 2 of 2, turn 1", "  ! k11",
        "  2 votes (sample 1, 2): 7",
    ]  # fmt: skip


def test_the_trace_names_the_tier_unless_it_is_the_default_one() -> None:
    assert tokens(Usage(input_tokens=5, output_tokens=2, tier="flex")) == "5 tokens in, 2 out (flex)"
    assert tokens(Usage(input_tokens=5, output_tokens=2, tier="default")) == "5 tokens in, 2 out"


def test_a_call_of_a_tool_is_shown_with_arguments_and_result() -> None:
    event = ToolCalled(
        name="price", call_id="a#1", seconds=0.25, ok=True, arguments='{"args": [1]}', result="49.5"
    )
    failed = event.model_copy(update={"ok": False, "from_store": True, "result": "KeyError"})
    assert list(event_lines(event)) == ["  tool price: 0.2 s", '    > {"args": [1]}', "    49.5"]
    assert list(event_lines(failed)) == [
        "  tool price: 0.2 s, failed, was called before", '    > {"args": [1]}', "    ! KeyError",
    ]  # fmt: skip
