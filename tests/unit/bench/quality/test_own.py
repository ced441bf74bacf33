"""A user's own tasks: what a line may say, and what is said about a bad one."""

import json
from pathlib import Path

import pytest

from rlm_dist.bench.quality.items import ScorerName
from rlm_dist.bench.quality.own import read_own
from rlm_dist.bench.quality.scorers import score
from rlm_dist.errors import InputError

GOOD: dict[str, object] = {"context": "A fox is red.", "query": "Which colour?", "expected": "red"}


def written(folder: Path, *lines: object) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(InputError) as raised:
        read_own(path)
    return raised.value.problems


def test_lines_become_items(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "fox.txt").write_text("A fox is réd.")
    path = written(
        tmp_path,
        GOOD,
        "\n",
        {"context_file": "texts/fox.txt", "query": "Is it red?", "expected": ["yes", "true"], "id": "mine"},
        {
            **GOOD,
            "context": ["one", "two"],
            "expected": "2",
            "scorer": "number",
            "task": "sums",
            "meta": {"k": 1},
        },
        {**GOOD, "expected": [], "scorer": "pairs_f1"},
        {**GOOD, "expected": "3", "scorer": "oolong", "meta": {"answer_type": "NUMERIC"}},
    )
    first, second, third, fourth, fifth = read_own(path)
    assert (first.context, first.expected, first.scorer, first.task) == (
        "A fox is red.",
        ("red",),
        ScorerName.EXACT,
        "own",
    )
    assert (first.tokens, first.id[:4]) == (4, "own-")
    assert (second.context, second.id, second.expected) == ("A fox is réd.", "mine", ("yes", "true"))
    assert (third.context, third.scorer, third.task, third.meta) == (
        ["one", "two"],
        "number",
        "sums",
        {"k": 1},
    )
    assert score("none", fourth) == 1
    assert score("Answer: 4", fifth) == 0.75
    assert [item.id for item in read_own(path)] == [item.id for item in (first, second, third, fourth, fifth)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{\n", "not JSON"),
        ("3\n", "not a JSON object"),
        ({**GOOD, "context_file": "x"}, "give either context or context_file"),
        ({"query": "q", "expected": "e"}, "give either context or context_file"),
        ({**GOOD, "context": ""}, "context"),
        ({**GOOD, "query": ""}, "query: String should have at least 1 character"),
        ({"context": "c", "query": "q"}, "expected: Field required"),
        ({**GOOD, "expected": []}, "expected is empty"),
        ({**GOOD, "expected": 3}, "expected"),
        ({**GOOD, "scorer": "luck"}, "'exact'"),
        ({**GOOD, "scorer": "choice"}, "expects A, B, C or D"),
        ({**GOOD, "scorer": "number"}, "expects numbers"),
        ({**GOOD, "scorer": "oolong"}, "needs answer_type in meta: LABEL, NUMERIC"),
        ({**GOOD, "answer": "x"}, "answer: Extra inputs are not permitted"),
        ({"context_file": "none.txt", "query": "q", "expected": "e"}, "context_file: none.txt: No such file"),
        ({"context_file": "empty.txt", "query": "q", "expected": "e"}, "context_file: empty.txt: is empty"),
        ({"context_file": "binary", "query": "q", "expected": "e"}, "context_file: binary: is not UTF-8"),
        (GOOD, "id: is already that of line 1"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(tmp_path: Path, line: object, problem: str) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary").write_bytes(b"\xff\xff")
    (said,) = problems(written(tmp_path, GOOD, "\n", line))
    assert f"tasks.jsonl: line 3: {problem}" in said or ("line 3: " in said and problem in said)
    assert ": : " not in said
    assert "Value error" not in said


def test_no_text_of_a_user_is_in_an_error(tmp_path: Path) -> None:
    (said,) = problems(written(tmp_path, {"context": "SECRET", "query": ["SECRET"], "expected": "SECRET"}))
    assert "SECRET" not in said


def test_all_bad_lines_are_listed_up_to_a_hundred(tmp_path: Path) -> None:
    assert [line.split(": ")[1] for line in problems(written(tmp_path, "x\n", GOOD, "y\n"))] == [
        "line 1",
        "line 3",
    ]
    many = problems(written(tmp_path, *["x\n"] * 150))
    assert len(many) == 101
    assert many[-1] == "… and 50 more bad lines"


def test_a_file_without_tasks_or_that_is_missing_is_refused(tmp_path: Path) -> None:
    assert problems(written(tmp_path, "\n"))[0].endswith("has no tasks")
    assert problems(tmp_path / "none.jsonl")[0].endswith("No such file or directory")
