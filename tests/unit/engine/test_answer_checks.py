"""An answer is accepted only if it has the form that was asked for, and if the review finds nothing wrong."""

import json
from typing import Any

import pytest

from rlm_dist.engine.answer_checks import Refusal
from rlm_dist.errors import AnswerCheckFailed
from rlm_dist.schema import JobLimits, JobState
from tests.support.fake_repl import FakeRepl, Run

COUNT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
GOOD = 'FINAL({"n": 4})'
LOOK = "```repl\nx = 1\n```"


def block(code: str) -> str:
    return f"```repl\n{code}\n```"


WAYS = {
    "FINAL in a block": ["```repl\nFINAL(VAL)\n```"],
    "FINAL of its JSON in a block": ["```repl\nimport json\nFINAL(json.dumps(VAL))\n```"],
    "FINAL of fenced JSON": ["```repl\nimport json\nFINAL('~~~json\\n' + json.dumps(VAL) + '\\n~~~')\n```"],
    "FINAL_VAR in a block": ["```repl\nv = VAL\nFINAL_VAR('v')\n```"],
    "FINAL_VAR in text": ["```repl\nv = VAL\n```", "FINAL_VAR(v)"],
    "a variable in text": ["```repl\nv = VAL\n```", "FINAL(v)"],
    "an expression in text": [LOOK, "FINAL(VAL)"],
    "JSON in quotes in text": [LOOK, "FINAL('J')"],
    "answer dict": ["```repl\nanswer['content'] = VAL\nanswer['ready'] = True\n```"],
}


def steps_of(way: str, value: Any) -> list[str]:
    return [step.replace("'J'", repr(json.dumps(value))).replace("VAL", repr(value)) for step in WAYS[way]]


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_conforms_is_accepted_however_it_is_handed_in(way: str) -> None:
    run = Run(*steps_of(way, {"n": 4}), response_schema=COUNT)
    assert (run.outcome.state, run.answer, run.outcome.answer_json) == (
        JobState.SUCCEEDED,
        '{"n": 4}',
        {"n": 4},
    )
    assert "answer_refused" not in run.marks()


@pytest.mark.parametrize("way", WAYS)
def test_one_that_does_not_is_told_to_the_model_which_goes_on(way: str) -> None:
    run = Run(*steps_of(way, {"n": "four"}), block(GOOD), response_schema=COUNT)
    assert run.outcome.answer_json == {"n": 4}
    assert "'four' is not of type 'integer'" in run.script.last_message()
    assert run.marks().count("answer_refused") == 1


@pytest.mark.parametrize(
    "given", ["'four'", "'{\"n\": NaN}'", "'{\"n\": 1e999}'", "'[' * 200_000", "[1, {2}]", "'{1: '"]
)
def test_what_is_no_json_is_refused(given: str) -> None:
    run = Run(block(f"FINAL({given})"), block(GOOD), response_schema=COUNT)
    assert run.outcome.answer_json == {"n": 4}
    assert "was not taken" in run.script.last_message()


@pytest.mark.parametrize(
    ("schema", "given", "answer", "value"),
    [
        ({"type": "string"}, "'5'", "5", "5"),
        ({"type": "string"}, "'plain words'", "plain words", "plain words"),
        ({"type": "string"}, "'{\"a\": 1}'", '{"a": 1}', '{"a": 1}'),
        ({"type": "string", "enum": ["yes"]}, "'\"yes\"'", "yes", "yes"),
        ({"enum": ["yes", "no"]}, "'yes'", "yes", "yes"),
        ({"type": ["integer", "string"]}, "'5'", "5", 5),
        ({"type": "integer"}, "' 5 '", "5", 5),
        ({"type": "integer"}, "5", "5", 5),
        ({"type": "boolean"}, "False", "false", False),
        ({"type": "null"}, "'null'", "null", None),
        ({"type": "array"}, "[]", "[]", []),
        ({"type": "array"}, "(1, 'ü')", '[1, "ü"]', [1, "ü"]),
    ],
)
def test_a_str_is_json_or_the_string_that_was_asked_for(
    schema: dict[str, Any], given: str, answer: str, value: object
) -> None:
    run = Run(block(f"FINAL({given})"), response_schema=schema)
    assert (run.answer, run.outcome.answer_json) == (answer, value)
    assert type(run.outcome.answer_json) is type(value)


def test_after_three_refused_answers_the_job_ends_with_the_last_as_its_draft() -> None:
    run = Run(block("FINAL('a')"), LOOK, block("FINAL('b')"), block("FINAL('c')"), response_schema=COUNT)
    assert (run.outcome.state, run.answer, run.outcome.partial_answer) == (JobState.EXHAUSTED, None, "c")
    assert run.outcome.error is not None
    assert run.outcome.error.type == "AnswerNotConforming"
    assert run.outcome.iterations == 4


def test_an_answer_refused_in_the_last_turn_is_the_partial_answer() -> None:
    run = Run(block("FINAL('a')"), response_schema=COUNT, limits=JobLimits(max_iterations=1))
    assert (run.outcome.state, run.outcome.partial_answer) == (JobState.EXHAUSTED, "a")
    run = Run("hm", '{"n": 7}', response_schema=COUNT, limits=JobLimits(max_iterations=1), ask_at_limit=True)
    assert run.outcome.answer_json == {"n": 7}


def test_the_blocks_after_a_refused_answer_are_said_to_be_not_run() -> None:
    run = Run(block("FINAL('a')") + "\n" + block("y = 1"), block(GOOD), response_schema=COUNT)
    assert "Block 2 was not run, because block 1 handed in an answer." in run.script.last_message()
    assert len(run.repl.ran) == 2


def test_the_variables_are_rebuilt_if_the_repl_died_with_a_refused_answer() -> None:
    run = Run(
        block("v = 4"),
        block("answer['content'], answer['ready'] = 'a', True\nlose()"),
        block("FINAL({'n': v})"),
        response_schema=COUNT,
    )
    assert run.outcome.answer_json == {"n": 4}


def test_the_schema_is_told_after_the_query_and_the_system_prompt_stays() -> None:
    plain = Run(block(GOOD))
    typed = Run(block(GOOD), response_schema=COUNT, quote_check="items.quote", query="How many {n}?")
    assert typed.script.chats[0][0] == plain.script.chats[0][0]
    told = typed.script.last_message(0)
    assert told.index("How many {n}?") < told.index(json.dumps(COUNT)) < told.index("`items.quote`")
    assert "Schema" not in plain.script.last_message(0)


class Reviewer:
    """Refuses these values."""

    def __init__(self, *refused: object) -> None:
        self.refused = refused
        self.seen: list[tuple[object, int]] = []

    def __call__(self, value: Any, turn: int) -> Refusal | None:
        self.seen.append((value, turn))
        return Refusal("validator", f"{value!r} is {{wrong}} \ud800") if value in self.refused else None


def test_a_review_sees_values_that_conform_and_its_reason_is_told() -> None:
    review = Reviewer({"n": 1})
    run = Run(block("FINAL(0)"), block("FINAL({'n': 1})"), block(GOOD), response_schema=COUNT, review=review)
    assert review.seen == [({"n": 1}, 1), ({"n": 4}, 2)]
    assert "{'n': 1} is {wrong} ?" in run.script.last_message()
    assert run.outcome.answer_json == {"n": 4}


def test_without_a_schema_the_answer_stays_as_it_is() -> None:
    review = Reviewer("one")
    run = Run(block("FINAL('one')"), block("FINAL('[2]')"), review=review)
    assert (run.answer, run.outcome.answer_json) == ("[2]", None)
    assert review.seen == [("one", 0), ("[2]", 1)]


def test_the_same_answer_is_reviewed_once() -> None:
    review = Reviewer("one")
    run = Run(*[block("FINAL('one')")] * 3, review=review)
    assert len(review.seen) == 1
    assert run.outcome.error is not None
    assert run.outcome.error.type == "AnswerNotConforming"


def test_a_check_that_cannot_be_made_fails_the_job_and_keeps_the_answer() -> None:
    def review(value: object, turn: int) -> Refusal | None:
        raise AnswerCheckFailed("validator a:b: raised ValueError")

    run = Run(block("FINAL('one')"), review=review)
    assert (run.outcome.state, run.answer, run.outcome.partial_answer) == (JobState.FAILED, None, "one")
    assert run.outcome.error is not None
    assert run.outcome.error.type == "AnswerCheckFailed"


def test_a_replayed_job_makes_the_same_decisions_without_asking_again() -> None:
    steps = [block("FINAL('a')"), block("FINAL({'n': 1})"), block("FINAL({'n': 1})\n# again"), block(GOOD)]
    first = Run(*steps[:2], block(GOOD), response_schema=COUNT, review=Reviewer({"n": 1}))
    for kept in range(len(first.written) + 1):
        review = Reviewer({"n": 1})
        missing = 3 - sum('"t":"reply"' in entry for entry in first.written[:kept])
        again = Run(
            *[steps[0], steps[1], block(GOOD)][3 - missing :],
            journal=first.written[:kept],
            repl=FakeRepl(),
            response_schema=COUNT,
            review=review,
        )
        assert again.outcome == first.outcome
        verdicts = sum('"t":"verdict"' in entry for entry in first.written[:kept])
        assert len(review.seen) == 2 - verdicts


def test_a_verdict_on_another_answer_is_not_taken() -> None:
    review = Reviewer("one")
    first = Run(block("FINAL('one')"), block("FINAL('two')"), review=review)
    other = [entry.replace('"answer":"', '"answer":"0') for entry in first.written]
    again = Run(journal=other, repl=FakeRepl(), review=review)
    assert again.answer == "two"
    assert len(review.seen) == 4
