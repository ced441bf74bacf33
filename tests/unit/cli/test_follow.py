"""Following a job: progress on stderr, and Ctrl-C cancels it."""

from collections.abc import Iterator

import pytest

from rlm_dist.cli.follow import Progress, cost_note, follow, result_lines
from rlm_dist.cli.output import Output
from rlm_dist.schema import Costs, ErrorInfo, JobState, Result, Timing, Usage
from rlm_dist.schema.events import (
    CellRan,
    Event,
    JobEnded,
    Marked,
    MessageAdded,
    RootReplied,
    SubCallsAnswered,
)

ENDED = Result(
    id="j1",
    custom_id="j1",
    batch_id=None,
    state=JobState.SUCCEEDED,
    answer="42",
    answer_json=42,
    partial_answer=None,
    error=None,
    iterations=2,
    limits_reached=(),
    isolation="landlock",
    costs=Costs(total_cost=None, sub_llm_calls=1, root_llm_tokens=1200),
    timing=Timing(queued_s=0.1, run_s=2.25),
)
EVENTS: list[Event] = [
    MessageAdded(turn=0, role="user", text="go"),
    RootReplied(
        turn=0,
        model="m",
        usage=Usage(input_tokens=9, output_tokens=1, estimated=True),
        finish_reason="stop",
        seconds=1,
    ),
    SubCallsAnswered(first_call_id="c", calls=3, failed=0, from_store=0, seconds=0.5),
    CellRan(
        turn=0,
        block=1,
        code="x",
        output="",
        error="Traceback\nNameError: y",
        seconds=0.5,
        calls=3,
        failed_calls=0,
        state_lost=False,
    ),
    JobEnded(state=JobState.SUCCEEDED, answer="42", error=None, iterations=2),
]


class FakeJob:
    """A job whose events Ctrl-C can interrupt."""

    id = "j1"

    def __init__(self, *, interrupted: bool = False) -> None:
        self.cancelled = False
        self._interrupted = interrupted

    def events(self) -> Iterator[Event]:
        yield EVENTS[0]
        if self._interrupted:
            raise KeyboardInterrupt
        yield from EVENTS[1:]

    def result(self, timeout: float | None = None) -> Result:
        return ENDED.model_copy(update={"state": JobState.CANCELLED}) if self.cancelled else ENDED

    def cancel(self) -> None:
        self.cancelled = True


def test_a_job_is_followed_to_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(FakeJob(), Output()) == ENDED
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "job j1: waiting for a worker",
        "turn 1: asking the root model",
        "turn 1: replied in 1.0 s, about 9 tokens in, 1 out",
        "3 sub-calls done",
        "turn 1: code ran 0.5 s, 3 sub-calls done, NameError: y",
        "succeeded after 2 turns, 3 sub-calls done",
    ]


def test_the_line_after_an_observation_names_the_turn_that_comes() -> None:
    """The trace counts turns from 0, and an observation belongs to the turn that made it."""
    progress = Progress()
    texts = [progress.text(event) for event in (EVENTS[0], EVENTS[1], EVENTS[3], EVENTS[0])]
    assert [text.partition(":")[0] for text in texts] == ["turn 1", "turn 1", "turn 1", "turn 2"]


def test_marks_are_shown_in_words() -> None:
    failed = Marked(turn=0, kind="root_attempts_failed", detail="transient, rate")
    words = "attempts to ask the root model failed before it replied: transient, rate"
    assert Progress().text(failed) == words
    assert Progress().text(Marked(turn=0, kind="some_new_fact")) == "some new fact"


def test_ctrl_c_cancels_the_job_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    job = FakeJob(interrupted=True)
    assert follow(job, Output()).state is JobState.CANCELLED
    assert job.cancelled
    assert capsys.readouterr().err.splitlines()[-1] == "cancelling job j1"


def test_system_and_assistant_messages_are_no_progress() -> None:
    assert Progress().text(MessageAdded(turn=0, role="system", text="long")) == ""


def test_the_answer_is_shown_as_it_is_and_a_partial_one_as_partial() -> None:
    assert list(result_lines(ENDED)) == ["42"]
    partial = ENDED.model_copy(update={"answer": None, "partial_answer": "about 40"})
    assert list(result_lines(partial)) == ["[partial] about 40"]
    assert list(result_lines(ENDED.model_copy(update={"answer": None}))) == []


def test_the_last_note_says_what_it_took_and_why_it_ended() -> None:
    assert (
        cost_note(ENDED) == "succeeded: 2 turns, 1 sub-call, root 1,200 and sub 0 tokens, cost unknown, 2.2 s"
    )
    failed = ENDED.model_copy(
        update={"state": JobState.FAILED, "error": ErrorInfo(type="auth", message="key refused")}
    )
    assert cost_note(failed).startswith("failed (auth: key refused): 2 turns")
