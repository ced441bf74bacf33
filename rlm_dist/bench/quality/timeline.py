"""OOLONG's questions on dates: the most frequent ones, labels before and after a date, and month by month."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from itertools import permutations

from rlm_dist.bench.quality.counting import (
    LineScope,
    OolongQuestion,
    compared,
    counting_questions,
    form,
    nth_most_common,
    sampled,
)
from rlm_dist.bench.quality.scorers import AnswerType
from rlm_dist.bench.quality.windows import LabelledWindow, month_name, shown_day

_GROUP = "timeline"
_NUMBER = form("Answer", "a number")
_MOST_TIMES = 6


def timeline_questions(window: LabelledWindow, rng: random.Random) -> Iterator[OolongQuestion]:
    """Yield the questions of the group ``timeline``."""
    lines_of = Counter(line.day for line in window.lines)
    yield from _frequent_days(lines_of, rng)
    yield from _before_and_after(window, sorted(lines_of), rng)
    yield from _months(window, rng)
    for scope in _scopes(window, sorted(lines_of), rng):
        yield from counting_questions(scope, window.labels, rng)


def _frequent_days(lines_of: Counter[date], rng: random.Random) -> Iterator[OolongQuestion]:
    for rank, kind, word in ((0, "most_date", "most"), (1, "second_date", "second most")):
        day = nth_most_common(lines_of, rank)
        if day is not None:
            text = f"Which date has the {word} lines?{form('Date', 'a date as it stands in the lines')}"
            yield OolongQuestion(_GROUP, kind, text, AnswerType.DATE, day.isoformat())
    numbers = Counter(lines_of.values())
    for times in sampled([times for times in sorted(numbers) if times <= _MOST_TIMES], rng):
        exactly = "exactly once" if times == 1 else f"exactly {times} times"
        text = f"How many dates occur {exactly}?{_NUMBER}"
        yield OolongQuestion(_GROUP, "dates_seen", text, AnswerType.NUMERIC, str(numbers[times]))


def _before_and_after(
    window: LabelledWindow, days: list[date], rng: random.Random
) -> Iterator[OolongQuestion]:
    """A label's share of the lines before a date beside that of the lines after it; neither has the date."""
    for label in sampled(window.labels, rng):
        day = rng.choice(days)
        before = [line.label for line in window.lines if line.day < day]
        after = [line.label for line in window.lines if line.day > day]
        sign = compared(before.count(label), len(before), after.count(label), len(after))
        if sign is None or not before or not after:
            continue
        text = (
            f"Take the share of lines with the label '{label}' among all lines dated before "
            f"{shown_day(day)}, and the same share among all lines dated after it. Is the label more common "
            "before that date, less common, or is its frequency the same?"
        )
        text += form("Answer", "'more common', 'less common' or 'same frequency'")
        phrase = {1: "more common", -1: "less common", 0: "same frequency"}[sign]
        yield OolongQuestion(_GROUP, "before_after", text, AnswerType.COMPARISON, phrase)


def _months(window: LabelledWindow, rng: random.Random) -> Iterator[OolongQuestion]:
    """Questions over the months of each year, January 2023 being another one than January 2024."""
    months: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for line in window.lines:
        months[line.day.year, line.day.month][line.label] += 1
    for one, other in sampled(list(permutations(window.labels, 2)), rng):
        more = [month for month, counts in sorted(months.items()) if counts[one] > counts[other]]
        than = f"more lines with the label '{one}' than with the label '{other}'"
        if more:
            text = f"Which is the first month, of all years, that has {than}?"
            text += form("Answer", "the month's name and the year, as in 'January 2020'")
            answer = f"{month_name(more[0][1])} {more[0][0]}"
            yield OolongQuestion(_GROUP, "first_month", text, AnswerType.MONTH_YEAR, answer)
        text = f"Count the months of each year as different ones. How many of them have {than}?{_NUMBER}"
        yield OolongQuestion(_GROUP, "months_more", text, AnswerType.NUMERIC, str(len(more)))
    for label in sampled(window.labels, rng):
        top = sum(nth_most_common(counts, 0) == label for counts in months.values())
        text = (
            "Count the months of each year as different ones. In how many of them is the label "
            f"'{label}' more common than each other label?{_NUMBER}"
        )
        yield OolongQuestion(_GROUP, "months_top", text, AnswerType.NUMERIC, str(top))


def _scopes(window: LabelledWindow, days: list[date], rng: random.Random) -> Iterator[LineScope]:
    month = rng.choice(sorted({day.month for day in days}))
    lines = [line for line in window.lines if line.day.month == month]
    where = f"Among the lines dated in {month_name(month)} of any year: "
    yield LineScope(_GROUP, "month", where, lines)
    first, last = sorted((rng.choice(days), rng.choice(days)))
    lines = [line for line in window.lines if first <= line.day <= last]
    where = f"Among the lines dated from {shown_day(first)} to {shown_day(last)}, both included: "
    yield LineScope(_GROUP, "range", where, lines)
