"""OOLONG windows and questions: the format, the sizes, and answers that a solver finds in the text itself."""

import random
import re
from collections import Counter
from datetime import date

import pytest

from rlm_dist.bench.quality.counting import LineScope, counting_questions
from rlm_dist.bench.quality.items import TaskItem
from rlm_dist.bench.quality.labelled import LabelledSet
from rlm_dist.bench.quality.oolong import make_oolong
from rlm_dist.bench.quality.scorers import score
from rlm_dist.bench.quality.windows import LENGTHS, WindowLine, line_count, make_window
from rlm_dist.errors import InputError
from tests.support.labelled_sets import trec_like, two_labels
from tests.support.oolong_solver import parsed, solved

KINDS = {
    "counting": {"most_label", "least_label", "compare_labels", "count_label"},
    "user": {"most_user", "second_user", "user_most_label", "compare_users"},
    "timeline": {
        "most_date",
        "second_date",
        "dates_seen",
        "before_after",
        "first_month",
        "months_more",
        "months_top",
    },
}
SCOPES = {"user": ("users",), "timeline": ("month", "range"), "counting": ()}
ALL_KINDS = {
    (group, kind)
    for group, kinds in KINDS.items()
    for kind in kinds | {f"{scope}/{name}" for scope in SCOPES[group] for name in KINDS["counting"]}
}
FORMS = {
    "LABEL": "Label: {}",
    "NUMERIC": "Answer: {}",
    "COMPARISON": "Answer: {}",
    "USER": "User: {}",
    "DATE": "Date: {}",
    "MONTH_YEAR": "Answer: {}",
}


def made(dataset: LabelledSet, tokens: int, seed: int, questions: int = 1000) -> list[TaskItem]:
    return list(
        make_oolong(dataset, tokens=tokens, windows=1, seed=seed, questions=questions, gold_labels=True)
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tokens", [1024, 8192, 32768])
@pytest.mark.parametrize("dataset", [trec_like(), two_labels()], ids=["six", "two"])
def test_a_solver_finds_each_answer_in_the_window(dataset: LabelledSet, tokens: int, seed: int) -> None:
    items = made(dataset, tokens, seed)
    assert len(items) > 20
    for item in items:
        assert isinstance(item.context, str)
        assert solved(item.context, item.query) == set(item.expected), item.query
        answer = FORMS[str(item.meta["answer_type"])].format(item.expected[0])
        assert score(answer, item) == 1, answer
        assert f"'{answer.partition(':')[0]}: " in item.query


def test_all_kinds_are_asked_and_the_answers_differ() -> None:
    items = [item for seed in range(8) for item in made(trec_like(), 16384, seed)]
    assert {(item.meta["group"], item.meta["kind"]) for item in items} == ALL_KINDS
    comparisons = Counter(item.expected[0] for item in items if item.meta["kind"] == "compare_labels")
    assert set(comparisons) >= {"more common than", "less common than"}
    labels = Counter(item.expected[0] for item in items if item.meta["kind"] == "most_label")
    assert len(labels) > 2


def test_equal_counts_are_asked_as_the_same_frequency() -> None:
    items = [item for seed in range(8) for item in made(trec_like(), 1024, seed)]
    same = [item for item in items if item.expected == ("same frequency as",)]
    assert same
    assert all(set(item.expected) == solved(str(item.context), item.query) for item in same)


def test_close_shares_are_not_compared() -> None:
    for seed in range(4):
        for item in made(trec_like(), 32768, seed):
            if item.meta["kind"] != "compare_labels" or item.expected == ("same frequency as",):
                continue
            labels = re.findall(r"'([^']+)'", item.query)[:2]
            lines = parsed(str(item.context))
            one, other = (sum(line.label == label for line in lines) for label in labels)
            assert abs(one - other) > 0.02 * len(lines)


def test_the_first_month_of_two_labels_is_asked_once_a_window() -> None:
    for seed in range(4):
        items = [item for item in made(trec_like(), 32768, seed) if item.meta["kind"] == "first_month"]
        assert len({item.query for item in items}) == len(items)


@pytest.mark.parametrize("seed", range(3))
def test_a_window_has_25_questions_of_different_kinds_and_groups(seed: int) -> None:
    items = made(trec_like(), 32768, seed, questions=25)
    assert len({item.id for item in items}) == len(items) == 25
    groups = Counter(item.meta["group"] for item in items)
    assert set(groups) == {"counting", "user", "timeline"}
    assert max(groups.values()) - min(groups.values()) <= 2
    kinds = Counter((item.meta["group"], item.meta["kind"]) for item in items)
    assert len(kinds) >= 18


def test_the_lines_of_a_window_are_those_of_the_published_ones() -> None:
    published = {1: 14, 8: 188, 32: 787, 64: 1585, 128: 3182, 256: 6374, 1024: 25531, 4096: 102158}
    assert {size: line_count(trec_like(), size * 1024) for size in published} == published
    assert [length // 1024 for length in LENGTHS] == [2**power for power in range(13)]


@pytest.mark.parametrize("dataset", [trec_like(), two_labels()], ids=["six", "two"])
def test_the_format_of_a_window(dataset: LabelledSet) -> None:
    window = make_window(dataset, length=8192, seed=4)
    plain, labelled = window.text.split("\n"), window.labelled_text.split("\n")
    assert len(plain) == len(labelled)
    shown = [line for line in plain if line.startswith("Date: ")]
    pattern = r"Date: [A-S][a-z]{2} \d\d, 202[2-5] \|\| User: \d{5} \|\| Instance: .+"
    assert all(re.fullmatch(pattern, line) for line in shown)
    assert len(shown) == line_count(dataset, 8192)
    rows = {row.text: row.label for row in dataset.rows}
    for line, parts in zip(shown, parsed(window.labelled_text), strict=True):
        assert line.endswith(f"Instance: {parts.text}")
        assert rows[parts.text] == parts.label
    first = next(index for index, line in enumerate(plain) if line.startswith("Date: "))
    intro, recall = "\n".join(plain[:first]), "\n".join(plain[first + len(shown) :])
    for part in (intro, recall):
        assert str(len(shown)) in part
        assert all(label in part for label in dataset.labels)
        assert f"{dataset.described} has exactly one of these {len(dataset.labels)} labels: " in part


def test_no_row_comes_twice_while_others_of_its_label_are_left() -> None:
    window = make_window(trec_like(600), length=16384, seed=2)
    counts = Counter(line.text for line in window.lines)
    available = Counter(row.label for row in trec_like(600).rows)
    drawn = Counter(line.label for line in window.lines)
    for line in window.lines:
        assert counts[line.text] <= -(-drawn[line.label] // available[line.label])


def test_a_window_may_have_more_lines_than_its_set_has_rows() -> None:
    assert len(make_window(trec_like(60), length=131072, seed=1).lines) == 3182


def test_the_labels_are_skewed_and_differ_from_window_to_window() -> None:
    shares = []
    for seed in range(20):
        window = make_window(trec_like(), length=32768, seed=seed)
        counts = Counter(line.label for line in window.lines)
        shares.append(max(counts.values()) / len(window.lines))
        assert 2 <= window.temperature <= 6
    assert min(shares) < 0.35
    assert max(shares) > 0.6


def test_the_same_seed_gives_the_same_items_and_another_one_others() -> None:
    one, again, other = (
        list(make_oolong(trec_like(), tokens=4096, windows=2, seed=seed)) for seed in (1, 1, 2)
    )
    assert one == again
    assert not {item.id for item in one} & {item.id for item in other}
    assert len({item.context for item in one if isinstance(item.context, str)}) == 2


def test_without_gold_labels_the_text_has_none() -> None:
    (item,) = make_oolong(trec_like(), tokens=4096, windows=1, seed=1, questions=1)
    assert isinstance(item.context, str)
    assert not parsed(item.context)
    (labelled,) = made(trec_like(), 4096, 1, questions=1)
    assert (item.query, item.expected) == (labelled.query, labelled.expected)
    assert item.id != labelled.id


def test_a_length_without_room_for_a_line_is_refused() -> None:
    with pytest.raises(InputError, match="400 tokens"):
        list(make_oolong(trec_like(), tokens=400, windows=1, seed=1))


@pytest.mark.parametrize(
    ("counts", "asked"),
    [
        ((103, 97), True),  # 3 % apart
        ((102, 98), False),  # 2 %
        ((101, 99), False),
        ((100, 100), False),
        ((200, 0), True),
    ],
)
def test_the_most_common_label_is_asked_for_if_it_stands_out(counts: tuple[int, int], asked: bool) -> None:
    labels = ["a"] * counts[0] + ["b"] * counts[1]
    lines = [WindowLine(date(2023, 1, 1), 10000, "text", label) for label in labels]
    questions = list(counting_questions(LineScope("counting", "", "in all, ", lines), "ab", random.Random(1)))
    assert [question.answer for question in questions if question.kind == "most_label"] == ["a"] * asked
    least = [question.answer for question in questions if question.kind == "least_label"]
    assert least == (["b"] if 0 < counts[1] < counts[0] else [])


def test_windows_take_different_texts_of_a_label_in_different_orders() -> None:
    firsts = set()
    for seed in range(6):
        lines = make_window(trec_like(), length=8192, seed=seed).lines
        firsts.add(next(line.text for line in lines if line.label == lines[0].label))
    assert len(firsts) == 6
