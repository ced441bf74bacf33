"""The root loop with a scripted model and a small REPL."""

import pytest

from rlm_dist.engine import loop
from rlm_dist.engine.failure_hints import FAILURE_HINTS
from rlm_dist.engine.journal import BudgetHint
from rlm_dist.errors import CallError, Cancelled, FailureKind, LimitExceeded, Superseded
from rlm_dist.schema import CellResult, JobLimits, JobState, Message
from tests.support.fake_repl import FakeRepl, Run, reply
from tests.support.garbage import freed_without_collector

LOOK = "```repl\nprint(context)\nn = len(context)\n```"
HAND_IN = "```repl\nFINAL(n)\n```"


def roles(messages: list[Message]) -> list[str]:
    return [message.role for message in messages]


def test_the_model_looks_at_the_context_and_hands_in_its_answer() -> None:
    """A job in two turns: the second sees the output of the first."""
    run = Run(LOOK, HAND_IN)
    assert (run.outcome.state, run.answer, run.outcome.answer_json) == (JobState.SUCCEEDED, "9", 9)
    assert run.outcome.iterations == 2
    assert "some text" in run.script.last_message()


def test_nothing_of_a_loop_stays_in_memory_after_its_end() -> None:
    with freed_without_collector(loop._Loop):
        assert Run(LOOK, "FINAL(n + 1)").answer == "10"


@pytest.mark.parametrize("prompts", ["coder", "frugal", "small"])
def test_roles_alternate_after_the_system_prompt(prompts: str) -> None:
    run = Run("", "words", "```json\n{}\n```", LOOK, HAND_IN, prompts=prompts)
    got = roles(run.script.chats[-1])
    assert got[0] == "system"
    assert got[1:] == ["user", "assistant"] * (len(got) // 2 - 1) + ["user"]
    assert all(message.content.strip() for message in run.script.chats[-1])


@pytest.mark.parametrize("value", ["''", "0", "False", "[]"])
def test_an_empty_value_is_an_answer(value: str) -> None:
    run = Run(f"```repl\nx = {value}\n```", "FINAL_VAR(x)")
    assert run.answer == str(eval(value))  # noqa: S307


@pytest.mark.parametrize("text", ["FINAL_VAR(x)", "FINAL(x)", "FINAL(None)", "FINAL()"])
def test_none_is_no_answer(text: str) -> None:
    run = Run("```repl\nx = None\n```", text, "FINAL(1)")
    assert run.answer == "1"
    assert "None is not an answer" in run.script.last_message()


def test_at_the_iteration_limit_the_last_words_are_a_partial_answer() -> None:
    run = Run("one", "two", limits=JobLimits(max_iterations=2))
    assert (run.outcome.state, run.answer, run.outcome.partial_answer) == (JobState.EXHAUSTED, None, "two")
    assert run.outcome.error is not None
    assert run.outcome.error.type == "LimitExceeded"
    assert "max_iterations" in run.outcome.error.message


@pytest.mark.parametrize("last", ["FINAL(4)", "4", "```repl\nFINAL(4)\n```"])
def test_one_more_reply_may_be_asked_for_at_the_limit(last: str) -> None:
    run = Run("hm", last, limits=JobLimits(max_iterations=1), ask_at_limit=True)
    assert run.answer == "4"
    assert "no turns left" in run.script.last_message()


@pytest.mark.parametrize(
    "last",
    [
        "I count.\n\nimport re\nprint(len(context))",
        '<tool_call>{"name": "search", "arguments": {"q": "x"}}</tool_call>',
        "```repl\nfor x in",
        "hits = [1]\nprint(hits)",
    ],
)
def test_code_and_tool_calls_in_the_last_reply_are_no_answer(last: str) -> None:
    run = Run("hm", last, limits=JobLimits(max_iterations=1), ask_at_limit=True)
    assert (run.outcome.state, run.answer) == (JobState.EXHAUSTED, None)


def test_a_cut_reply_without_code_is_said_to_be_cut() -> None:
    run = Run(reply("Let me think about", "length"), "FINAL(1)")
    assert "cut off at the length limit" in run.script.last_message()


@pytest.mark.parametrize(
    ("error", "state", "kind"),
    [
        (LimitExceeded("max_tokens", 11, 10), JobState.EXHAUSTED, "LimitExceeded"),
        (Cancelled("j1"), JobState.CANCELLED, "Cancelled"),
        (CallError("auth", "401"), JobState.FAILED, "auth"),
        (CallError("limit", "max_usd"), JobState.EXHAUSTED, "LimitExceeded"),
        (CallError("cancelled", "stopped"), JobState.CANCELLED, "Cancelled"),
        (CallError("unknown_model", "no model x"), JobState.FAILED, "unknown_model"),
    ],
)
def test_how_a_failed_call_ends_the_job(error: Exception, state: JobState, kind: str) -> None:
    run = Run("```repl\nanswer['content'] = 'draft'\n```", error)
    assert run.outcome.state is state
    assert run.outcome.partial_answer == "draft"
    assert run.outcome.error is not None
    assert run.outcome.error.type == kind


def test_superseded_goes_through() -> None:
    with pytest.raises(Superseded):
        Run(Superseded("j1", 2))


@pytest.mark.parametrize("code", ["answer['content'] = 'half'", "answer = 'half'"])
def test_a_limit_in_the_middle_of_a_cell_keeps_what_the_cell_left_in_answer(code: str) -> None:
    class Limited(FakeRepl):
        def run(self, code: str, began_ns: int, turn: int = 0, /) -> CellResult:
            super().run(code, began_ns)
            raise LimitExceeded("max_sub_calls", 5, 5)

    run = Run(f"```repl\n{code}\n```", repl=Limited())
    assert (run.outcome.state, run.outcome.partial_answer) == (JobState.EXHAUSTED, "half")


def test_every_kind_of_failure_that_ends_a_job_has_a_hint() -> None:
    """The others end no job as failed: a limit exhausts it, and the last two are no end."""
    others = {FailureKind.LIMIT, FailureKind.CANCELLED, FailureKind.RETURNED}
    assert set(FAILURE_HINTS) == set(FailureKind) - others


def test_a_budget_hint_goes_into_the_next_message_and_the_journal() -> None:
    run = Run(LOOK, HAND_IN, budget=lambda chars: BudgetHint("Less than a quarter is left."))
    assert run.script.last_message().splitlines()[-1] == "Less than a quarter is left."
    again = Run("FINAL(1)", journal=run.written[:3])
    assert again.script.last_message() == run.script.last_message()


def test_a_run_goes_on_from_every_place_in_its_journal() -> None:
    """If the journal is cut after any entry, the outcome is the same, and no journaled step is repeated."""
    steps = [
        LOOK,
        "```repl\nm = n * 2\nprint(m)\n```\n```repl\nlose()\n```",
        "words",
        "```repl\nFINAL(m)\n```",
    ]
    whole = Run(*steps)
    assert whole.answer == "18"
    for kept in range(len(whole.written) + 1):
        known = whole.written[:kept]
        replies = sum('"t":"reply"' in entry for entry in known)
        run = Run(*steps[replies:], journal=known)
        assert run.outcome == whole.outcome
        assert (
            known + run.written == whole.written or kept == 0 or len(run.written) == len(whole.written) - kept
        )
        if replies < len(steps):
            assert run.script.chats[-1] == whole.script.chats[-1]


def test_a_cell_that_is_run_again_sees_the_time_of_its_first_run() -> None:
    """This holds after its worker died and after the REPL died."""
    first = Run("```repl\nprint(began_ns)\n```", "```repl\nlose()\n```", "FINAL_VAR(began_ns)")
    assert first.marks() == ["state_rebuilt"]
    again = Run("FINAL_VAR(began_ns)", journal=first.written[:-1])
    assert again.marks() == ["state_rebuilt"]
    assert again.answer == first.answer


def test_a_cell_that_comes_out_otherwise_is_marked_and_the_chat_keeps_the_journal() -> None:
    first = Run(LOOK, HAND_IN)
    again = Run(HAND_IN, journal=first.written[:2], repl=FakeRepl(context="other words"))
    assert "some text" in again.script.last_message()
    assert again.marks() == ["replay_diverged"]


def test_a_cell_that_comes_out_otherwise_fails_the_job_where_that_is_wanted() -> None:
    first = Run(LOOK, HAND_IN)
    other = FakeRepl(context="other words")
    again = Run(journal=first.written[:2], repl=other, on_divergence="fail")
    assert (again.outcome.state, again.outcome.iterations) == (JobState.FAILED, 1)
    assert again.outcome.error is not None
    assert again.outcome.error.type == "replay_diverged"
    assert "turn 0, block 1" in again.outcome.error.message
    assert again.marks() == ["replay_diverged"]


def test_events_tell_the_whole_chat() -> None:
    run = Run(LOOK, HAND_IN)
    kinds = [event.event for event in run.events]
    assert kinds == ["message_added"] * 2 + ["root_replied", "message_added", "cell_ran", "message_added"] + [
        "root_replied",
        "message_added",
        "cell_ran",
    ]
