"""A job that reaches a limit: calls are refused, a note says so, and one turn is left."""

import hashlib
import json
from typing import Any

import pytest

from rlm_dist.engine.blocks import MOST_BLOCKS
from rlm_dist.engine.journal import PARTIAL_BYTES, BudgetHint
from rlm_dist.engine.loop import LAST_OUTPUT_CHARS
from rlm_dist.errors import LimitExceeded
from rlm_dist.schema import CellResult, JobLimits, JobState, ReachedLimit
from tests.support.fake_repl import FakeRepl, Run, reply

ASK = "```repl\nask()\n```"
CALLS = ReachedLimit("max_sub_calls", 5, 5)
MONEY = ReachedLimit("max_usd", 0.09, 0.1, 0.02)


class LimitedRepl(FakeRepl):
    """A REPL in which each ``ask(*limits)`` is refused for these limits."""

    def __init__(self) -> None:
        self._met: list[ReachedLimit] = []
        super().__init__(ask=self._ask)

    def _ask(self, *limits: ReachedLimit) -> None:
        self._met += limits or [CALLS]

    def run(self, code: str, began_ns: int, turn: int = 0, /) -> CellResult:
        self._met.clear()
        result = super().run(code, began_ns)
        return CellResult(**{**vars(result), "limits": tuple(self._met)})


def run(*steps: Any, **fields: Any) -> Run:
    return Run(*steps, repl=LimitedRepl(), **fields)


def test_the_model_is_told_and_answers_from_what_it_has() -> None:
    done = run(ASK, "FINAL(best guess)")
    assert (done.outcome.state, done.answer) == (JobState.SUCCEEDED, "best guess")
    assert done.outcome.limits_reached == ("max_sub_calls",)
    said = done.script.last_message()
    assert "limit max_sub_calls reached: 5 of 5 used" in said
    assert "your last turn" in said
    assert done.marks() == ["limit_reached"]


def test_without_an_answer_in_the_last_turn_the_job_is_exhausted() -> None:
    done = run("```repl\nanswer['content'] = 'draft'\nask()\n```", "Hm.")
    assert (done.outcome.state, done.outcome.partial_answer) == (JobState.EXHAUSTED, "draft")
    assert done.outcome.error is not None
    assert done.outcome.error.message == "limit max_sub_calls reached: 5 of 5 used"
    assert done.outcome.limits_reached == ("max_sub_calls",)


def test_an_answer_in_the_block_that_met_the_limit_counts() -> None:
    done = run("```repl\nask()\nFINAL(4)\n```")
    assert (done.answer, done.outcome.limits_reached) == ("4", ("max_sub_calls",))


def test_the_last_turn_may_run_code_and_meet_another_limit() -> None:
    repl = LimitedRepl()
    repl.space["money"] = MONEY
    done = Run(ASK, "```repl\nask(money)\nFINAL(1)\n```", repl=repl)
    assert (done.answer, done.outcome.limits_reached) == ("1", ("max_sub_calls", "max_usd"))


def test_a_budget_with_room_for_one_turn_makes_the_next_one_the_last() -> None:
    done = run("Hm.", "FINAL(1)", budget=lambda chars: BudgetHint(None, MONEY))
    assert (done.answer, done.outcome.limits_reached) == ("1", ("max_usd",))
    assert "max_usd reached: $0.09 of $0.1 used or reserved" in done.script.last_message()
    exhausted = run("Hm.", "Hm.", budget=lambda chars: BudgetHint(None, MONEY))
    assert exhausted.outcome.state is JobState.EXHAUSTED


def test_the_budget_is_asked_with_the_size_of_the_next_request() -> None:
    asked: list[int] = []

    def budget(chars: int) -> BudgetHint:
        asked.append(chars)
        return BudgetHint()

    done = run("```repl\nprint('x' * 500)\n```", "FINAL(1)", budget=budget)
    assert asked == [sum(len(message.content) for message in done.script.chats[-1])]


def test_less_of_an_output_is_shown_before_the_last_turn() -> None:
    done = run(f"```repl\nprint('x' * {3 * LAST_OUTPUT_CHARS})\nask()\n```", "FINAL(1)")
    assert LAST_OUTPUT_CHARS / 2 < len(done.script.last_message()) < LAST_OUTPUT_CHARS + 1000


def test_a_limit_of_turns_is_named_too() -> None:
    assert run("Hm.", limits=JobLimits(max_iterations=1)).outcome.limits_reached == ("max_iterations",)


def test_a_run_goes_on_from_every_place_in_the_journal_of_a_job_at_its_limit() -> None:
    steps = ["Hm.", ASK, "FINAL(1)"]
    whole = run(*steps, budget=lambda chars: BudgetHint("Little is left."))
    for kept in range(len(whole.written) + 1):
        known = whole.written[:kept]
        replies = sum('"t":"reply"' in entry for entry in known)
        again = run(*steps[replies:], journal=known, budget=lambda chars: BudgetHint("Little is left."))
        assert again.outcome == whole.outcome
        if replies < len(steps):
            assert again.script.chats[-1] == whole.script.chats[-1]


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (CALLS, "limit max_sub_calls reached: 5 of 5 used"),
        (MONEY, "limit max_usd reached: $0.09 of $0.1 used or reserved, and the next call needs about $0.02"),
        (
            ReachedLimit("max_tokens", 0, 100, 1000),
            "the first call needs about 1,000 tokens; max_tokens is 100",
        ),
        (
            ReachedLimit("batch_max_usd", 0, 0.001, 0.02),
            "the first call needs about $0.02; batch_max_usd is $0.001",
        ),
        (ReachedLimit("max_seconds", 5.1, 5), "limit max_seconds reached: 5.1 of 5 used"),
    ],
)
def test_what_an_error_says_of_a_limit(limit: ReachedLimit, text: str) -> None:
    assert str(LimitExceeded(*limit)) == text


def blocks(n: int) -> str:
    return "\n\n".join(f"```repl\nn = {number}\n```" for number in range(n))


def test_of_a_reply_with_many_blocks_the_first_ones_run() -> None:
    done = run(blocks(MOST_BLOCKS + 10), "FINAL(1)")
    assert len(done.repl.ran) == MOST_BLOCKS
    said = done.script.last_message()
    assert f"Blocks {MOST_BLOCKS + 1} to {MOST_BLOCKS + 10} were not run" in said
    assert f"only the first {MOST_BLOCKS} blocks of a reply are run" in said


def test_a_job_of_an_earlier_version_goes_on_with_all_blocks_that_it_ran() -> None:
    first = run(blocks(MOST_BLOCKS), "FINAL(1)")
    cell = json.loads(first.written[MOST_BLOCKS])
    assert (cell["t"], cell["block"]) == ("cell", MOST_BLOCKS - 1)
    more = {**cell, "block": MOST_BLOCKS, "code": hashlib.sha256(f"n = {MOST_BLOCKS}".encode()).hexdigest()}
    replies = [reply(blocks(MOST_BLOCKS + 1)).model_dump(mode="json")]
    old = [json.dumps({"v": 1, "t": "reply", "turn": 0, "completion": one}) for one in replies]
    done = run("FINAL(1)", journal=[*old, *first.written[1 : MOST_BLOCKS + 1], json.dumps(more)])
    assert len(done.repl.ran) == MOST_BLOCKS + 1


def test_a_journal_that_is_full_ends_the_job_with_its_draft() -> None:
    def append(entry: str) -> None:
        if '"cell"' in entry:
            raise LimitExceeded("max_job_bytes", 101, 100)

    done = run("```repl\nanswer['content'] = 'draft'\n```", append=append)
    assert (done.outcome.state, done.outcome.partial_answer) == (JobState.EXHAUSTED, "draft")
    assert done.outcome.limits_reached == ("max_job_bytes",)
    assert done.outcome.error is not None
    assert done.outcome.error.message == "limit max_job_bytes reached: 101 of 100 used"


def test_a_draft_is_cut_to_a_mebibyte_however_the_job_ends() -> None:
    budget = lambda chars: BudgetHint(None, MONEY)  # noqa: E731
    written = run("```repl\nanswer['content'] = 'a' * 3_000_000\n```", "Hm.", budget=budget)
    said = run("Hm.", "a" * 3_000_000, budget=budget)
    for done in (written, said):
        assert PARTIAL_BYTES - 200 < len(done.outcome.partial_answer or "") <= PARTIAL_BYTES
