"""The trajectory of a job, read back from its events and its journal: to the letter what was sent."""

from collections.abc import Sequence
from typing import Any

import pytest

from rlm_dist.engine.compaction import RootWindow
from rlm_dist.operations.trajectories import RunOfSample, is_whole, read_runs
from rlm_dist.schema import Message
from rlm_dist.schema.events import ChildrenAnswered, Event, Marked, MessageAdded, ToolCalled
from rlm_dist.schema.id_lists import pack_ids
from tests.support.fake_repl import FakeRepl, Run, reply, spec
from tests.support.trajectories import answered, call_ids, ran, replied, say, started

LOOK = "I look.\n\n```repl\nprint(len(context))\n```"
HAND_IN = "```repl\nFINAL('done')\n```"


def read(
    events: Sequence[Event], journal: Sequence[str] = (), *, succeeded: bool = True, **fields: Any
) -> RunOfSample:
    """The one sample of a job with these events."""
    runs = read_runs(spec(**fields), [started(), *events], journal, succeeded=succeeded)
    assert runs.keys() == {0}
    return runs[0]


def read_back(run: Run, **fields: Any) -> RunOfSample:
    return read(run.events, run.written, **fields)


def sent(run: RunOfSample) -> list[list[Message]]:
    """What the model was sent in each turn."""
    return [list(turn.sent or run.messages[: turn.reply]) for turn in run.turns]


def test_the_chat_and_the_code_are_those_of_the_run() -> None:
    run = Run(LOOK, "```repl\nprint(2)\n```\n\n```repl\n1 / 0\n```", HAND_IN)
    found = read_back(run)
    assert sent(found) == run.script.chats
    assert [found.messages[turn.reply].content for turn in found.turns][::2] == [LOOK, HAND_IN]
    assert found.messages[-1].role == "assistant"
    assert [turn.replied.turn for turn in found.turns] == [0, 1, 2]
    assert [turn.sent for turn in found.turns] == [None] * 3
    cells = [cell for turn in found.turns for cell in turn.cells]
    codes = ["print(len(context))", "print(2)", "1 / 0", "FINAL('done')"]
    assert [cell.ran.code.strip() for cell in cells] == codes
    assert cells[0].ran.output.strip() == "9"
    assert "ZeroDivisionError" in (cells[2].ran.error or "")


@pytest.mark.parametrize("mode", ["cut", "summary"])
def test_a_chat_that_was_cut_is_read_as_it_was_sent(mode: str) -> None:
    """Variables are lost in the middle, so the numbers of ``history`` are not those of the turns."""
    steps = [f"I print.\n\n```repl\nn = {n}\nprint('{n % 10}' * 6000)\n```" for n in range(20)]
    steps[4:4] = ["```repl\nlose()\n```", "Just words, no code."]
    window = RootWindow(tokens=lambda: 12_000, summarise=lambda _: "the gist")
    run = Run(
        *steps, HAND_IN, window=window, max_output_chars=6000, compaction=mode, limits={"max_iterations": 30}
    )
    found = read_back(run, compaction=mode)
    assert sent(found) == run.script.chats
    assert run.marks().count("compacted") > 1
    assert found.turns[0].sent is None
    assert found.turns[-1].sent is not None
    assert len(found.messages) == 2 * len(run.script.chats) + 1


def test_a_rebuild_that_fails_begins_the_history_again() -> None:
    steps = [f"```repl\nprint('{n % 10}' * 6000)\n```" for n in range(20)]
    again = "```repl\ntry:\n    seen\nexcept NameError:\n    seen = 1\nprint('x' * 6000)\n```"
    steps[2:2] = [again, "```repl\nlose()\n```"]
    run = Run(
        *steps, HAND_IN, repl=_LosesTwice(), window=RootWindow(tokens=lambda: 12_000),
        max_output_chars=6000, limits={"max_iterations": 30},
    )  # fmt: skip
    assert "state_lost" in run.marks()
    assert sent(read_back(run)) == run.script.chats


def test_a_job_that_was_taken_over_is_read_once() -> None:
    first = Run(LOOK, HAND_IN)
    again = Run(journal=first.written)
    found = read([*first.events[:5], started(2), *again.events], first.written)
    assert sent(found) == first.script.chats
    assert len(found.turns) == 2


def test_a_retry_replaces_what_came_before() -> None:
    first, second = Run(LOOK, "I give up.", LOOK, HAND_IN), Run(HAND_IN)
    found = read([*first.events, started(2), *second.events], second.written)
    assert sent(found) == second.script.chats


def test_a_job_without_an_answer_keeps_its_longest_run() -> None:
    """The second worker died before it had replayed anything."""
    run = Run(LOOK, HAND_IN)
    found = read([*run.events, started(2), *run.events[:2]], run.written, succeeded=False)
    assert sent(found) == run.script.chats


def test_samples_are_read_apart_and_one_that_was_not_run_again_stays() -> None:
    run, other = Run(LOOK, HAND_IN), Run("I know.", HAND_IN)
    of_one = [event.model_copy(update={"sample": 1}) for event in other.events]
    judged: list[Event] = [answered(call_ids(1)), Marked(turn=0, kind="judged")]
    events: list[Event] = [started(), *run.events[:3], *of_one, *run.events[3:], started(2), *judged]
    runs = read_runs(spec(samples=2), events, [], succeeded=True)
    assert sent(runs[0]) == run.script.chats
    assert sent(runs[1]) == other.script.chats


def test_calls_belong_to_the_block_that_made_them() -> None:
    ids = call_ids(7)
    tool = ToolCalled(name="find", call_id="t", seconds=1, ok=True, arguments="{}", result="3")
    events: list[Event] = [
        say(0, "system", "s"), say(0, "user", "q"), replied(0), say(0, "assistant", LOOK),
        answered(ids[:2]), answered(ids[2:3]), tool, ran(0, calls=3),
        ChildrenAnswered(turn=0, children=2, failed=0, seconds=1, job_ids=pack_ids(["c1", "c2"])),
        ran(0, 1), answered(ids[3:4]), say(0, "user", "out"),
        answered(ids[4:5]), replied(1), say(1, "assistant", LOOK), answered(ids[5:]),
    ]  # fmt: skip
    found = read(events)
    first, second = found.turns[0].cells
    assert (first.call_ids, second.call_ids) == (ids[:3], [])
    assert [tool.name for tool in first.tools] == ["find"]
    assert second.children == ["c1", "c2"]
    assert found.other_call_ids == ids[3:]  # a judge's, a summary's, and those of a block that did not end


@pytest.mark.parametrize(
    ("said", "finish", "problem"),
    [
        (LOOK, "stop", None),
        ("", "stop", "empty"),
        ("<think>What now?</think>", "stop", "empty"),
        (LOOK, "length", "cut_off"),
        ("```repl\nx = [1,", "stop", "cut_off"),
        ("I would look at it.", "stop", "not_parsed"),
        ("```bash\nls\n```", "stop", "not_parsed"),
        ("```repl\n1 / 0\n```", "stop", "code_error"),
        ("```repl\nlose()\n```", "stop", "code_error"),
    ],
)
def test_a_turn_says_why_it_is_no_example(said: str, finish: str, problem: str | None) -> None:
    run = Run(reply(said, finish), HAND_IN)
    assert [turn.problem for turn in read_back(run).turns] == [problem, None]


def test_an_answer_that_was_refused_is_no_example() -> None:
    schema = {"type": "integer"}
    run = Run("```repl\nFINAL('a')\n```", "```repl\nFINAL(1)\n```", response_schema=schema)
    assert [turn.problem for turn in read_back(run).turns] == ["refused", None]


def test_plain_words_that_became_the_answer_are_an_example() -> None:
    limits = {"max_iterations": 1}
    run = Run(LOOK, "It is 9.", limits=limits, ask_at_limit=True)
    assert run.answer == "It is 9."
    assert [turn.problem for turn in read_back(run).turns] == [None, None]
    assert [turn.problem for turn in read_back(run, succeeded=False).turns] == [None, "not_parsed"]


def test_a_program_is_no_reply_of_the_model_and_is_never_cut() -> None:
    """What a job's user wrote is in the chat, in the place of a first reply."""
    steps = [f"```repl\nprint('{n % 10}' * 6000)\n```" for n in range(12)]
    fields: dict[str, Any] = {"max_output_chars": 6000, "limits": {"max_iterations": 30}}
    window = RootWindow(tokens=lambda: 12_000)
    run = Run(*steps, HAND_IN, window=window, program="print('p' * 6000)", **fields)
    found = read_back(run, program="print('p' * 6000)")
    assert found.turns[0].problem == "program"
    assert [turn.problem for turn in found.turns[1:]] == [None] * 13
    assert sent(found)[1:] == run.script.chats
    assert any(turn.sent for turn in found.turns)


def test_a_reply_that_was_not_stored_is_no_turn() -> None:
    events: list[Event] = [say(0, "system", "s"), say(0, "user", "q"), replied(0)]
    assert read(events).turns == []


def test_a_message_that_is_missing_is_noticed() -> None:
    """A job without room for a long event leaves it out of its trace."""
    run = Run(LOOK, LOOK, HAND_IN)
    assert is_whole(read_back(run))
    said = [event for event in run.events if isinstance(event, MessageAdded)]
    for missing in said[:-1]:
        assert not is_whole(read([event for event in run.events if event is not missing], run.written))


class _LosesTwice:
    """A REPL that is lost again when its blocks are run again."""

    def __init__(self) -> None:
        self._repl = FakeRepl()
        self._restarts = 0

    def run(self, code: str, began_ns: int, turn: int) -> object:
        if self._restarts == 1 and "seen" in code:
            code = "lose()"
        return self._repl.run(code, began_ns, turn)

    def resolve(self, path: str) -> object:
        return self._repl.resolve(path)

    def restart(self) -> None:
        self._restarts += 1
        self._repl.restart()
