"""Four-choice questions over a real source tree, in the shape of LongBench-v2's code repository questions.

The right choice comes from static analysis, and a wrong one is certainly wrong: a file or function that does
not hold the name in question at all, or a class all of whose bases, up to the last, are known to be others.
Names that are defined twice are not asked about. ``meta`` has the fields of LongBench-v2 but for ``_id`` and
``context``.
"""

import builtins
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rlm_dist.bench.quality.code_facts import (
    CodeClass,
    CodeFile,
    CodeFunction,
    code_files,
    shown_file,
    standard_library,
)
from rlm_dist.bench.quality.items import ScorerName, TaskItem, digest_of, item_id
from rlm_dist.errors import InputError

TASK = "code"
_BUILTINS = frozenset(dir(builtins))
LETTERS = "ABCD"
_MIN_NAME_CHARS = 6  # shorter names are often words of a comment, too


class CodeQuestion(NamedTuple):
    """A question, its right choice and three wrong ones."""

    kind: str
    text: str
    right: str
    wrong: tuple[str, ...]


def make_code_questions(
    *, tokens: int, count: int, seed: int, folder: Path | None = None
) -> Iterator[TaskItem]:
    """Yield questions over one choice of files that fills ``tokens``; the standard library's by default.

    Raises:
        InputError: the folder cannot be read, or its files give fewer questions than ``count``.
    """
    rng = random.Random(f"{TASK}/{seed}/{tokens}")
    files = code_files(folder or standard_library(), tokens, rng)
    context = "\n".join(map(shown_file, files))
    digest = digest_of(context)
    questions = code_questions(files, count, rng)
    for question in questions:
        yield _item(question, context, digest, tokens, rng)


def code_questions(files: Sequence[CodeFile], count: int, rng: random.Random) -> list[CodeQuestion]:
    """``count`` different questions, the four kinds in turn as far as there are some.

    Raises:
        InputError: the files do not give as many.
    """
    kinds: list[Iterator[CodeQuestion]] = [
        make(files, rng) for make in (_defining, _calling, _subclassing, _importing)
    ]
    found: list[CodeQuestion] = []
    while kinds:
        for questions in list(kinds):
            question = next(questions, None)
            if len(found) == count:
                return found
            if question is None:
                kinds.remove(questions)
            else:
                found.append(question)
    if len(found) < count:
        raise InputError((f"the files give {len(found)} questions about code, not {count}",))
    return found


def _wrong(choices: Sequence[str], rng: random.Random) -> tuple[str, ...] | None:
    different = sorted(set(choices))
    return tuple(rng.sample(different, 3)) if len(different) >= 3 else None


def _defining(files: Sequence[CodeFile], rng: random.Random) -> Iterator[CodeQuestion]:
    """Which file defines a name? A wrong one may use it, but does not define it."""
    homes: dict[str, list[CodeFile]] = defaultdict(list)
    for file in files:
        for name in file.defines:
            homes[name].append(file)
    names = sorted(name for name, places in homes.items() if len(places) == 1 and _askable(name))
    for name in _shuffled(names, rng):
        (home,) = homes[name]
        users = [file.path for file in files if name in file.words and file is not home]
        others = [file.path for file in files if file is not home]
        wrong = _wrong(users if len(users) >= 3 else others, rng)
        if wrong:
            text = f"Which of these files defines the function, method or class `{name}`?"
            yield CodeQuestion("defines", text, home.path, wrong)


def _calling(files: Sequence[CodeFile], rng: random.Random) -> Iterator[CodeQuestion]:
    """Which function calls a name that the files define? A wrong one does not hold the name."""
    functions = [function for file in files for function in file.functions]
    shown = Counter(map(_shown_function, functions))
    functions = [function for function in functions if shown[_shown_function(function)] == 1]
    defined = {name for file in files for name in file.defines}
    names = sorted(
        {name for function in functions for name in function.calls if name in defined and _askable(name)}
    )
    for name in _shuffled(names, rng):
        callers = [function for function in functions if name in function.calls]
        strangers = [_shown_function(function) for function in functions if name not in function.words]
        wrong = _wrong(strangers, rng)
        if wrong:
            text = f"Which of these functions calls a function, method or class by the name `{name}`?"
            yield CodeQuestion("calls", text, _shown_function(rng.choice(callers)), wrong)


def _shown_function(function: CodeFunction) -> str:
    return f"{function.name} in {function.path}"


def _subclassing(files: Sequence[CodeFile], rng: random.Random) -> Iterator[CodeQuestion]:
    """Which class has another one as a direct base? A wrong one cannot reach it by the names of bases."""
    classes = [item for file in files for item in file.classes]
    times = Counter(item.name for item in classes)
    bases: dict[str, set[str]] = defaultdict(set)
    for item in classes:
        bases[item.name] |= item.bases
    names = sorted({name for item in classes for name in item.bases if times[name] == 1})
    for name in _shuffled(names, rng):
        children = [item for item in classes if name in item.bases and times[item.name] == 1]
        strangers = [
            _shown_class(item)
            for item in classes
            if item.name != name
            and times[item.name] == 1
            and name not in (known := _ancestors(item.name, bases))
            and all(times[base] == 1 or base in _BUILTINS for base in known)
        ]
        wrong = _wrong(strangers, rng)
        if wrong and children:
            text = f"Which of these classes has `{name}` as a direct base class?"
            yield CodeQuestion("subclasses", text, _shown_class(rng.choice(children)), wrong)


def _shown_class(item: CodeClass) -> str:
    return f"{item.name} in {item.path}"


def _ancestors(name: str, bases: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    left = [name]
    while left:
        new = bases.get(left.pop(), set()) - found
        found |= new
        left.extend(new)
    return found


def _importing(files: Sequence[CodeFile], rng: random.Random) -> Iterator[CodeQuestion]:
    """Which file imports a module? A wrong one does not hold its name."""
    names = sorted({name for file in files for name in file.imports})
    for name in _shuffled(names, rng):
        importers = [file.path for file in files if name in file.imports]
        wrong = _wrong([file.path for file in files if name not in file.words], rng)
        if wrong:
            text = f"Which of these files imports the module `{name}`, or something from it?"
            yield CodeQuestion("imports", text, rng.choice(importers), wrong)


def _askable(name: str) -> bool:
    return len(name) >= _MIN_NAME_CHARS and not name.startswith("__")


def _shuffled(names: list[str], rng: random.Random) -> list[str]:
    return rng.sample(names, len(names))


def _item(question: CodeQuestion, context: str, digest: str, tokens: int, rng: random.Random) -> TaskItem:
    choices = rng.sample([question.right, *question.wrong], len(LETTERS))
    answer = LETTERS[choices.index(question.right)]
    shown = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True))
    query = f"{question.text}\n{shown}\nExactly one choice is right. Reply with its letter alone."
    fields = {f"choice_{letter}": choice for letter, choice in zip(LETTERS, choices, strict=True)}
    return TaskItem(
        id=item_id(TASK, digest, query, [answer]),
        task=TASK,
        context=context,
        query=query,
        expected=(answer,),
        scorer=ScorerName.CHOICE,
        tokens=tokens,
        meta={
            "domain": "Code Repository Understanding",
            "sub_domain": question.kind,
            "difficulty": "easy",
            "length": _length(len(context.split())),
            "question": question.text,
            **fields,
            "answer": answer,
        },
    )


def _length(words: int) -> str:
    """LongBench-v2's classes: short below 32K words, medium up to 128K."""
    return "short" if words < 32_000 else "medium" if words <= 128_000 else "long"
