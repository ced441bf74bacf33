"""OOLONG-Pairs: the 20 queries of the paper for pairs of users over one window, scored by F1.

Queries 1 to 10 ask for users who both meet one condition, 11 to 20 for pairs of which one user meets one
condition and the other another. A rule on dates holds for a user without lines of its label.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import combinations
from typing import NamedTuple

from rlm_dist.bench.quality.items import ScorerName, TaskItem, item_id
from rlm_dist.bench.quality.labelled import TREC_LABELS, LabelledSet
from rlm_dist.bench.quality.oolong import window_seed
from rlm_dist.bench.quality.windows import LabelledWindow, WindowLine, make_window, shown_day
from rlm_dist.errors import InputError

TASK = "oolong-pairs"
_NUMBERS = ("zero", "one", "two")


class LabelCount(NamedTuple):
    """A user has at least ``times`` lines with a label or, if ``exactly``, that many."""

    label: str
    times: int = 1
    exactly: bool = False

    def holds(self, counts: Counter[str]) -> bool:
        """Whether a user with these counts of labels meets it."""
        number = counts[TREC_LABELS[self.label]]
        return number == self.times if self.exactly else number >= self.times

    def __str__(self) -> str:
        lines = "line" if self.times == 1 else "lines"
        much = "exactly" if self.exactly else "at least"
        return f"{much} {_NUMBERS[self.times]} {lines} with the label '{TREC_LABELS[self.label]}'"


class DateRule(NamedTuple):
    """All lines of a user with a label are dated after ``day`` or, if not ``after``, before it."""

    label: str
    day: date
    after: bool

    def holds(self, lines: Sequence[WindowLine]) -> bool:
        """Whether a user with these lines keeps it."""
        days = [line.day for line in lines if line.label == TREC_LABELS[self.label]]
        return all(day > self.day if self.after else day < self.day for day in days)

    def __str__(self) -> str:
        side = "after" if self.after else "before"
        label = TREC_LABELS[self.label]
        return f"whose lines with the label '{label}', if any, are all dated {side} {shown_day(self.day)}"


class BothQuery(NamedTuple):
    """Both users have a line with one of two labels, and keep the rule."""

    labels: tuple[str, str]
    rule: DateRule | None = None

    def __str__(self) -> str:
        one, other = (TREC_LABELS[label] for label in self.labels)
        rule = f", and {self.rule}" if self.rule else ""
        return (
            f"both are users who have at least one line with the label '{one}' or the label '{other}'{rule}"
        )

    def pairs(self, users: "UserLines") -> Iterator[tuple[int, int]]:
        """Yield the pairs, the lower id first."""
        either = [LabelCount(label) for label in self.labels]
        wanted = [
            user
            for user, lines in users.lines.items()
            if any(part.holds(users.counts[user]) for part in either)
            and (self.rule is None or self.rule.holds(lines))
        ]
        yield from combinations(sorted(wanted), 2)


class RolesQuery(NamedTuple):
    """One user meets all of ``one``, the other one all of ``other``."""

    one: tuple[LabelCount, ...]
    other: tuple[LabelCount, ...]

    def __str__(self) -> str:
        return (
            f"one user has {' and '.join(map(str, self.one))}, "
            f"and the other user has {' and '.join(map(str, self.other))}"
        )

    def pairs(self, users: "UserLines") -> Iterator[tuple[int, int]]:
        """Yield the pairs, the lower id first."""
        firsts, seconds = (
            {user for user, counts in users.counts.items() if all(part.holds(counts) for part in role)}
            for role in (self.one, self.other)
        )
        pairs = {(min(a, b), max(a, b)) for a in firsts for b in seconds if a != b}
        yield from sorted(pairs)


class UserLines:
    """The lines of each user, and how many of each label these are."""

    def __init__(self, window: LabelledWindow) -> None:
        self.lines: dict[int, list[WindowLine]] = defaultdict(list)
        for line in window.lines:
            self.lines[line.user].append(line)
        self.counts = {user: Counter(line.label for line in lines) for user, lines in self.lines.items()}


def _least(label: str, times: int = 1) -> LabelCount:
    return LabelCount(label, times)


def _just(label: str, times: int) -> LabelCount:
    return LabelCount(label, times, exactly=True)


def _after(label: str, month: int, day: int) -> DateRule:
    return DateRule(label, date(2023, month, day), after=True)


def _before(label: str, month: int, day: int) -> DateRule:
    return DateRule(label, date(2023, month, day), after=False)


QUERIES: tuple[BothQuery | RolesQuery, ...] = (
    BothQuery(("NUM", "LOC")),
    BothQuery(("ENTY", "HUM")),
    BothQuery(("DESC", "ABBR")),
    BothQuery(("HUM", "LOC"), _after("HUM", 1, 6)),
    BothQuery(("ENTY", "NUM"), _before("ENTY", 3, 15)),
    BothQuery(("LOC", "ABBR")),
    BothQuery(("DESC", "NUM"), _after("NUM", 2, 1)),
    BothQuery(("HUM", "DESC")),
    BothQuery(("ENTY", "LOC"), _after("LOC", 4, 10)),
    BothQuery(("NUM", "ABBR"), _before("ABBR", 5, 20)),
    RolesQuery((_least("ENTY"), _least("ABBR")), (_just("ENTY", 1),)),
    RolesQuery((_least("NUM", 2),), (_least("LOC"), _least("HUM"))),
    RolesQuery((_just("DESC", 1),), (_least("ABBR"), _least("ENTY"))),
    RolesQuery((_least("HUM"), _least("NUM")), (_just("LOC", 2),)),
    RolesQuery((_least("ENTY"), _least("LOC"), _least("ABBR")), (_just("NUM", 1),)),
    RolesQuery((_least("DESC"), _least("HUM")), (_least("ENTY", 2), _just("ABBR", 1))),
    RolesQuery((_just("NUM", 1),), (_least("LOC"), _least("DESC"))),
    RolesQuery((_least("ABBR"), _just("HUM", 1)), (_least("ENTY"), _least("NUM"))),
    RolesQuery((_least("LOC", 2), _least("ENTY")), (_just("DESC", 1), _just("ABBR", 1))),
    RolesQuery((_least("NUM"), _least("HUM")), (_least("LOC"), _least("ENTY"), _just("ABBR", 1))),
)


def make_pairs(dataset: LabelledSet, *, tokens: int, seed: int) -> Iterator[TaskItem]:
    """Yield the 20 queries over one window. The number of pairs grows with the square of the length.

    Raises:
        InputError: the set has not TREC's six labels, or the length has no room for a line.
    """
    if set(dataset.labels) != set(TREC_LABELS.values()):
        raise InputError((f"{dataset.name}: the queries for pairs need TREC's six labels",))
    window = make_window(dataset, length=tokens, seed=window_seed(seed, 0))
    users = UserLines(window)
    for number, query in enumerate(QUERIES, 1):
        yield _item(window, number, query, tuple(f"({one}, {other})" for one, other in query.pairs(users)))


def _item(
    window: LabelledWindow, number: int, query: BothQuery | RolesQuery, pairs: tuple[str, ...]
) -> TaskItem:
    text = (
        f"List all pairs of different users such that {query}. The two users may stand in either order, and "
        "each pair is listed once. Each line stands for one label, which you have to find out. Reply with "
        "one pair a line in the form (id1, id2), the lower id first, and nothing else."
    )
    return TaskItem(
        id=item_id(TASK, window.digest, text, pairs),
        task=TASK,
        context=window.text,
        query=text,
        expected=pairs,
        scorer=ScorerName.PAIRS_F1,
        tokens=window.length,
        meta={
            "dataset": window.source,
            "kind": f"query {number}",
            "pairs": len(pairs),
            "window": window.seed,
        },
    )
