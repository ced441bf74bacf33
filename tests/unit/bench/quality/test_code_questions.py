"""Code questions: the right choice and the wrong ones are checked again with patterns over the text."""

import random
import re
from pathlib import Path

import pytest

from rlm_dist.bench.quality.code_facts import code_files
from rlm_dist.bench.quality.code_questions import make_code_questions
from rlm_dist.bench.quality.items import TaskItem
from rlm_dist.bench.quality.scorers import score
from rlm_dist.errors import InputError

TREE = {
    "shapes.py": """
import functools as ft
from collections.abc import Iterator

class Polygon:
    def surface(self):
        return measure_surface(self.corners)

class Triangle(Polygon):
    def surface(self):
        return super().surface() / 2

    def turned(self):
        '''Calls no describe_shape() itself.'''
        return rotate_corners(self.corners)

class Mixed(Polygon, Iterator[int]): pass
""",
    "measures.py": """
import decimal, statistics

def measure_surface(corners):
    return decimal.Decimal(len(corners))

def measure_length(corners):
    return statistics.fmean(corners)
""",
    "turning/angles.py": """
from __future__ import annotations
import fractions

class Turner: pass
def rarely_unique(): pass

def rotate_corners(corners):
    # measure_surface(corners) would be wrong here
    return [fractions.Fraction(c) for c in corners]
""",
    "printing.py": """
import textwrap

def describe_shape(shape):
    return textwrap.fill(shape.title)

def show_shape(shape):
    print(describe_shape(shape))

class Printer: pass
def rarely_unique(): pass
class Plotter(Printer): pass
""",
    "empty.py": "",
    "broken.py": "def broken(:\n",
    "tests/test_it.py": "import unittest\n",
}


def tree(folder: Path) -> Path:
    for name, text in TREE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def files_of(context: str) -> dict[str, str]:
    parts = re.split(r"^===== (\S+) =====\n", context, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def body_of(choice: str, files: dict[str, str]) -> str:
    """The source of a choice ``Class.name in path``, found by its indentation."""
    name, _, path = choice.partition(" in ")
    lines = files[path].split("\n")
    start, indent = 0, -1
    for part in name.split("."):
        pattern = re.compile(rf"(\s*)(?:async )?(?:def|class) {part}\b")
        start = next(
            i for i in range(start, len(lines)) if (m := pattern.match(lines[i])) and len(m[1]) > indent
        )
        indent = len(lines[start]) - len(lines[start].lstrip())
    end = start + 1
    while end < len(lines) and (
        not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent
    ):
        end += 1
    return "\n".join(lines[start:end])


def holds(kind: str, name: str, choice: str, files: dict[str, str]) -> bool:
    """Whether a choice is a right answer, as far as patterns can tell."""
    word = re.escape(name)
    if kind == "defines":
        return bool(re.search(rf"^\s*(?:async )?(?:def|class) {word}\b", files[choice], re.MULTILINE))
    if kind == "calls":
        return bool(re.search(rf"(?<!def )(?<!class )\b{word}\(", body_of(choice, files)))
    if kind == "subclasses":
        head = re.search(
            rf"class {choice.partition(' in ')[0]}\(([^)]*)\)", files[choice.partition(" in ")[2]]
        )
        return bool(head and re.search(rf"\b{word}\b(?!=)", head[1]))
    imports = rf"^\s*(?:import .*\b{word}\b|from {word}\b[\w.]* import)"
    return bool(re.search(imports, files[choice], re.MULTILINE))


def check(item: TaskItem) -> None:
    assert isinstance(item.context, str)
    files = files_of(item.context)
    name = re.findall(r"`(\w+)`", item.query)[0]
    choices = dict(re.findall(r"^([A-D])\. (.*)$", item.query, re.MULTILINE))
    assert list(choices) == ["A", "B", "C", "D"]
    assert len(set(choices.values())) == 4
    right = [x for x in choices if holds(str(item.meta["sub_domain"]), name, choices[x], files)]
    assert right == list(item.expected), item.query
    assert score(f"The correct answer is ({right[0]})", item) == 1
    assert {item.meta[f"choice_{letter}"] for letter in "ABCD"} == set(choices.values())
    assert item.meta["answer"] == right[0]


@pytest.mark.parametrize("seed", range(5))
def test_of_a_small_tree_each_question_has_one_right_choice(tmp_path: Path, seed: int) -> None:
    items = list(make_code_questions(tokens=2000, count=12, seed=seed, folder=tree(tmp_path)))
    for item in items:
        check(item)
    assert {item.meta["sub_domain"] for item in items} == {"defines", "calls", "subclasses", "imports"}
    assert len({item.id for item in items}) == 12
    (context,) = {item.context for item in items if isinstance(item.context, str)}
    assert set(files_of(context)) == {"shapes.py", "measures.py", "turning/angles.py", "printing.py"}


@pytest.mark.parametrize("seed", range(2))
def test_of_the_standard_library_each_question_has_one_right_choice(seed: int) -> None:
    items = list(make_code_questions(tokens=40_000, count=20, seed=seed))
    for item in items:
        check(item)
    assert len({item.expected for item in items}) > 2
    assert isinstance(items[0].context, str)
    assert 39_000 * 4 < len(items[0].context) <= 40_000 * 4
    assert {"domain", "sub_domain", "difficulty", "length", "question", "answer"} <= set(items[0].meta)


def test_the_same_seed_gives_the_same_items(tmp_path: Path) -> None:
    folder = tree(tmp_path)
    one, again, other = (
        list(make_code_questions(tokens=2000, count=8, seed=seed, folder=folder)) for seed in (1, 1, 2)
    )
    assert one == again != other


def test_a_comment_or_a_text_is_no_call(tmp_path: Path) -> None:
    for seed in range(20):
        for item in make_code_questions(tokens=2000, count=12, seed=seed, folder=tree(tmp_path)):
            if item.meta["sub_domain"] == "calls":
                right = str(item.meta[f"choice_{item.expected[0]}"])
                assert right not in {"Triangle.turned in shapes.py"} or "rotate_corners" in item.query


def test_what_gives_no_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        list(make_code_questions(tokens=2000, count=1, seed=1, folder=tmp_path / "none"))
    with pytest.raises(InputError, match="no Python file that fits"):
        list(make_code_questions(tokens=2000, count=1, seed=1, folder=tmp_path))
    with pytest.raises(InputError, match="questions about code, not 500"):
        list(make_code_questions(tokens=2000, count=500, seed=1, folder=tree(tmp_path)))


def test_a_name_that_two_files_define_is_not_asked_about(tmp_path: Path) -> None:
    for seed in range(5):
        items = make_code_questions(tokens=2000, count=12, seed=seed, folder=tree(tmp_path))
        assert not [item for item in items if "`rarely_unique`" in item.query]


def test_what_a_file_defines_calls_subclasses_and_imports(tmp_path: Path) -> None:
    text = """
import os.path, json as j
from . import near
from .near import thing
from email.message import Message
class Outer(abc.ABC, Generic[int], make()):
    class Inner(Outer): ...
    async def run(self):
        def step(): other.call_me()
        return self.deep.walk(step)(1), print
"""
    (tmp_path / "one.py").write_text(text)
    (file,) = code_files(tmp_path, 1000, random.Random(1))
    assert file.defines == {"Outer", "Inner", "run", "step"}
    assert file.imports == {"os", "json", "email"}
    assert [(item.name, set(item.bases)) for item in file.classes] == [
        ("Outer", {"ABC", "Generic", "?"}),
        ("Inner", {"Outer"}),
    ]
    (function,) = file.functions
    assert (function.name, set(function.calls)) == ("Outer.run", {"call_me", "walk"})
    assert {"other", "self", "deep"} <= function.words
