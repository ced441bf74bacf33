"""A job's program runs as its first turn; the root model is asked only if that hands in no answer."""

import pytest

from rlm_dist.client.options import read_options
from rlm_dist.errors import InputError
from rlm_dist.schema import JobLimits, JobState
from rlm_dist.schema.events import RootReplied
from tests.support.fake_repl import FakeRepl, Run, spec


def test_a_program_that_hands_in_the_answer_asks_no_model() -> None:
    run = Run(program="FINAL(len(context))")
    assert (run.outcome.state, run.answer, run.outcome.answer_json) == (JobState.SUCCEEDED, "9", 9)
    assert run.outcome.iterations == 0
    (replied,) = (event for event in run.events if isinstance(event, RootReplied))
    assert (replied.turn, replied.model, replied.usage.total) == (0, "program", 0)


def test_the_model_goes_on_from_its_variables_and_its_output() -> None:
    run = Run("```repl\nFINAL(n + 1)\n```", program="n = len(context)\nprint('found', n)\n")
    assert run.answer == "10"
    (chat,) = run.script.chats
    assert [message.role for message in chat] == ["system", "user", "assistant", "user"]
    assert chat[2].content == "```repl\nn = len(context)\nprint('found', n)\n```"
    assert "found 9" in chat[3].content
    assert "reply" not in chat[3].content.lower()  # nothing is wrong with its form


@pytest.mark.parametrize(
    "program", ["text = '''\n```\nFINAL(1)\n```\n'''\nFINAL(2)", "'<think>'\nFINAL(2)", "FINAL(2) # FINAL(1)"]
)
def test_whatever_stands_in_it_it_is_one_block(program: str) -> None:
    run = Run(program=program)
    assert run.answer == "2"
    assert run.repl.ran == [program]


def test_its_turn_counts() -> None:
    run = Run(program="print(1)", limits=JobLimits(max_iterations=1))
    assert (run.outcome.state, run.answer, run.outcome.limits_reached) == (
        JobState.EXHAUSTED, None, ("max_iterations",),
    )  # fmt: skip
    assert run.outcome.partial_answer is None


def test_a_resumed_job_runs_it_again_and_asks_nothing_again() -> None:
    first = Run("```repl\nFINAL(n)\n```", program="n = 4")
    repl = FakeRepl()
    again = Run(program="n = 4", journal=first.written, repl=repl)
    assert (again.answer, repl.ran) == ("4", ["n = 4", "FINAL(n)"])
    assert [event.replayed for event in again.events if isinstance(event, RootReplied)] == [True, True]


def test_a_job_without_one_is_stored_as_before() -> None:
    assert "program" not in spec().model_dump()
    assert spec(program="x").model_dump()["program"] == "x"


def test_it_is_bounded_and_an_error_does_not_show_it() -> None:
    assert read_options({"program": "x" * 100_000}).program == "x" * 100_000
    with pytest.raises(InputError, match="program") as caught:
        read_options({"program": "secret" * 20_000})
    assert "secret" not in str(caught.value)
