"""The demo's questions have the answers that it states."""

import re
from pathlib import Path

import pytest

from rlm_dist.operations.demo import Demo, DemoTurns, Question, make_demo
from rlm_dist.schema import JobState, Message, Usage
from rlm_dist.schema.events import CellRan, Event, JobEnded, MessageAdded, RootReplied, SubCallsAnswered
from rlm_dist.simulated import scripts


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/t.py").write_text("memoryview\n")
    (tmp_path / "b.py").write_text("memoryview\nx = 1  # memoryview memoryview\n")
    (tmp_path / "a.py").write_text("import os\n" * 100)
    (tmp_path / "c.txt").write_text("memoryview\n")
    return make_demo(tmp_path)


def test_the_text_is_every_source_in_order_but_no_tests(demo: Demo) -> None:
    assert demo.files == 2
    assert [line for line in demo.text.splitlines() if line.startswith("===")] == [
        "=== a.py ===",
        "=== b.py ===",
    ]


def test_the_truths_are_those_of_the_text(demo: Demo) -> None:
    counting, first, second = demo.questions
    assert counting.truth == "2"
    for question in (first, second):
        key = question.text.rpartition(" for ")[2].partition(" ")[0]
        assert f"The magic number for {key} is {question.truth}" in demo.text


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("1,565", True),
        ("There are 1565 lines.", True),
        ("1566", False),
        ("1565 or 1566", False),
        ("15651", False),
        (None, False),
    ],
)
def test_an_answer_is_right_where_it_names_just_that_number(answer: str | None, right: bool) -> None:
    assert Question("How many?", "1565").is_right(answer) is right


@pytest.mark.parametrize("answer", ["Seventy-four.", "seventy four", "It is 74"])
def test_a_number_may_be_given_in_any_of_its_forms(answer: str) -> None:
    assert Question("Which?", "seventy-four", ("74", "seventy four")).is_right(answer)


def test_the_last_fact_can_be_found_by_code_but_must_be_read(demo: Demo) -> None:
    """A pattern for digits after the key finds none, so a model has to ask its sub-model."""
    assert re.search(r"quiet-lantern\D{0,60}?\d", demo.text) is None
    assert re.search(r"amber-harbour\D{0,60}?7421935", demo.text)


def test_the_simulated_model_understands_every_question(demo: Demo) -> None:
    chats = [(Message(role="user", content=question.text),) for question in demo.questions]
    counting, first, second = (scripts.pick(scripts.query_text(chat)).work for chat in chats)
    assert "word = 'memoryview'\n" in counting
    assert "key = 'amber-harbour'\n" in first
    assert "key = 'quiet-lantern'\n" in second


def test_the_last_question_asks_for_sub_calls(demo: Demo) -> None:
    assert ["llm_query" in question.text for question in demo.questions] == [False, False, True]


def test_the_trajectory_has_the_code_that_the_model_wrote() -> None:
    trajectory = DemoTurns()
    usage = Usage(input_tokens=9, output_tokens=1)
    ran = CellRan(
        turn=1, block=1, code="x = 1\nprint(x)", output="1" * 700, error=None, seconds=0.5, calls=2,
        failed_calls=0, state_lost=False,
    )  # fmt: skip
    events: list[Event] = [
        MessageAdded(turn=1, role="user", text="a long prompt"),
        RootReplied(turn=1, model="m", usage=usage, finish_reason="stop", seconds=1),
        SubCallsAnswered(first_call_id="c", calls=2, failed=0, from_store=0, seconds=0.5),
        ran,
        JobEnded(state=JobState.SUCCEEDED, answer="42", error=None, iterations=2),
    ]
    assert [line for event in events for line in trajectory.lines(event)] == [
        "── turn 1",
        "  reply of m: 9 tokens in, 1 out, 1.0 s",
        "  2 sub-calls answered in 0.5 s",
        "  code block 1: 0.5 s, 2 sub-calls",
        "    > x = 1",
        "    > print(x)",
        f"    {'1' * 500} [… 200 more characters]",
    ]
    assert ran.output == "1" * 700
