"""The scripted root and the rule-based sub model answer every kind of query over every kind of context."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from rlm_dist.schema import Message, Role, Usage
from rlm_dist.simulated import Fault, Latency, TokenSpeed, rules, scripts
from rlm_dist.simulated.faults import pick
from rlm_dist.simulated.tally import Tally

LINES = [
    "Who wrote it?",
    "How many apples are there?",
    "The magic number for k-17 is 48213.",
    "What is a quark?",
    "apples and pears",
    "Where is Rome?",
]
TEXT = "\n".join(LINES)
BLOCK = re.compile(r"```repl\n(.*?)```", re.S)


def play(
    query: str, context: object, *, fail_at: int | None = None, shots: Sequence[Message] = ()
) -> tuple[Any, int, int]:
    """Run the scripted root to its end in a bare REPL; returns the answer, the turns and the sub-calls."""
    handed: list[Any] = []
    asked: list[str] = []

    def llm_query(prompt: str) -> str:
        asked.append(prompt)
        return rules.answer([Message(role="user", content=prompt)])

    names: dict[str, Any] = {
        "context": context,
        "llm_query": llm_query,
        "llm_query_batched": lambda prompts: [llm_query(prompt) for prompt in prompts],
        "FINAL": handed.append,
        "answer": {"content": None, "ready": False},
    }
    chat = [
        Message(role="system", content="Use llm_query. Example: magic number for X?"),
        *shots,
        Message(
            role="user", content=f"Context: {type(context).__name__}. Answer this query.\n{query}\nBegin."
        ),
    ]
    for turn in range(10):
        said = scripts.reply(chat)
        for code in BLOCK.findall(said):
            exec(code, names)  # noqa: S102  # our own scripts
        if final := re.search(r"^FINAL_VAR\((\w+)\)$", said, re.M):
            handed.append(names[final[1]])
        if names["answer"]["ready"]:
            handed.append(names["answer"]["content"])
        if handed:
            return handed[0], turn + 1, len(asked)
        output = "Traceback (most recent call last):\nNameError: lost" if turn == fail_at else "fine"
        chat += [Message(role="assistant", content=said), Message(role="user", content=output)]
    raise AssertionError("no answer")


CONTEXTS: list[object] = [
    TEXT,
    LINES,
    dict(enumerate(LINES)),
    {"a": TEXT},
    [{"line": line} for line in LINES],
]


@pytest.mark.parametrize("context", CONTEXTS, ids=["str", "list", "dict", "one", "json"])
def test_a_needle_is_found(context: object) -> None:
    answer, turns, calls = play("What is the magic number for k-17?", context)
    assert (answer, turns) == ("48213", 3)
    assert calls >= 1


def test_a_needle_that_is_not_there_is_looked_for_everywhere() -> None:
    assert play("What is the magic number for k-99?", "no such thing\n" * 9000) == ("not found", 3, 8)


@pytest.mark.parametrize(
    "query", ["How many lines contain 'apples'?", 'how many lines contain the word "apples"?']
)
def test_lines_are_counted_in_code(query: str) -> None:
    for context in CONTEXTS:
        assert play(query, context) == (2, 3, 0)


def test_lines_are_labelled_one_call_each() -> None:
    labels = {
        "description and abstract concept": 0,
        "entity": 1,
        "human being": 1,
        "location": 1,
        "numeric value": 1,
        "other": 2,
    }
    answer, turns, calls = play("For each of the first 6 lines, label it by what it asks for.", TEXT)
    assert answer == {label: count for label, count in labels.items() if count}
    assert (turns, calls) == (3, 6)


def test_any_number_of_sub_calls_is_asked_for() -> None:
    answer, _, calls = play("Ask 500 sub-calls and tally their labels.", LINES)
    assert calls == 500 == sum(answer.values())


def test_any_other_query_is_put_to_the_sub_model() -> None:
    for context in [*CONTEXTS, 7, None]:
        answer, turns, calls = play("Write a haiku about {braces} and 'quotes' \\ \"more\".", context)
        assert "words, starting" in answer
        assert (turns, calls) == (3, 1)


def test_examples_before_the_query_are_told_from_it() -> None:
    """A prompt may open with whole example turns, whose queries and replies are not the run's."""
    shot = [
        Message(role="user", content="Question:\nHow many lines contain 'pears'?"),
        Message(role="assistant", content="```repl\nFINAL(3)\n```"),
    ]
    assert play("What is the magic number for k-17?", TEXT, shots=shot)[:2] == ("48213", 3)


def test_a_marked_question_is_put_alone_to_the_sub_model() -> None:
    chat = [Message(role="user", content="`context` is a str.\n\nQuestion:\nWhy {so}?\n\nBegin with a look.")]
    work = scripts.pick(scripts.query_text(chat)).work
    assert "Why {so}?" in work
    assert "Begin" not in work


@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_script_recovers_from_lost_variables(fail_at: int) -> None:
    assert play("How many lines contain 'apples'?", TEXT, fail_at=fail_at)[0] == 2


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("Who was it?", "human being"),
        ("How much is it?", "numeric value"),
        ("How does it work?", "description and abstract concept"),
        ("  WHERE is it?", "location"),
        ("However", "other"),
        ("", "other"),
        ("42", "other"),
    ],
)
def test_a_line_is_labelled_by_its_first_word(line: str, label: str) -> None:
    assert rules.label(line) == label


def test_the_sub_model_says_the_same_to_the_same_prompt() -> None:
    prompts = [[Message(role="user", content=text)] for text in ("one two", "one two", "three", "")]
    first, second, third, empty = (rules.answer(prompt) for prompt in prompts)
    assert first == second != third
    assert empty == rules.answer([])


def fired(fault: Fault, prompts: list[str]) -> list[bool]:
    """For each of these sub requests in order, whether the rule matches."""
    return [pick([fault], Role.SUB, n, prompt, 0) is not None for n, prompt in enumerate(prompts)]


def test_a_fault_matches_by_role_ordinal_and_text() -> None:
    prompts = ["a", "b", "ab"]
    assert fired(Fault(kind="html", role=Role.ROOT), prompts) == [False] * 3
    assert fired(Fault(kind="html", on=(0, 2)), prompts) == [True, False, True]
    assert fired(Fault(kind="html", contains="b"), prompts) == [False, True, True]
    assert pick([Fault(kind="html", on=(9,)), Fault(kind="hang")], Role.SUB, 0, "", 0) == Fault(kind="hang")


def test_a_fault_by_chance_can_be_repeated() -> None:
    prompts = [f"prompt {number}" for number in range(2000)]
    some = fired(Fault(kind="html", probability=0.2, seed=3), prompts)
    assert some == fired(Fault(kind="html", probability=0.2, seed=3), prompts)
    assert some != fired(Fault(kind="html", probability=0.2, seed=4), prompts)
    assert 300 < sum(some) < 500


def test_latency_is_the_same_for_the_same_ordinal() -> None:
    assert Latency(0.5).draw_s(3) == 0.5
    spread = Latency(0.5, sigma=0.4, seed=1)
    drawn = sorted(spread.draw_s(number) for number in range(999))
    assert spread.draw_s(3) == Latency(0.5, sigma=0.4, seed=1).draw_s(3)
    assert drawn[0] < 0.3 < 0.45 < drawn[499] < 0.55 < 0.8 < drawn[-1]


def test_tokens_take_their_time() -> None:
    """Time to begin for each request, then input and output at their rates."""
    speed = TokenSpeed(first_s=0.5, input_per_s=1000, output_per_s=10)
    assert speed.time_s(Usage(input_tokens=2000, output_tokens=30)) == 0.5 + 2 + 3
    assert speed.time_s(Usage(output_tokens=10), requests=4) == 2 + 1


@pytest.mark.parametrize("follow_up", [True, False])
def test_the_head_of_an_earlier_chat_is_cached(follow_up: bool) -> None:
    """A continued chat finds all of its earlier messages in the cache, another chat the system prompt."""
    tally = Tally()
    first = [Message(role="system", content="s" * 40), Message(role="user", content="u" * 20)]
    assert tally.answered("m", first, "a" * 8) == Usage(input_tokens=15, output_tokens=2)
    more = [Message(role="assistant", content="a" * 8), Message(role="user", content="v" * 4)]
    chat = first + more if follow_up else [first[0], Message(role="user", content="w" * 4)]
    assert tally.answered("m", chat, "").cached_tokens == (15 if follow_up else 10)
    assert tally.snapshot().answered == 2


def test_a_misspelt_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="kind"):
        Fault.model_validate({"kind": "explode"})
