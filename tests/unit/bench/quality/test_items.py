"""Items and files of them."""

import json
from pathlib import Path

import pytest

from rlm_dist.bench.quality.items import ScorerName, TaskItem, item_id, read_items, tokens_of, write_items
from rlm_dist.errors import InputError

FIRST = TaskItem(
    id="a",
    task="test",
    context="long \ud800 text\u2028",
    query="What?",
    expected=("x", "y"),
    scorer=ScorerName.FOUND,
    tokens=3,
    meta={"depth": 0.5, "names": ["ä"]},
)
ITEMS = [
    FIRST,
    FIRST.model_copy(update={"id": "b", "query": "Why?"}),
    FIRST.model_copy(update={"id": "c", "context": ["one", "two"]}),
    FIRST.model_copy(update={"id": "d", "context": ["one", "two"], "expected": ()}),
    FIRST.model_copy(update={"id": "e"}),
]


def test_items_come_back_from_a_file_and_equal_contexts_stand_in_it_once(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    assert write_items(path, iter(ITEMS)) == 5
    assert list(read_items(path)) == ITEMS
    lines = path.read_bytes().split(b"\n")
    assert [b'"context"' in line for line in lines] == [True, False, True, False, True, False]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 3: not JSON"),
        ("[]", "line 3: not a JSON object"),
        ('{"id": "x"}', "line 3: task: Field required; query: Field required"),
        (
            json.dumps({**FIRST.model_dump(), "context": "", "scorer": "luck"}),
            "line 3: scorer: Input should be",
        ),
        (json.dumps({**FIRST.model_dump(), "context": "", "more": 1}), "line 3: more: Extra inputs"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "items.jsonl"
    write_items(path, [FIRST])
    with path.open("a") as file:
        file.write(f"\n{line}\n")
    items = read_items(path)
    assert next(items) == FIRST
    with pytest.raises(InputError) as raised:
        next(items)
    assert problem in str(raised.value)


def test_a_first_line_without_a_context_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(FIRST.model_dump(exclude={"context"})))
    with pytest.raises(InputError, match="line 1: context"):
        list(read_items(path))
    with pytest.raises(InputError, match="No such file"):
        list(read_items(tmp_path / "none"))


def test_ids_depend_on_context_query_and_answer() -> None:
    parts = [
        ("c", "q", ["e"]),
        ("d", "q", ["e"]),
        ("c", "r", ["e"]),
        ("c", "q", ["f"]),
        ("c", "q", ["e", ""]),
        ("cq", "", ["e"]),
    ]
    ids = [item_id("task", *part) for part in parts]
    assert len(set(ids)) == len(ids)
    assert ids[0] == item_id("task", "c", "q", ("e",))
    assert ids[0].startswith("task-")


def test_tokens_are_a_quarter_of_the_characters() -> None:
    assert [tokens_of("x" * chars) for chars in (0, 1, 4, 5)] == [0, 1, 1, 2]
