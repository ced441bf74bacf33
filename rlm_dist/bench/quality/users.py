"""OOLONG's questions on users: who has most lines, of any label or of one, and the labels of some users."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator

from rlm_dist.bench.quality.counting import (
    LineScope,
    OolongQuestion,
    counting_questions,
    form,
    nth_most_common,
    sampled,
)
from rlm_dist.bench.quality.scorers import AnswerType
from rlm_dist.bench.quality.windows import LabelledWindow

_GROUP = "user"
_LISTED_USERS = 20
_ID = "a user id"


def user_questions(window: LabelledWindow, rng: random.Random) -> Iterator[OolongQuestion]:
    """Yield the questions of the group ``user``."""
    lines_of = Counter(line.user for line in window.lines)
    for rank, kind, word in ((0, "most_user", "most"), (1, "second_user", "second most")):
        user = nth_most_common(lines_of, rank)
        if user is not None:
            text = f"Which user has the {word} lines?{form('User', _ID)}"
            yield OolongQuestion(_GROUP, kind, text, AnswerType.USER, str(user))
    of_label: dict[str, Counter[int]] = defaultdict(Counter)
    for line in window.lines:
        of_label[line.label][line.user] += 1
    for label in sampled(window.labels, rng):
        user = nth_most_common(of_label[label], 0)
        if user is not None:
            text = f"Which user has the most lines with the label '{label}'?{form('User', _ID)}"
            yield OolongQuestion(_GROUP, "user_most_label", text, AnswerType.USER, str(user))
        yield from _comparison(label, of_label[label], sorted(lines_of), rng)
    users = sorted(sampled(sorted(lines_of), rng, min(_LISTED_USERS, max(1, len(lines_of) // 2))))
    names = ", ".join(map(str, users))
    where = f"Among the lines of these users alone: {names}: "
    lines = [line for line in window.lines if line.user in set(users)]
    yield from counting_questions(LineScope(_GROUP, "users", where, lines), window.labels, rng)


def _comparison(
    label: str, counts: Counter[int], users: list[int], rng: random.Random
) -> Iterator[OolongQuestion]:
    """Who of two users has more lines with a label; one of them has some, and equal counts are not asked."""
    if not counts:
        return
    one = rng.choice(sorted(counts))
    other = rng.choice(users)
    if counts[one] == counts[other]:
        return
    shown = [one, other] if rng.random() < 0.5 else [other, one]
    text = f"Which of the users {shown[0]} and {shown[1]} has more lines with the label '{label}'?"
    winner = max(shown, key=counts.__getitem__)
    yield OolongQuestion(_GROUP, "compare_users", text + form("User", _ID), AnswerType.USER, str(winner))
