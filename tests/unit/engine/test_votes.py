"""How the outcomes of a job's samples become one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_dist.engine import votes
from rlm_dist.schema import ErrorInfo, JobState, Outcome


def gave(answer: str, value: Any = None) -> Outcome:
    return Outcome(state=JobState.SUCCEEDED, answer=answer, answer_json=value, iterations=2)


def failed(kind: str = "LimitExceeded", state: JobState = JobState.EXHAUSTED) -> Outcome:
    return Outcome(state=state, error=ErrorInfo(type=kind, message="why"), iterations=1, partial_answer="d")


def count(*outcomes: Outcome) -> votes.Ballot:
    return votes.majority(dict(enumerate(outcomes)))


def test_the_answer_of_most_samples_is_that_of_the_first_of_them() -> None:
    ballot = count(gave("Bob"), gave("Alice  Smith"), gave(" alice smith "))
    assert (ballot.outcome.state, ballot.outcome.answer, ballot.tied) == (
        JobState.SUCCEEDED,
        "Alice  Smith",
        False,
    )
    assert [(vote.answer, vote.count, vote.samples) for vote in ballot.outcome.votes] == [
        ("Alice  Smith", 2, (1, 2)),
        ("Bob", 1, (0,)),
    ]
    assert ballot.outcome.iterations == 6


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (gave("42", 42), gave("42"), True),
        (gave("42.0", 42.0), gave(" 42 "), True),
        (gave('{"a": 1, "b": [2]}', {"a": 1, "b": [2]}), gave('{"b":[2.0],"a":1}'), True),
        (gave('{"a": 1}', {"a": 1}), gave('{"A": 1}', {"A": 1}), False),
        (gave("True", True), gave("true"), True),
        (gave("1", 1), gave("True", True), False),
        (gave("null"), gave(""), False),
        (gave("one\ntwo"), gave("One Two"), True),
        (gave("9" * 5000), gave("9" * 5000), True),
        (gave("[" * 5000), gave("[" * 5000), True),
    ],
)
def test_answers_are_compared_without_case_and_white_space_and_as_json(
    one: Outcome, other: Outcome, same: bool
) -> None:
    assert (len(votes.candidates({0: one, 1: other})) == 1) is same


def test_of_answers_that_are_tied_that_of_the_lowest_sample_number_wins() -> None:
    ballot = count(gave("b"), gave("a"), gave("a"), gave("b"), gave("c"))
    assert (ballot.outcome.answer, ballot.tied) == ("b", True)


@pytest.mark.parametrize("answers", ["ab", "abc", "abcde"])
def test_answers_that_are_all_different_are_no_success(answers: str) -> None:
    outcome = count(*map(gave, answers)).outcome
    assert (outcome.state, outcome.answer, outcome.reason) == (JobState.EXHAUSTED, None, votes.NO_MAJORITY)
    assert outcome.partial_answer is not None
    assert all(f"Sample {n}: {text}" in outcome.partial_answer for n, text in enumerate(answers, 1))


def test_half_of_the_samples_are_enough_and_less_are_not() -> None:
    assert count(gave("a"), failed()).outcome.answer == "a"
    outcome = count(
        gave("a"), failed(), failed("auth", JobState.FAILED), failed("auth", JobState.FAILED)
    ).outcome
    assert (outcome.state, outcome.answer, outcome.partial_answer) == (JobState.FAILED, None, "a")
    assert outcome.error is not None
    assert outcome.error.type == "auth"
    assert "1 of 4 samples have an answer" in outcome.error.message


def test_if_all_fail_the_first_of_the_most_frequent_failures_is_told() -> None:
    outcome = count(
        failed("auth", JobState.FAILED), failed(), failed(), failed("auth", JobState.FAILED)
    ).outcome
    assert (outcome.state, outcome.error and outcome.error.type) == (JobState.FAILED, "auth")


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9).flatmap(
    lambda answers: st.tuples(st.just(answers), st.permutations(answers))
))  # fmt: skip
def test_the_order_of_the_samples_does_not_change_the_count(pair: tuple[list[str], list[str]]) -> None:
    counts = [
        {vote.answer: vote.count for vote in count(*map(gave, answers)).outcome.votes} for answers in pair
    ]
    assert counts[0] == counts[1]
    assert sum(counts[0].values()) == len(pair[0])


@given(st.lists(st.one_of(st.sampled_from("abc").map(gave), st.just(failed())), min_size=1, max_size=9))
def test_a_majority_of_all_samples_always_wins_and_a_single_vote_never_against_others(
    outcomes: list[Outcome],
) -> None:
    outcome = count(*outcomes).outcome
    answers = [item.answer for item in outcomes if item.answer]
    for answer in "abc":
        if 2 * answers.count(answer) > len(outcomes):
            assert outcome.answer == answer
    if outcome.answer is not None:
        won = answers.count(outcome.answer)
        assert won == max(answers.count(answer) for answer in "abc")
        assert won > 1 or set(answers) == {outcome.answer}
        assert 2 * len(answers) >= len(outcomes)


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ('{"choice": 2}', 1), (' {"choice":1}\n', 0), ('{"choice": 3}', None), ('{"choice": 0}', None),
        ('{"choice": true}', None), ('{"choice": "1"}', None), ('{"choice": 1, "why": "x"}', None),
        ("1", None), ("the first", None), (None, None), ("", None), ("[" * 9999, None),
    ],
)  # fmt: skip
def test_a_judge_names_an_answer_by_its_number_and_in_no_other_form(
    reply: str | None, choice: int | None
) -> None:
    assert votes.choice_of(reply, 2) == choice


def test_a_judge_sees_the_task_and_the_different_answers_without_their_votes() -> None:
    outcomes = {0: gave("x" * 20_000), 1: gave("Bob"), 2: gave("bob")}
    prompt = votes.judge_prompt("Who?", votes.candidates(outcomes))
    text = prompt[-1].content
    assert "Who?" in text
    assert text.index("Answer 1:\nBob") < text.index("Answer 2:\nxxx")
    assert len(text) < 10_000
    assert votes.chosen(outcomes, 1).answer == "x" * 20_000
    again = votes.judged_again(prompt, "dunno")
    assert [message.role for message in again] == ["system", "user", "assistant", "user"]


def test_votes_are_left_out_of_what_has_none() -> None:
    assert "votes" not in json.loads(gave("a").model_dump_json())
