"""Counts and filters of records: a solver that reads the text alone comes to the same answers."""

import csv
import json
import re
from collections.abc import Iterable

import pytest

from rlm_dist.bench.quality.items import TaskItem
from rlm_dist.bench.quality.records import LAYOUTS, make_counts, make_filters
from rlm_dist.bench.quality.scorers import score
from rlm_dist.errors import InputError

Rows = list[dict[str, str]]


def rows_of(text: str) -> Rows:
    """The records of a text, whose layout its first line tells."""
    lines = text.splitlines()
    if lines[0].startswith("{"):
        return [{name: str(value) for name, value in json.loads(line).items()} for line in lines]
    if lines[0].startswith("time,"):
        return list(csv.DictReader(lines))
    fields = re.compile(r'(\w+)=("[^"]*"|\S+)')
    return [dict(fields.findall(line)) for line in lines]


def solved(item: TaskItem) -> Rows:
    """The records that meet the conditions in the words of the question."""
    assert isinstance(item.context, str)
    found = rows_of(item.context)
    for field, pattern in (
        ("service", r"(?:of|for) the service (\w+)"),
        ("region", r"(?:of|in) the region ([\w-]+)"),
        ("user", r"of the user (\w+)"),
        ("level", r"have the level ([A-Z]+)"),
    ):
        if asked := re.search(pattern, item.query):
            found = [row for row in found if row[field] == asked[1]]
    if other := re.search(r"another level than ([A-Z]+)", item.query):
        found = [row for row in found if row["level"] != other[1]]
    if slow := re.search(r"more than (\d+) ms", item.query):
        found = [row for row in found if int(row["ms"]) > int(slow[1])]
    return found


def made(items: Iterable[TaskItem]) -> list[TaskItem]:
    listed = list(items)
    assert {item.meta["layout"] for item in listed} == set(LAYOUTS)
    assert len({item.id for item in listed}) == len(listed)
    return listed


@pytest.mark.parametrize("tokens", [2**13, 2**15])
def test_a_solver_counts_the_same(tokens: int) -> None:
    items = made(make_counts(tokens=tokens, count=12, seed=3))
    assert {item.meta["kind"] for item in items} == {"level", "level_service", "slow", "not_level"}
    for item in items:
        number = len(solved(item))
        assert item.expected == (str(number),)
        assert number > 0
        assert (score(f"There are {number}.", item), score(f"{number + 1}", item)) == (1, 0)
        assert 0 <= tokens * 4 - len(item.context) < 300


@pytest.mark.parametrize("tokens", [2**13, 2**15])
def test_a_solver_finds_the_same_requests(tokens: int) -> None:
    items = made(make_filters(tokens=tokens, count=9, seed=3))
    assert {item.meta["kind"] for item in items} == {"user_level", "slow", "user_service"}
    for item in items:
        requests = sorted(row["request"] for row in solved(item))
        assert list(item.expected) == requests
        assert 1 <= len(requests) <= 6
        assert score(str(requests), item) == 1
        assert score(", ".join([*requests, "REQ-1"]), item) == 0
        assert score(", ".join(requests[1:]), item) == 0


def test_a_bare_word_counts_too_much() -> None:
    item = next(make_counts(tokens=2**13, count=1, seed=3))
    asked = re.search(r"level ([A-Z]+)", item.query)
    assert asked
    assert isinstance(item.context, str)
    lines = [line for line in item.context.splitlines() if "ERROR" in line]
    assert len(lines) > sum(row["level"] == "ERROR" for row in rows_of(item.context))


def test_a_seed_gives_the_same_bytes_and_another_one_others() -> None:
    one, again, other = (list(make_filters(tokens=2**13, count=3, seed=seed)) for seed in (1, 1, 2))
    assert one == again
    assert {item.id for item in one}.isdisjoint(item.id for item in other)


@pytest.mark.parametrize("make", [make_counts, make_filters])
def test_a_length_without_room_is_refused(make: type) -> None:
    with pytest.raises(InputError, match="no room"):
        list(make(tokens=5, count=1, seed=0))
