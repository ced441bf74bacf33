"""Chats that near the root model's window are cut, and a resumed job sends the same ones."""

import json
import random
from collections.abc import Callable, Sequence

import pytest

from rlm_dist.engine.compaction import RootWindow
from rlm_dist.engine.journal import BudgetHint
from rlm_dist.errors import CallError, FailureKind
from rlm_dist.schema import CHARS_PER_TOKEN, CellResult, Completion, JobLimits, JobState, Message
from tests.support.fake_repl import FakeRepl, Run, reply

HAND_IN = "```repl\nFINAL('done')\n```"


def printing(chars: int, turn: int) -> str:
    return f"I print.\n\n```repl\nn = {turn}\nprint('<{turn}>' + '{turn % 10}' * {chars})\n```"


def chars(chat: Sequence[Message]) -> int:
    return sum(len(message.content) for message in chat)


def known(tokens: int) -> RootWindow:
    return RootWindow(tokens=lambda: tokens)


def limits(turns: int) -> JobLimits:
    return JobLimits(max_iterations=turns + 1)


def check_form(chats: Sequence[Sequence[Message]]) -> None:
    """The opening is whole, and roles alternate."""
    for chat in chats:
        assert chat[:2] == chats[0][:2]
        assert [message.role for message in chat[1:]] == ["user", "assistant"] * (len(chat) // 2 - 1) + [
            "user"
        ]
        assert all(message.content.strip() for message in chat)


def refuse_above(window: int, *, names_it: bool) -> Callable[[Sequence[Message]], None]:
    """An endpoint with a window, in the words of ``llm.failures``."""

    def check(chat: Sequence[Message]) -> None:
        tokens = chars(chat) // CHARS_PER_TOKEN
        if tokens > window:
            words = f"the prompt has {tokens} tokens, the model's window is {window}"
            raise CallError(
                FailureKind.TOO_LONG, words if names_it else "the prompt exceeds the model's window"
            )

    return check


def test_thirty_long_outputs_finish_in_a_small_window_that_is_known() -> None:
    """No request is estimated above the window, and none is refused."""
    window = 12_000
    run = Run(
        *(printing(6000, turn) for turn in range(30)), HAND_IN, limits=limits(30), window=known(window),
        check=refuse_above(window, names_it=True),
    )  # fmt: skip
    assert run.answer == "done"
    assert run.script.refused == 0
    assert len(run.script.chats) == 31
    check_form(run.script.chats)
    assert "compacted" in run.marks()


@pytest.mark.parametrize("names_it", [True, False])
def test_a_window_is_learned_from_the_endpoints_error(names_it: bool) -> None:
    run = Run(
        *(printing(6000, turn) for turn in range(30)), HAND_IN, limits=limits(30),
        check=refuse_above(12_000, names_it=names_it),
    )  # fmt: skip
    assert run.answer == "done"
    assert 1 <= run.script.refused <= 3
    check_form(run.script.chats)


def test_an_old_turn_keeps_its_code_the_head_of_its_output_and_where_the_whole_is() -> None:
    run = Run(*(printing(6000, turn) for turn in range(8)), HAND_IN, limits=limits(8), window=known(12_000))
    first_cut = next(chat for chat in run.script.chats if len(chat) > 3 and "history[" in chat[3].content)
    assert first_cut[2].content == "```repl\nn = 0\nprint('<0>' + '0' * 6000)\n```"
    assert first_cut[3].content.startswith("Output of your code:\n<0>0000")
    assert first_cut[3].content.endswith("characters; the whole is in `history[0]`]")
    assert len(first_cut[3].content) < 400
    assert len(first_cut[-1].content) > 6000
    mark = next(event for event in run.events if event.event == "marked" and event.kind == "compacted")
    assert mark.detail.startswith("turns 1-")
    assert "→" in mark.detail


def test_the_window_is_told_to_others_once_learned() -> None:
    told: list[int] = []
    Run(
        *(printing(9000, turn) for turn in range(9)), HAND_IN, limits=limits(9),
        window=RootWindow(learned=told.append), check=refuse_above(12_000, names_it=True),
    )  # fmt: skip
    assert told == [12_000]


def test_what_does_not_fit_in_any_form_fails_with_a_clear_error() -> None:
    run = Run(
        printing(500, 0), limits=limits(5), check=refuse_above(500, names_it=True), all_used=False,
        query="q" * 3000,
    )  # fmt: skip
    assert run.outcome.state is JobState.FAILED
    assert run.outcome.error is not None
    assert run.outcome.error.type == "too_long"
    assert "older turns are cut" in run.outcome.error.message


def test_off_cuts_nothing() -> None:
    run = Run(
        *(printing(6000, turn) for turn in range(9)), limits=limits(9), compaction="off",
        check=refuse_above(12_000, names_it=True), all_used=False, window=known(12_000),
    )  # fmt: skip
    assert run.outcome.error is not None
    assert run.outcome.error.type == "too_long"
    assert run.marks() == []


def test_the_budget_is_asked_about_the_chat_as_it_will_be_sent() -> None:
    asked: list[int] = []

    def budget(size: int) -> BudgetHint:
        asked.append(size)
        return BudgetHint()

    Run(*(printing(6000, turn) for turn in range(20)), HAND_IN, limits=limits(20), window=known(12_000),
        budget=budget)  # fmt: skip
    assert max(asked) <= 12_000 * CHARS_PER_TOKEN


def test_after_the_loss_of_all_variables_no_history_is_promised() -> None:
    """The outputs from before are gone, and ``history`` counts from 0 again."""

    class Unlucky(FakeRepl):
        def run(self, code: str, began_ns: int, turn: int = 0, /) -> CellResult:
            if self.restarts == 1:  # the earlier cells are run again
                code = "lose()"
            return super().run(code, began_ns, turn)

    run = Run(
        printing(6000, 0), "```repl\nlose()\n```", *(printing(6000, turn) for turn in range(2, 9)), HAND_IN,
        limits=limits(9), window=known(12_000), repl=Unlucky(),
    )  # fmt: skip
    assert "state_lost" in run.marks()
    chat = next(chat for chat in run.script.chats if len(chat) > 7 and "history[" in chat[7].content)
    assert chat[3].content.endswith("characters; the whole is gone]")
    assert chat[7].content.endswith("the whole is in `history[0]`]")


def test_a_summary_stands_for_the_older_turns_and_is_asked_for_once() -> None:
    asked: list[str] = []

    def summarise(prompt: str) -> str:
        asked.append(prompt)
        return f"summary {len(asked)}"

    steps = [*(printing(6000, turn) for turn in range(16)), HAND_IN]
    window = RootWindow(tokens=lambda: 12_000, summarise=summarise)
    first = Run(*steps, limits=limits(16), compaction="summary", window=window)
    assert len(asked) > 1
    assert f"summary {len(asked)}" in first.script.chats[-1][3].content
    for number, prompt in enumerate(asked[1:], 1):
        assert f"the turns before:\nsummary {number}\n" in prompt
    check_form(first.script.chats)
    before = len(asked)
    again = Run(HAND_IN, journal=first.written[:-2], limits=limits(16), compaction="summary", window=window)
    assert len(asked) == before
    assert again.script.chats == first.script.chats[-1:]


def test_a_failed_summary_falls_back_to_the_cut() -> None:
    window = RootWindow(tokens=lambda: 12_000, summarise=lambda _: None)
    steps = [*(printing(6000, turn) for turn in range(16)), HAND_IN]
    cut = Run(*steps, limits=limits(16), window=known(12_000))
    failed = Run(*steps, limits=limits(16), compaction="summary", window=window)
    assert failed.script.chats == cut.script.chats


@pytest.mark.parametrize("seed", range(12))
def test_a_resumed_job_sends_the_same_chats_from_wherever_its_journal_ends(seed: int) -> None:
    """Random turns, outputs and token counts; the second worker knows another window."""
    draw = random.Random(seed)
    turns = draw.randrange(4, 20)
    window = draw.randrange(9000, 20_000)
    replies: list[Completion] = []
    for turn in range(turns):
        one = reply(draw.choice([printing(draw.randrange(9000), turn), "just words " * draw.randrange(99)]))
        usage = one.usage.model_copy(update={"input_tokens": draw.randrange(20_000)})
        replies.append(one.model_copy(update={"usage": usage}))
    steps = [*replies, reply(HAND_IN)]
    check = refuse_above(window, names_it=draw.random() < 0.5)
    first = Run(*steps, window=known(draw.choice([window, 2 * window])), limits=limits(turns), check=check)
    assert first.answer == "done"
    check_form(first.script.chats)
    for end in draw.sample(range(len(first.written) + 1), 10):
        journal = first.written[:end]
        answered = sum(json.loads(entry)["t"] == "reply" for entry in journal)
        knows = any(json.loads(entry)["t"] == "window" for entry in journal)
        later = Run(
            *steps[answered:], journal=journal, window=known(999) if knows else first.window,
            limits=limits(turns), check=check,
        )  # fmt: skip
        assert later.script.chats == first.script.chats[answered:]
        assert later.answer == "done"
