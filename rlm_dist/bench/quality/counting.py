"""OOLONG's questions on the labels of lines: most and least common, one beside another, how many of one."""

import random
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple, TypeVar

from rlm_dist.bench.quality.scorers import AnswerType
from rlm_dist.bench.quality.windows import WindowLine

K = TypeVar("K", bound=Hashable)
VARIANTS = 3  # of a kind of question over the same lines
_GAP = 0.02


class OolongQuestion(NamedTuple):
    """A question and its one right answer; ``kind`` says what is asked, of which lines."""

    group: str
    kind: str
    text: str
    answer_type: AnswerType
    answer: str


class LineScope(NamedTuple):
    """Some lines of a window; ``where`` begins a question about them, ``variants`` bounds those of a kind."""

    group: str
    name: str
    where: str
    lines: Sequence[WindowLine]
    variants: int = VARIANTS


def form(name: str, what: str) -> str:
    """The sentence that asks for the answer's form."""
    return f" Give the final answer in the form '{name}: [X]', where [X] is {what}."


def nth_most_common(counts: Mapping[K, int], rank: int) -> K | None:
    """The key whose count is the ``rank``-th, from 0 on; None if another key has the same count."""
    ordered = sorted(counts.values(), reverse=True)
    if len(ordered) <= rank or ordered.count(ordered[rank]) > 1:
        return None
    return next(key for key, count in counts.items() if count == ordered[rank])


def sampled(values: Collection[K], rng: random.Random, count: int = VARIANTS) -> list[K]:
    """At most ``count`` of the values, in a random order."""
    ordered = list(values)
    return rng.sample(ordered, min(count, len(ordered)))


def counting_questions(
    scope: LineScope, labels: Sequence[str], rng: random.Random
) -> Iterator[OolongQuestion]:
    """Yield the questions on the labels of the lines of a scope."""
    counts = Counter(line.label for line in scope.lines)
    total = len(scope.lines)
    if not total:
        return
    yield from _extremes(scope, labels, counts)
    for one, other in sampled(list(permutations(labels, 2)), rng, scope.variants):
        sign = compared(counts[one], total, counts[other], total)
        if sign is not None and counts[one] + counts[other]:
            text = (
                f"{scope.where}is the label '{one}' more common than, less common than, or of the same "
                f"frequency as the label '{other}'?"
            )
            phrases = "'more common than', 'less common than' or 'same frequency as'"
            text += form("Answer", phrases).replace("[X]", f"{one} is [X] {other}", 1)
            phrase = {1: "more common than", -1: "less common than", 0: "same frequency as"}[sign]
            yield _question(scope, "compare_labels", text, AnswerType.COMPARISON, phrase)
    for label in sampled(labels, rng, scope.variants):
        text = f"{scope.where}how many lines have the label '{label}'?" + form("Answer", "a number")
        yield _question(scope, "count_label", text, AnswerType.NUMERIC, str(counts[label]))


def compared(one: int, of_one: int, other: int, of_other: int) -> int | None:
    """1, -1 or 0: is the share ``one / of_one`` more, less or the same? None if they are closer than 2 %."""
    difference = one * of_other - other * of_one
    if difference and abs(difference) <= _GAP * of_one * of_other:
        return None
    return (difference > 0) - (difference < 0)


def _extremes(scope: LineScope, labels: Sequence[str], counts: Counter[str]) -> Iterator[OolongQuestion]:
    answers = form("Label", f"one of the labels: {', '.join(labels)}")
    most = nth_most_common(counts, 0)
    if most is not None and _stands_out(most, counts):
        text = f"{scope.where}which label is the most common?{answers}"
        yield _question(scope, "most_label", text, AnswerType.LABEL, most)
    if len(counts) == len(labels):  # is a label without lines the least common? Then do not ask
        least = nth_most_common(counts, len(counts) - 1)
        if least is not None:
            text = f"{scope.where}which label is the least common?{answers}"
            yield _question(scope, "least_label", text, AnswerType.LABEL, least)


def _stands_out(label: str, counts: Counter[str]) -> bool:
    second = max((count for name, count in counts.items() if name != label), default=0)
    return counts[label] - second > _GAP * counts.total()


def _question(scope: LineScope, kind: str, text: str, answer_type: AnswerType, answer: str) -> OolongQuestion:
    kind = f"{scope.name}/{kind}" if scope.name else kind
    return OolongQuestion(scope.group, kind, text[0].upper() + text[1:], answer_type, answer)
