"""Multi-hop questions: a solver follows the facts from document to document."""

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest

from rlm_dist.bench.quality.items import TaskItem
from rlm_dist.bench.quality.multihop import InventedNames, make_multihop
from rlm_dist.bench.quality.scorers import score
from rlm_dist.errors import InputError

STEPS = {
    "founder of": r"The firm {} was founded by (.+)\.",
    "birthplace of": r"The place of birth of {} is the town of (.+)\.",
    "river at": r"The town of {} lies on the river (.+)\.",
    "year of the first map of": r"The river {} was first mapped in the year (\d+)\.",
}


def made(seed: int, folder: Path | None = None, documents: int = 60) -> list[TaskItem]:
    return list(
        make_multihop(questions=12, seed=seed, documents=documents, document_tokens=200, folder=folder)
    )


def solved(documents: list[str], query: str) -> tuple[str, list[int]]:
    """The answer, and the documents in which its facts stand; each fact may be found only once."""
    asked = re.match(r"What is (.*?)\?", query)
    assert asked
    rest = asked[1]
    steps: list[str] = []
    while step := next((step for step in STEPS if rest.startswith(f"the {step} ")), None):
        steps.insert(0, step)
        rest = rest.removeprefix(f"the {step} ")
    name = re.sub(r"^the (firm|town of|river) ", "", rest)
    assert name in query.split("?")[0]
    places = []
    for step in steps:
        pattern = re.compile("^" + STEPS[step].format(re.escape(name)) + "$", re.MULTILINE)
        ((place, name),) = [
            (index, found) for index, text in enumerate(documents) for found in pattern.findall(text)
        ]
        places.append(place)
    return name, places


@pytest.mark.parametrize("seed", range(4))
def test_a_solver_follows_the_facts_to_the_answer(seed: int) -> None:
    hops = set()
    for item in made(seed):
        assert isinstance(item.context, list)
        answer, places = solved(item.context, item.query)
        assert item.expected == (answer,)
        assert len(set(places)) == len(places) == item.meta["hops"]
        assert score(f"Answer: {answer}", item) == 1
        hops.add(len(places))
    assert hops == {2, 3, 4}


def test_there_are_near_misses_for_each_fact() -> None:
    for item in made(1):
        assert isinstance(item.context, list)
        text = "\n".join(item.context)
        start = re.search(
            r"of the firm (\w+) (\w+)\?|of (\w+) (\w+)\?|at the town of (\w+) (\w+)\?", item.query
        )
        if start and start[1]:
            similar = set(re.findall(rf"The firm {start[1]} (\w+) was founded by", text))
            assert len(similar) >= 2
            assert f"The firm {start[1]} {start[2]} was later bought by" in text


def test_there_are_a_thousand_documents_by_default_shared_by_all_questions() -> None:
    items = list(make_multihop(questions=3, seed=1, document_tokens=50))
    assert all(isinstance(item.context, list) and len(item.context) == 1000 for item in items)
    assert all(a.context == b.context for a, b in pairwise(items))
    assert {item.tokens for item in items} == {50_000}
    assert len({item.id for item in items}) == 3
    sizes = [len(text) / 4 for text in items[0].context]
    assert 40 < sum(sizes) / len(sizes) < 60


def test_documents_are_cut_from_the_texts_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for number in range(30):
        lines = "".join(f"Line {line} of text {number}, long enough to be one.\n" for line in range(60))
        (tmp_path / "deep" / f"{number:02}.md").write_text(lines)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG" * 500)
    (tmp_path / "broken.txt").write_bytes(b"\xff" * 2000)
    items = made(2, folder=tmp_path)
    context = items[0].context
    assert isinstance(context, list)
    assert len(context) == 60
    assert all(text.count("of text") and len(text) < 200 * 4 + 1000 for text in context)
    assert not any("PNG" in text or "\ufffd" in text for text in context)
    for item in items:
        assert (solved(context, item.query)[0],) == item.expected
    with pytest.raises(InputError, match="documents, not 600"):
        made(2, folder=tmp_path, documents=600)
    with pytest.raises(InputError, match="not a folder"):
        made(2, folder=tmp_path / "none")


def test_the_same_seed_gives_the_same_items_and_another_one_others() -> None:
    assert made(1) == made(1)
    assert not {item.id for item in made(1)} & {item.id for item in made(2)}


def test_too_few_documents_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        made(1, documents=11)


def test_invented_names_come_once_and_similar_ones_share_their_first_word() -> None:
    names = InventedNames(random.Random(1))
    first = names.new()
    similar = [names.like(first) for _ in range(1000)]
    assert len({first, *similar}) == 1001
    assert {name.split()[0] for name in similar} == {first.split()[0]}
