"""OOLONG-Pairs: the twenty queries, solved again from the labelled window and the words of the query."""

import re
from collections import Counter
from dataclasses import replace
from datetime import date
from itertools import combinations

import pytest

from rlm_dist.bench.quality.items import TaskItem
from rlm_dist.bench.quality.oolong import window_seed
from rlm_dist.bench.quality.pairs import QUERIES, UserLines, make_pairs
from rlm_dist.bench.quality.scorers import score
from rlm_dist.bench.quality.windows import WindowLine, make_window
from rlm_dist.errors import InputError
from tests.support.labelled_sets import trec_like, two_labels
from tests.support.oolong_solver import ParsedLine, as_day, parsed

AB, DE, EN = "abbreviation", "description and abstract concept", "entity"
HU, LO, NU = "human being", "location", "numeric value"
# The paper's list: for 1 to 10 two labels and a rule on dates, for 11 to 20 what each of two users has.
BOTH: list[tuple[str, str, str | None, date | None]] = [
    (NU, LO, None, None),
    (EN, HU, None, None),
    (DE, AB, None, None),
    (HU, LO, f"{HU} after", date(2023, 1, 6)),
    (EN, NU, f"{EN} before", date(2023, 3, 15)),
    (LO, AB, None, None),
    (DE, NU, f"{NU} after", date(2023, 2, 1)),
    (HU, DE, None, None),
    (EN, LO, f"{LO} after", date(2023, 4, 10)),
    (NU, AB, f"{AB} before", date(2023, 5, 20)),
]
ROLES: list[tuple[dict[str, str], dict[str, str]]] = [
    ({EN: ">=1", AB: ">=1"}, {EN: "==1"}),
    ({NU: ">=2"}, {LO: ">=1", HU: ">=1"}),
    ({DE: "==1"}, {AB: ">=1", EN: ">=1"}),
    ({HU: ">=1", NU: ">=1"}, {LO: "==2"}),
    ({EN: ">=1", LO: ">=1", AB: ">=1"}, {NU: "==1"}),
    ({DE: ">=1", HU: ">=1"}, {EN: ">=2", AB: "==1"}),
    ({NU: "==1"}, {LO: ">=1", DE: ">=1"}),
    ({AB: ">=1", HU: "==1"}, {EN: ">=1", NU: ">=1"}),
    ({LO: ">=2", EN: ">=1"}, {DE: "==1", AB: "==1"}),
    ({NU: ">=1", HU: ">=1"}, {LO: ">=1", EN: ">=1", AB: "==1"}),
]


def has(lines: list[ParsedLine], role: dict[str, str]) -> bool:
    counts = Counter(line.label for line in lines)
    return all(
        counts[label] == int(rule[2:]) if rule.startswith("==") else counts[label] >= int(rule[2:])
        for label, rule in role.items()
    )


def keeps(lines: list[ParsedLine], number: int) -> bool:
    one, other, rule, day = BOTH[number]
    if not any(line.label in (one, other) for line in lines):
        return False
    if rule is None or day is None:
        return True
    label, _, side = rule.rpartition(" ")
    return all(line.day > day if side == "after" else line.day < day for line in lines if line.label == label)


def true_pairs(labelled: str, number: int) -> set[str]:
    users: dict[int, list[ParsedLine]] = {}
    for line in parsed(labelled):
        users.setdefault(int(line.user), []).append(line)
    if number < 10:
        firsts = seconds = {user for user, lines in users.items() if keeps(lines, number)}
    else:
        firsts, seconds = ({user for user in users if has(users[user], role)} for role in ROLES[number - 10])
    return {
        f"({a}, {b})"
        for a, b in combinations(sorted(users), 2)
        if (a in firsts and b in seconds) or (b in firsts and a in seconds)
    }


def made(seed: int, tokens: int = 16384) -> list[TaskItem]:
    return list(make_pairs(trec_like(), tokens=tokens, seed=seed))


def test_the_pairs_are_those_of_the_papers_list() -> None:
    filled = set()
    for seed in range(5):
        items = made(seed)
        assert len(items) == len(QUERIES) == 20
        labelled = make_window(trec_like(), length=16384, seed=window_seed(seed, 0)).labelled_text
        for number, item in enumerate(items):
            assert set(item.expected) == true_pairs(labelled, number), item.query
            assert len(set(item.expected)) == len(item.expected)
            assert score("\n".join(item.expected), item) == 1
            filled |= {number} if item.expected else set()
    assert len(filled) == 20


def words(number: int) -> Counter[str]:
    """The labels, numbers of lines and dates that a query has to name, from the paper's list."""
    if number < 10:
        one, other, rule, day = BOTH[number]
        return Counter([one, other] + ([str(rule), str(day)] if day else []))
    return Counter(f"{rule} {label}" for role in ROLES[number - 10] for label, rule in role.items())


def test_each_query_says_what_it_asks_for() -> None:
    numbers = {"one": "1", "two": "2"}
    for number, item in enumerate(made(0)):
        said = re.findall(r"(at least|exactly) (one|two) lines? with the label '([^']+)'", item.query)
        if number >= 10:
            rules = (f"{'==' if how == 'exactly' else '>='}{numbers[n]} {label}" for how, n, label in said)
            assert Counter(rules) == words(number), item.query
            continue
        either = re.search(r"at least one line with the label '([^']+)' or the label '([^']+)'", item.query)
        assert either
        found = Counter(either.groups())
        if rule := re.search(r"label '([^']+)', if any, are all dated (\w+) (\w{3} \d\d, \d{4})", item.query):
            found += Counter([f"{rule[1]} {rule[2]}", str(as_day(rule[3]))])
        assert found == words(number), item.query


def test_the_same_seed_gives_the_same_items_and_ids_differ() -> None:
    assert made(1, 4096) == made(1, 4096)
    assert len({item.id for seed in (1, 2) for item in made(seed, 4096)}) == 40


def test_a_set_with_other_labels_is_refused() -> None:
    with pytest.raises(InputError, match="six labels"):
        list(make_pairs(two_labels(), tokens=4096, seed=1))


@pytest.mark.parametrize(
    ("number", "label", "on", "right"),
    [
        (4, HU, date(2023, 1, 6), date(2023, 1, 7)),
        (5, EN, date(2023, 3, 15), date(2023, 3, 14)),
        (7, NU, date(2023, 2, 1), date(2023, 2, 2)),
        (9, LO, date(2023, 4, 10), date(2023, 4, 11)),
        (10, AB, date(2023, 5, 20), date(2023, 5, 19)),
    ],
)
def test_the_date_itself_is_neither_after_nor_before(number: int, label: str, on: date, right: date) -> None:
    pairs = {}
    for day in (on, right):
        lines = tuple(WindowLine(day, user, "text", label) for user in (30000, 20000))
        window = make_window(trec_like(), length=1024, seed=1)
        window = replace(window, lines=lines)
        pairs[day] = list(QUERIES[number - 1].pairs(UserLines(window)))
    assert pairs == {on: [], right: [(20000, 30000)]}


def test_a_rule_on_dates_holds_for_a_user_without_lines_of_its_label() -> None:
    lines = tuple(WindowLine(date(2022, 12, 1), user, "text", LO) for user in (20000, 30000))
    window = replace(make_window(trec_like(), length=1024, seed=1), lines=lines)
    assert list(QUERIES[3].pairs(UserLines(window))) == [(20000, 30000)]
