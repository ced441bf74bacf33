"""The scorers, by cases written out from the rules of the benchmarks' authors."""

import pytest

from rlm_dist.bench.quality.items import ScorerName, TaskItem
from rlm_dist.bench.quality.scorers import SCORERS, AnswerType, oolong_answer, score


def item(scorer: ScorerName, *expected: str, answer_type: str = "") -> TaskItem:
    return TaskItem(
        id="one",
        task="test",
        context="",
        query="What?",
        expected=expected,
        scorer=scorer,
        tokens=0,
        meta={"answer_type": answer_type} if answer_type else {},
    )


def test_each_name_has_a_scorer_and_no_answer_scores_nothing() -> None:
    assert set(SCORERS) == set(ScorerName)
    assert score(None, item(ScorerName.PAIRS_F1)) == 0
    assert score("", item(ScorerName.PAIRS_F1)) == 1


@pytest.mark.parametrize(
    ("answer", "expected", "share"),
    [
        ("The number is 1234567.", ["1234567"], 1),
        ("1234567", ["1234567"], 1),
        ("123456", ["1234567"], 0),
        ("1,234,567", ["1234567"], 0),
        ("DEEP BLUE", ["deep blue"], 1),
        ("deep blue", ["Deep Blue"], 1),
        ("one and three", ["one", "two", "three"], 2 / 3),
        ("12345678", ["1234567"], 1),  # RULER looks for the text anywhere
        ("", ["x"], 0),
    ],
)
def test_found_is_the_share_of_texts_in_the_answer(answer: str, expected: list[str], share: float) -> None:
    assert score(answer, item(ScorerName.FOUND, *expected)) == share


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("Label: entity", "entity"),
        ("entity", "entity"),
        (" entity", " entity"),  # without a colon a short answer stays as it is
        ("**entity**", "**entity**"),
        ("Label: **entity**", "entity"),
        ("**Label:** entity", " entity"),  # spaces are stripped before the marks
        ("**Label: entity**", "entity"),
        ("Label: [entity]", "entity"),
        ("Label: [human being]\n", "human being"),
        ("First: this. Then: that. Label: location", "location"),
        ("Label: entity, which is to say:", ""),  # the last colon ends the answer
        ("Label:", ""),
        ("", ""),
        ("x" * 19, "x" * 19),
        ("I counted them and it is entity", "entity"),  # 20 characters and more: the last word
        ("the answer is the human being", "being"),
        ("the label is ** entity **", "**"),
        (" " * 25, ""),
        ("Label: description and abstract concept", "description and abstract concept"),
        ("Answer: entity is more common than location", "more common"),
        ("Answer: entity is less common than location", "less common"),
        ("Answer: entity is same frequency as location", "same frequency"),
        ("Answer: a is more common", "a is more common"),  # 16 characters: not cut
        ("Answer: more common than", "more common than"),
        ("Answer: more common than I thought, less common than x", "more common"),
        ("Answer: MORE COMMON THAN THE OTHERS", "MORE COMMON THAN THE OTHERS"),
        ("entity is more common than location", "location"),  # no colon
        ("Date: 2023-03-15 00:00:00", "00"),
        ("Answer: ** 12**", " 12"),
    ],
)
def test_the_text_that_oolong_reads(answer: str, read: str) -> None:
    assert oolong_answer(answer) == read


@pytest.mark.parametrize(
    ("answer", "gold", "answer_type", "points"),
    [
        ("Label: entity", "entity", "LABEL", 1),
        ("**Label:** entity", "entity", "LABEL", 0),
        ("Label: Entity", "entity", "LABEL", 0),  # the case counts
        ("Label: entity.", "entity", "LABEL", 0),
        ("Label: description and abstract concept", "description and abstract concept", "LABEL", 1),
        ("It is human being", "human being", "LABEL", 0),
        ("User: 12345", "12345", "USER", 1),
        ("User: [12345]", "12345", "USER", 1),
        ("User: 12346", "12345", "USER", 0),  # near is nothing, but for numbers
        ("Answer: 7", "7", "NUMERIC", 1),
        ("7", "7", "NUMERIC", 1),
        ("Answer: 8", "7", "NUMERIC", 0.75),
        ("Answer: 5", "7", "NUMERIC", 0.75**2),
        ("Answer: -1", "2", "NUMERIC", 0.75**3),
        ("Answer: ** 7**", "7", "NUMERIC", 1),
        ("Answer: 07", "7", "NUMERIC", 1),
        ("Answer: 7.0", "7", "NUMERIC", 0),
        ("Answer: 1,007", "1007", "NUMERIC", 0),
        ("Answer: seven", "7", "NUMERIC", 0),
        ("Answer: 7 lines", "7", "NUMERIC", 0),
        ("I think that there are 7", "7", "NUMERIC", 1),  # the last word
        ("I think that there are 7.", "7", "NUMERIC", 0),
        ("Answer: 9" + "9" * 400, "7", "NUMERIC", 0),
        ("Answer: a is more common than b, surely", "more common than", "COMPARISON", 1),
        ("Answer: more common", "more common than", "COMPARISON", 1),
        ("Answer: more common than", "more common than", "COMPARISON", 1),
        ("Answer: less common", "more common than", "COMPARISON", 0),
        ("Answer: same frequency", "same frequency as", "COMPARISON", 1),
        ("Answer: the same", "same frequency as", "COMPARISON", 0),
        ("more common", "more common than", "COMPARISON", 1),
        ("Answer: more common", "7", "NUMERIC", 0),
        ("Date: Mar 15, 2023", "2023-03-15", "DATE", 1),
        ("Date: March 15, 2023", "2023-03-15", "DATE", 1),
        ("Date: [2023-03-15]", "2023-03-15", "DATE", 1),
        ("Date: 15 March 2023", "2023-03-15", "DATE", 1),
        ("Date: 03/15/2023", "2023-03-15", "DATE", 1),
        ("Date: 3/4/2023", "2023-03-04", "DATE", 1),  # the month first
        ("Date: Wednesday, March 15th, 2023", "2023-03-15", "DATE", 1),
        ("Date: Mar 16, 2023", "2023-03-15", "DATE", 0),
        ("Date: Mar 15", "2023-03-15", "DATE", 0),
        ("Date: 2023", "2023-01-01", "DATE", 0),
        ("Date: March 2023", "2023-03-01", "DATE", 0),
        ("Date: on Mar 15, 2023", "2023-03-15", "DATE", 1),
        ("Date: 2023-03-15 12:00", "2023-03-15", "DATE", 0),
        ("Date: 2023-03-15 XYZ", "2023-03-15", "DATE", 0),
        ("Date: 2023-03-15 UTC", "2023-03-15", "DATE", 0),  # is another type of time than the gold
        ("Date: never", "2023-03-15", "DATE", 0),
        ("Date:", "2023-03-15", "DATE", 0),
        ("Answer: March 2023", "March 2023", "MONTH_YEAR", 1),
        ("Answer: Mar 2023", "March 2023", "MONTH_YEAR", 0),
        ("", "entity", "LABEL", 0),
    ],
)
def test_oolong(answer: str, gold: str, answer_type: str, points: float) -> None:
    assert AnswerType(answer_type)
    found = score(answer, item(ScorerName.OOLONG, gold, answer_type=answer_type))
    assert found == pytest.approx(points, abs=1e-9)


def test_of_a_tie_oolong_reads_only_the_first() -> None:
    tied = item(ScorerName.OOLONG, "entity", "location", answer_type="LABEL")
    assert score("Label: entity", tied) == 1
    assert score("Label: location", tied) == 0
    assert score("Label: entity, location", tied) == 0


@pytest.mark.parametrize(
    ("answer", "expected", "points"),
    [
        ("(1, 2)\n(1, 3)", ["(1, 2)", "(1, 3)"], 1),
        ("(2, 1)\n(3,1)", ["(1, 2)", "(1, 3)"], 1),  # the order does not count
        ("(1, 2) and (2, 1) and ( 1 , 2 )", ["(1, 2)"], 1),
        ("[(1, 2), (1, 3)]", ["(1, 2)", "(1, 3)"], 1),
        ("(1, 2)", ["(1, 2)", "(1, 3)"], 2 / 3),  # precision 1, recall 1/2
        ("(1, 2)\n(1, 3)\n(1, 4)\n(1, 5)", ["(1, 2)"], 0.4),  # precision 1/4, recall 1
        ("(1, 2)\n(3, 4)", ["(1, 2)", "(1, 3)"], 0.5),
        ("(4, 5)", ["(1, 2)"], 0),
        ("", ["(1, 2)"], 0),
        ("none", [], 1),
        ("(1, 2)", [], 0),
        ("1, 2", ["(1, 2)"], 0),
        ("(1, 1)", ["(1, 2)"], 0),
        ("Here are 3 pairs (of 5): (1, 2)", ["(1, 2)"], 1),
    ],
)
def test_pairs(answer: str, expected: list[str], points: float) -> None:
    assert score(answer, item(ScorerName.PAIRS_F1, *expected)) == pytest.approx(points)


@pytest.mark.parametrize(
    ("answer", "expected", "points"),
    [
        ("Ulm", ["Ulm"], 1),
        (" ulm. ", ["Ulm"], 1),
        ("**Ulm**", ["Ulm"], 1),
        ("Answer: Ulm", ["Ulm"], 1),
        ("**Final answer:** Ulm", ["Ulm"], 1),
        ("The final answer is: `Ulm`", ["Ulm"], 1),
        ('"New\n  Ulm"', ["New Ulm"], 1),
        ("Neu-Ulm", ["Ulm"], 0),
        ("It is Ulm", ["Ulm"], 0),
        ("Ulm", ["Bonn", "Ulm"], 1),
        ("", ["Ulm"], 0),
    ],
)
def test_exact(answer: str, expected: list[str], points: float) -> None:
    assert score(answer, item(ScorerName.EXACT, *expected)) == points


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B.", "B"),
        ("B) the second file", "B"),
        ("B: the second file", "B"),
        ("The correct answer is (B).", "B"),
        ("The correct answer is B", "B"),
        ("the **correct answer is B**", "B"),
        ("The correct answer is (A). No, wait. The correct answer is (B).", "B"),
        ("Answer: B", "B"),
        ("The answer is B, since A does not call it.", "B"),
        ("My answer: (B)", "B"),
        ("A file calls it", None),
        ("Because of what it imports", None),
        ("E", None),
        ("", None),
    ],
)
def test_choice(answer: str, letter: str | None) -> None:
    points = {name: score(answer, item(ScorerName.CHOICE, name)) for name in "ABCD"}
    assert points == {name: float(name == letter) for name in "ABCD"}


@pytest.mark.parametrize(
    ("answer", "expected", "points"),
    [
        ("42", ["42"], 1),
        ("There are 42 of 100.", ["42"], 0),  # the last number is read
        ("Of 100 there are 42.", ["42"], 1),
        ("42.0", ["42"], 1),
        ("1,234.50", ["1234.5"], 1),
        ("12,34", ["34"], 1),
        ("-3", ["-3"], 1),
        ("3", ["-3"], 0),
        ("$5.", ["5"], 1),
        ("7", ["6", "7"], 1),
        ("none", ["0"], 0),
        ("", ["0"], 0),
    ],
)
def test_number(answer: str, expected: list[str], points: float) -> None:
    assert score(answer, item(ScorerName.NUMBER, *expected)) == points
