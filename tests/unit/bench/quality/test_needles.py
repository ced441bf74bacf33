"""S-NIAH: the needle stands once at its depth, and the text fills the length."""

import re
from collections.abc import Iterator

import pytest

from rlm_dist.bench.quality.items import TaskItem
from rlm_dist.bench.quality.needles import DEPTHS, make_needles
from rlm_dist.bench.quality.scorers import score
from rlm_dist.errors import InputError

ESSAYS = "It was late. Nobody spoke!  Was it\nover? The committee met again on Monday. Yes."


def texts(items: Iterator[TaskItem]) -> list[tuple[TaskItem, str]]:
    return [(item, item.context) for item in items if isinstance(item.context, str)]


@pytest.mark.parametrize("essays", ["", ESSAYS])
@pytest.mark.parametrize("tokens", [2**13, 2**15, 2**17])
def test_a_search_for_the_key_finds_the_number(tokens: int, essays: str) -> None:
    depths = set()
    for seed in range(3):
        for item, text in texts(make_needles(tokens=tokens, count=8, seed=seed, essays=essays)):
            asked = re.search(r"for (\w+-\w+)\.", item.query)
            assert asked
            (number,) = re.findall(rf"magic number for {asked[1]} is (\d+)\.", text)
            assert re.fullmatch(r"[1-9]\d{6}", number)
            assert item.expected == (number,)
            assert score(f"It is {number}.", item) == 1
            assert score("It is 1.", item) == 0
            depth = item.meta["depth"]
            assert isinstance(depth, float)
            place = text.index(f"The magic number for {asked[1]}") / len(text)
            assert abs(place - depth / 100) < 0.01
            depths.add(depth)
            longest = 130 if not essays else 60
            assert 0 <= tokens * 4 - len(text) <= longest
            assert item.tokens == tokens
    assert len(depths) > 8


def test_there_are_40_depths_from_beginning_to_end() -> None:
    assert len(set(DEPTHS)) == 40
    assert (DEPTHS[0], DEPTHS[-1]) == (0, 100)


def test_a_text_beyond_a_million_tokens_is_made() -> None:
    ((item, text),) = texts(make_needles(tokens=2**21, count=1, seed=1))
    assert 2**21 * 4 - 130 <= len(text) <= 2**21 * 4
    assert text.count(item.expected[0]) == 1


def test_the_same_seed_gives_the_same_items_and_more_of_them_keep_the_first() -> None:
    three = list(make_needles(tokens=8192, count=3, seed=1))
    assert three == list(make_needles(tokens=8192, count=3, seed=1))
    assert three == list(make_needles(tokens=8192, count=5, seed=1))[:3]
    assert not {item.id for item in three} & {item.id for item in make_needles(tokens=8192, count=3, seed=2)}


@pytest.mark.parametrize(("tokens", "essays"), [(20, ""), (8192, "  \n")])
def test_no_room_and_no_text_are_refused(tokens: int, essays: str) -> None:
    with pytest.raises(InputError):
        list(make_needles(tokens=tokens, count=1, seed=1, essays=essays))


@pytest.mark.parametrize("tokens", range(100, 112))
def test_a_text_is_never_longer_than_its_length(tokens: int) -> None:
    for _, text in texts(make_needles(tokens=tokens, count=6, seed=1, essays="A! B! C!")):
        assert 0 <= tokens * 4 - len(text) < 3
