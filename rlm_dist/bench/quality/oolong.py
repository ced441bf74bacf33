"""OOLONG-synth: questions whose answers are counts over all lines of a window.

Three groups, as in the benchmark: ``counting`` over all lines, ``user`` and ``timeline``; both also ask of
some lines what ``counting`` asks of all. A question is asked only if it has one right answer: ties are left
out, and shares differ by more than 2 % or not at all.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from rlm_dist.bench.quality.counting import LineScope, OolongQuestion, counting_questions
from rlm_dist.bench.quality.items import ScorerName, TaskItem, item_id
from rlm_dist.bench.quality.labelled import LabelledSet
from rlm_dist.bench.quality.timeline import timeline_questions
from rlm_dist.bench.quality.users import user_questions
from rlm_dist.bench.quality.windows import LabelledWindow, make_window

TASK = "oolong"
QUESTIONS_A_WINDOW = 25
T = TypeVar("T")


def make_oolong(
    dataset: LabelledSet,
    *,
    tokens: int,
    windows: int,
    seed: int,
    questions: int = QUESTIONS_A_WINDOW,
    gold_labels: bool = False,
) -> Iterator[TaskItem]:
    """Yield the items of some windows, those of one window after another.

    Args:
        gold_labels: show the labels, which leaves only the counting to do.

    Raises:
        InputError: the length has no room for a line.
    """
    for number in range(windows):
        window = make_window(dataset, length=tokens, seed=window_seed(seed, number))
        for question in chosen_questions(window, questions):
            yield _item(window, question, gold_labels=gold_labels)


def window_seed(seed: int, number: int) -> int:
    """The seed of a run's window, so that other tasks can take the same windows."""
    return seed * 1000 + number


def all_questions(window: LabelledWindow) -> Iterator[OolongQuestion]:
    """Yield the questions of all kinds, some of a kind with other labels, users or dates."""
    rng = random.Random(f"questions/{window.digest}")
    scope = LineScope("counting", "", "In the lines above, ", window.lines, variants=6)
    yield from counting_questions(scope, window.labels, rng)
    yield from user_questions(window, rng)
    yield from timeline_questions(window, rng)


def chosen_questions(window: LabelledWindow, count: int) -> list[OolongQuestion]:
    """At most ``count`` questions: the groups in turn, and in each group the kinds in turn."""
    groups: dict[str, dict[str, list[OolongQuestion]]] = defaultdict(lambda: defaultdict(list))
    for question in all_questions(window):
        groups[question.group][question.kind].append(question)
    rng = random.Random(f"choice/{window.digest}")
    turns: list[Iterable[OolongQuestion]] = []
    for kinds in groups.values():
        of_kinds = list(kinds.values())
        rng.shuffle(of_kinds)
        turns.append(_in_turn(of_kinds))
    return list(islice(_in_turn(turns), count))


def _in_turn(parts: Sequence[Iterable[T]]) -> Iterator[T]:
    """Yield one of each part, then the second one of each, and so on."""
    left = [iter(part) for part in parts]
    while left:
        for part in list(left):
            try:
                yield next(part)
            except StopIteration:
                left.remove(part)


def _item(window: LabelledWindow, question: OolongQuestion, *, gold_labels: bool) -> TaskItem:
    shown = "labelled" if gold_labels else "plain"
    return TaskItem(
        id=item_id(TASK, f"{window.digest}/{shown}", question.text, [question.answer]),
        task=TASK,
        context=window.labelled_text if gold_labels else window.text,
        query=question.text,
        expected=(question.answer,),
        scorer=ScorerName.OOLONG,
        tokens=window.length,
        meta={
            "answer_type": question.answer_type.value,
            "dataset": window.source,
            "gold_labels": gold_labels,
            "group": question.group,
            "kind": question.kind,
            "labels": len(window.labels),
            "window": window.seed,
        },
    )
