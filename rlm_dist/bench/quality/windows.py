"""OOLONG-synth windows: dated lines of users, drawn from a labelled set with skewed labels.

A window is an intro, one line an item, ``Date: Mon DD, YYYY || User: <id> || Instance: <text>``, and the
intro again as a recall. In the form with gold labels each line ends with `` || Label: <label>``. The number
of lines is OOLONG's: floor((0.95 · length - tokens of the prompt - 250) / tokens of a line).
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from rlm_dist.bench.quality.items import digest_of, tokens_of
from rlm_dist.bench.quality.labelled import LabelledRow, LabelledSet
from rlm_dist.errors import InputError

# Not from ``calendar``, whose names are those of the locale.
_MONTH_NAMES = "January February March April May June July August September October November December"
_MONTHS = tuple(_MONTH_NAMES.split())
# OOLONG's name for a window's tokens: powers of two from 1K to 4M.
LENGTHS = tuple(2**power for power in range(10, 23))
_FIRST_DAY = date(2022, 6, 1)
_DAYS = 3 * 365
_LINES_A_USER = 5  # 157 users at 32K, as the size of published answers to OOLONG-Pairs suggests
_LINES_A_DAY = 4
_TEMPERATURES = (2, 6)
_MEASURED_ROWS = 1000
_ANSWER_TOKENS = 250
_FILLED = 0.95


class WindowLine(NamedTuple):
    """One item of a window."""

    day: date
    user: int
    text: str
    label: str


@dataclass(frozen=True, kw_only=True)
class LabelledWindow:
    """The lines of a window with all labels of their set; ``length`` is the tokens that were asked for."""

    source: str
    noun: str
    described: str
    length: int
    seed: int
    temperature: int
    labels: tuple[str, ...]
    lines: tuple[WindowLine, ...]

    @cached_property
    def text(self) -> str:
        """What a model gets."""
        return self._with(shown_line(line) for line in self.lines)

    @cached_property
    def labelled_text(self) -> str:
        """The same with the label at the end of each line."""
        return self._with(f"{shown_line(line)} || Label: {line.label}" for line in self.lines)

    @cached_property
    def digest(self) -> str:
        """A short hash of the window with its labels."""
        return digest_of(self.labelled_text)

    def _with(self, lines: Iterator[str]) -> str:
        count = len(self.lines)
        intro = _intro("Below are", count, self.noun, self.described, self.labels)
        recall = _intro("To recall: above are", count, self.noun, self.described, self.labels)
        return "\n".join([intro, "", *lines, "", recall])


def shown_line(line: WindowLine) -> str:
    """A line as a model gets it."""
    return f"Date: {shown_day(line.day)} || User: {line.user} || Instance: {line.text}"


def shown_day(day: date) -> str:
    """A date as in the lines: ``Jan 05, 2023``."""
    return f"{_MONTHS[day.month - 1][:3]} {day.day:02}, {day.year}"


def month_name(month: int) -> str:
    """The English name of a month, 1 to 12, whatever the locale."""
    return _MONTHS[month - 1]


def line_count(dataset: LabelledSet, length: int) -> int:
    """How many lines a window of ``length`` tokens has."""
    prompt, line = dataset.prompt_tokens, dataset.line_tokens or _measured(dataset)
    if prompt is None:
        intro = _intro("Below are", len(dataset.rows), dataset.noun, dataset.described, dataset.labels)
        prompt = 2 * tokens_of(intro)
    return math.floor((_FILLED * length - prompt - _ANSWER_TOKENS) / line)


def _measured(dataset: LabelledSet) -> int:
    rows = dataset.rows[:: max(1, len(dataset.rows) // _MEASURED_ROWS)]
    line = WindowLine(_FIRST_DAY, 10_000, "", "")
    chars = sum(len(shown_line(line._replace(text=row.text))) + 1 for row in rows)
    return max(1, tokens_of("x" * (chars // len(rows))))


def make_window(dataset: LabelledSet, *, length: int, seed: int) -> LabelledWindow:
    """Draw a window.

    Raises:
        InputError: the length has no room for a line.
    """
    count = line_count(dataset, length)
    if count < 1:
        raise InputError((f"length: {length} tokens have no room for a line of {dataset.name}",))
    rng = random.Random(f"oolong/{dataset.name}/{length}/{seed}")
    temperature = rng.randint(*_TEMPERATURES)
    rows = _drawn_rows(dataset, count, temperature, rng)
    users = _drawn(rng.sample(range(10_000, 100_000), max(2, count // _LINES_A_USER)), count, rng)
    days = _drawn(rng.sample(range(_DAYS), min(_DAYS, max(3, count // _LINES_A_DAY))), count, rng)
    return LabelledWindow(
        source=dataset.name,
        noun=dataset.noun,
        described=dataset.described,
        length=length,
        seed=seed,
        temperature=temperature,
        labels=dataset.labels,
        lines=tuple(
            WindowLine(_FIRST_DAY + timedelta(days=day), user, row.text, row.label)
            for row, user, day in zip(rows, users, days, strict=True)
        ),
    )


def _drawn(values: Sequence[int], count: int, rng: random.Random) -> list[int]:
    """Values drawn with weights that differ, so that some are frequent."""
    return rng.choices(values, cum_weights=list(accumulate(rng.expovariate(1) for _ in values)), k=count)


def _drawn_rows(
    dataset: LabelledSet, count: int, temperature: int, rng: random.Random
) -> Iterator[LabelledRow]:
    """Rows with skewed labels, the more so the lower the temperature; no row twice while others are left."""
    weights = [math.exp(4 / temperature * rng.gauss(0, 1)) for _ in dataset.labels]
    endless = {label: _shuffled_again(dataset.rows, label, rng.random()) for label in dataset.labels}
    for label in rng.choices(dataset.labels, weights, k=count):
        yield next(endless[label])


def _shuffled_again(rows: Sequence[LabelledRow], label: str, seed: float) -> Iterator[LabelledRow]:
    rng = random.Random(seed)
    with_label = [row for row in rows if row.label == label]
    while True:
        rng.shuffle(with_label)
        yield from with_label


def _intro(beginning: str, count: int, noun: str, described: str, labels: Sequence[str]) -> str:
    names = ", ".join(labels)
    return (
        f"{beginning} {count} {noun}, one a line. {described} has exactly one of these {len(labels)} labels: "
        f"{names}.\nThe questions are about the labels of all {count} lines together. "
        "Work out the exact answer from the lines; an estimate or a guess does not do."
    )
