"""The items of a run: tasks by the names of the command line, at each length, from a seed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from pydantic import Field

from rlm_dist.bench.quality.code_questions import make_code_questions
from rlm_dist.bench.quality.items import TaskItem
from rlm_dist.bench.quality.labelled import load_labelled
from rlm_dist.bench.quality.multihop import DOCUMENTS, MAX_HOPS, make_multihop
from rlm_dist.bench.quality.needles import make_needles
from rlm_dist.bench.quality.oolong import QUESTIONS_A_WINDOW, make_oolong
from rlm_dist.bench.quality.own import read_own
from rlm_dist.bench.quality.pairs import make_pairs
from rlm_dist.bench.quality.records import make_counts, make_filters
from rlm_dist.errors import InputError
from rlm_dist.schema.base import Wire

_DOCUMENT_TOKENS = 1_000
OWN = "own"
LABELLED = ("oolong", "pairs")  # tasks over a labelled set


class TaskChoice(Wire):
    """What to ask: tasks, lengths in tokens (none for ``own``), items of each at each length, and the seed.

    ``data`` has, by task, a labelled set, essays, documents, a source tree or a user's own tasks.
    """

    tasks: tuple[str, ...]
    data: dict[str, str] = Field(default={})
    tokens: tuple[int, ...] = ()
    items: int
    seed: int = 0


def _needles(choice: TaskChoice, tokens: int) -> Iterator[TaskItem]:
    essays = _text_of(choice.data["needles"]) if "needles" in choice.data else ""
    return make_needles(tokens=tokens, count=choice.items, seed=choice.seed, essays=essays)


def _counts(choice: TaskChoice, tokens: int) -> Iterator[TaskItem]:
    return make_counts(tokens=tokens, count=choice.items, seed=choice.seed)


def _filters(choice: TaskChoice, tokens: int) -> Iterator[TaskItem]:
    return make_filters(tokens=tokens, count=choice.items, seed=choice.seed)


def _oolong(choice: TaskChoice, tokens: int) -> Iterator[TaskItem]:
    dataset = load_labelled(_needed(choice, "oolong", "a labelled set"))
    windows = -(-choice.items // QUESTIONS_A_WINDOW)
    questions = min(choice.items, QUESTIONS_A_WINDOW)
    return make_oolong(dataset, tokens=tokens, windows=windows, seed=choice.seed, questions=questions)


def _pairs(choice: TaskChoice, tokens: int) -> Iterator[TaskItem]:
    dataset = load_labelled(_needed(choice, "pairs", "TREC's questions"))
    return make_pairs(dataset, tokens=tokens, seed=choice.seed)


def _multihop(choice: TaskChoice, tokens: int) -> Iterator[TaskItem]:
    """As many documents as the original has, or as few as the length has room for."""
    documents = max(MAX_HOPS * 3, min(DOCUMENTS, tokens // _DOCUMENT_TOKENS))
    folder = _folder(choice, "multihop")
    items = make_multihop(
        questions=choice.items,
        seed=choice.seed,
        documents=documents,
        document_tokens=max(1, tokens // documents),
        folder=folder,
    )
    return (item.model_copy(update={"tokens": tokens}) for item in items)


def _code(choice: TaskChoice, tokens: int) -> Iterator[TaskItem]:
    folder = _folder(choice, "code")
    return make_code_questions(tokens=tokens, count=choice.items, seed=choice.seed, folder=folder)


def _own(choice: TaskChoice, tokens: int) -> Iterator[TaskItem]:
    """The user's items, by the next power of two of their length."""
    items = read_own(Path(_needed(choice, OWN, "a file of tasks")))
    return (item.model_copy(update={"tokens": power_of_two(item.tokens)}) for item in items)


TASKS: Mapping[str, Callable[[TaskChoice, int], Iterator[TaskItem]]] = MappingProxyType(
    {
        "needles": _needles,
        "counts": _counts,
        "filters": _filters,
        "oolong": _oolong,
        "pairs": _pairs,
        "multihop": _multihop,
        "code": _code,
        OWN: _own,
    }
)


def make_items(choice: TaskChoice) -> Iterator[TaskItem]:
    """The items, task by task and length by length; equal questions come once.

    Raises:
        InputError: a task is unknown or lacks its data, a length is missing, or a generator refuses.
    """
    _check(choice)
    seen: set[str] = set()
    for task in choice.tasks:
        for tokens in (0,) if task == OWN else choice.tokens:
            for item in islice(TASKS[task](choice, tokens), choice.items):
                if item.id not in seen:
                    seen.add(item.id)
                    yield item


def power_of_two(tokens: int) -> int:
    """The least power of two that is not below a number of tokens."""
    return 1 << max(0, tokens - 1).bit_length()


def _check(choice: TaskChoice) -> None:
    problems = [f"--task: {task} is none of {', '.join(TASKS)}" for task in choice.tasks if task not in TASKS]
    if not choice.tasks:
        problems.append(f"--task: name one of {', '.join(TASKS)}")
    problems += [f"--data: {task} is no task of this run" for task in choice.data if task not in choice.tasks]
    if not choice.tokens and _generated(choice.tasks):
        problems.append("--tokens: name at least one length, such as 8192,32768")
    if problems:
        raise InputError(tuple(problems))


def _generated(tasks: Sequence[str]) -> bool:
    return any(task != OWN for task in tasks)


def _needed(choice: TaskChoice, task: str, what: str) -> str:
    if task not in choice.data:
        raise InputError((f"--task {task} needs --data {task}=PATH with {what}: see docs/quality.md",))
    return choice.data[task]


def _folder(choice: TaskChoice, task: str) -> Path | None:
    return Path(choice.data[task]) if task in choice.data else None


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not text in UTF-8"
        raise InputError((f"--data {path}: {why}",)) from None
