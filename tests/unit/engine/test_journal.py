"""A journal runs a step once and returns its result afterwards."""

import json
import time
from dataclasses import replace

import pytest

from rlm_dist.engine.journal import PARTIAL_BYTES, BudgetHint, Journal, bounded_partial
from rlm_dist.schema import CellResult, Clipped, FinalValue
from tests.support.fake_repl import reply

CELL = CellResult(
    output=Clipped("he\ud800ad", "tail", 3),
    error="Traceback",
    final=FinalValue("[1]", [1], "FINAL"),
    partial="p",
    calls=2,
    failed_calls=1,
    truncated_calls=1,
    seconds=0.5,
)


def refuse() -> None:
    raise AssertionError("done again")


def test_what_was_written_comes_back_equal() -> None:
    written: list[str] = []
    journal = Journal([], written.append)
    journal.reply(0, lambda: reply("text"))
    journal.cell(0, 0, "x = 1", lambda _: CELL)
    journal.hint(0, BudgetHint)
    again = Journal(written, lambda _: refuse())
    assert again.reply(0, lambda: refuse()) == (reply("text"), True)  # type: ignore[arg-type,return-value]
    run = again.cell(0, 0, "x = 1", lambda _: CELL)
    assert (run.shown, run.actual, run.replayed, run.diverged) == (CELL, CELL, True, False)
    assert again.hint(0, lambda: BudgetHint("other")) == BudgetHint()


def test_a_cell_of_an_earlier_version_has_no_truncated_calls() -> None:
    written: list[str] = []
    Journal([], written.append).cell(0, 0, "x", lambda _: CELL)
    old = json.loads(written[0])
    del old["truncated_calls"]
    shown = Journal([json.dumps(old)], lambda _: refuse()).cell(0, 0, "x", lambda _: CELL).shown
    assert shown == replace(CELL, truncated_calls=0)


def test_a_half_journal_does_the_rest() -> None:
    written: list[str] = []
    Journal([], written.append).reply(0, lambda: reply("text"))
    journal = Journal(written, written.append)
    assert journal.cell(0, 0, "x", lambda _: CELL).replayed is False
    assert len(written) == 2


def test_entries_that_cannot_be_read_are_done_again() -> None:
    bad = [
        "",
        "{",
        "[]",
        '{"v":2,"t":"reply","turn":0}',
        '{"v":1,"t":"reply","turn":0}',
        '{"v":1,"t":"cell","turn":0}',
    ]
    written: list[str] = []
    journal = Journal(bad, written.append)
    assert journal.reply(0, lambda: reply("text")) == (reply("text"), False)
    assert journal.cell(0, 0, "x", lambda _: CELL).replayed is False


def test_a_cell_with_other_code_is_not_the_journaled_one() -> None:
    written: list[str] = []
    Journal([], written.append).cell(0, 0, "x", lambda _: CELL)
    assert Journal(written, written.append).cell(0, 0, "y", lambda _: CELL).replayed is False


def test_a_difference_is_told_and_the_journaled_outcome_shown() -> None:
    written: list[str] = []
    Journal([], written.append).cell(0, 0, "x", lambda _: CELL)
    run = Journal(written, written.append).cell(0, 0, "x", lambda _: CellResult())
    assert (run.shown, run.actual, run.diverged) == (CELL, CellResult(), True)


def test_a_cell_that_ended_the_repl_is_not_run_again() -> None:
    written: list[str] = []
    Journal([], written.append).cell(0, 0, "x", lambda _: CellResult(state_lost=True))
    run = Journal(written, written.append).cell(0, 0, "x", lambda _: refuse())  # type: ignore[arg-type,return-value]
    assert run.actual.state_lost


def test_a_cell_is_given_the_time_at_which_it_ran_first() -> None:
    written: list[str] = []
    given: list[int] = []

    def run(began_ns: int) -> CellResult:
        given.append(began_ns)
        return CELL

    before_ns = time.time_ns()
    Journal([], written.append).cell(0, 0, "x", run)
    Journal(written, written.append).cell(0, 0, "x", run)
    assert given[0] == given[1] >= before_ns
    old = [written[0].replace(f',"began_ns":{given[0]}', "")]
    Journal(old, written.append).cell(0, 0, "x", run)
    assert given[2] > given[1]


def test_a_draft_that_an_earlier_version_wrote_down_with_each_cell_is_the_same_again() -> None:
    written: list[str] = []
    Journal([], written.append).cell(0, 0, "c", lambda _: CellResult(partial="p"))
    again = Journal(written, written.append)
    assert not again.cell(0, 0, "c", lambda _: CellResult(partial=None)).diverged
    assert again.cell(0, 0, "c", lambda _: CellResult(partial="q")).diverged


def with_partial(text: str | None) -> CellResult:
    return replace(CELL, partial=text)


@pytest.mark.parametrize("text", ["a" * 3_000_000, "é" * 700_000, "\ud800" * 400_000])
def test_a_partial_answer_of_any_length_is_cut_to_a_mebibyte(text: str) -> None:
    written: list[str] = []
    shown = Journal([], written.append).cell(0, 0, "x", lambda _: with_partial(text)).shown
    assert shown.partial is not None
    assert len(shown.partial.encode("utf-8", "surrogatepass")) <= PARTIAL_BYTES
    assert f"the whole has {len(text):,} characters" in shown.partial
    assert bounded_partial(shown.partial) == shown.partial
    run = Journal(written, lambda _: refuse()).cell(0, 0, "x", lambda _: with_partial(text))
    assert (run.shown, run.diverged) == (shown, False)


def test_a_partial_answer_that_an_earlier_version_wrote_whole_is_cut_as_well() -> None:
    written: list[str] = []
    Journal([], written.append).cell(0, 0, "x", lambda _: CELL)
    old = json.dumps({**json.loads(written[0]), "partial": "a" * 3_000_000})
    run = Journal([old], lambda _: refuse()).cell(0, 0, "x", lambda _: with_partial("a" * 3_000_000))
    assert (run.replayed, run.diverged) == (True, False)
    assert len(run.shown.partial or "") <= PARTIAL_BYTES
