"""The scorers: each compares an answer with what an item expects, and gives a share from 0 to 1.

``oolong`` and ``pairs_f1`` keep to the rules of the benchmarks' authors, with their quirks: a lenient scorer
would give figures that cannot stand beside published ones.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from dateutil import parser as dates

from rlm_dist.bench.quality.items import ScorerName, TaskItem

_SHORT_CHARS = 20  # from this length on, OOLONG's scorer looks for a phrase, or takes the last word
_PHRASES = ("more common", "less common", "same frequency")
_DECAY = 0.75
_PAIR = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_ID = re.compile(r"\b[A-Z]+-\d+\b")
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_CHOICES = (
    re.compile(r"correct answer is:?\s*\(?([A-D])\b", re.IGNORECASE),
    re.compile(r"[Aa]nswer(?:\s+is)?\s*:?\s*\(?([A-D])\b"),
    re.compile(r"^\s*\(?([A-D])(?:[).:]|\s*$)"),
)
# A date that does not state day, month and year comes out differently with each of these.
_DEFAULT_DATES = (datetime(1, 1, 1), datetime(2, 2, 2))


class AnswerType(StrEnum):
    """What an OOLONG question asks for."""

    LABEL = "LABEL"
    NUMERIC = "NUMERIC"
    COMPARISON = "COMPARISON"
    USER = "USER"
    DATE = "DATE"
    MONTH_YEAR = "MONTH_YEAR"


def found(answer: str, item: TaskItem) -> float:
    """RULER: the share of the expected texts that the answer contains, whatever their case."""
    lowered = answer.lower()
    return sum(text.lower() in lowered for text in item.expected) / len(item.expected)


def oolong(answer: str, item: TaskItem) -> float:
    """OOLONG-synth: 1 for the first expected text, 0.75 to the power of the error for a number."""
    gold = item.expected[0]
    given = oolong_answer(answer)
    if given == gold:
        return 1.0
    if given in _PHRASES:
        return float(given in gold)
    match item.meta.get("answer_type"):
        case AnswerType.NUMERIC:
            return _near(given, gold)
        case AnswerType.DATE:
            return float(_same_date(given, gold))
    return 0.0


def oolong_answer(answer: str) -> str:
    """What OOLONG's scorer reads: the text after the last colon, without ``*``, ``[`` and ``]``.

    Of 20 characters or more that hold a phrase of comparison, that phrase is left. Without any colon it is
    the whole of a shorter answer, unchanged, or the last word of a longer one.
    """
    if ":" not in answer:
        if len(answer) < _SHORT_CHARS:
            return answer
        return (answer.split() or [""])[-1]
    given = re.sub(r"[*\[\]]", "", answer.rpartition(":")[2].strip())
    if len(given) < _SHORT_CHARS:
        return given
    return next((phrase for phrase in _PHRASES if phrase in given), given)


def _near(given: str, gold: str) -> float:
    try:
        return float(_DECAY ** abs(int(gold) - int(given)))
    except (ValueError, OverflowError):
        return 0.0


def _same_date(given: str, gold: str) -> bool:
    wanted = datetime.fromisoformat(gold)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown time zone
            return all(dates.parse(given, default=default) == wanted for default in _DEFAULT_DATES)
    except (ValueError, OverflowError):
        return False


def pairs_f1(answer: str, item: TaskItem) -> float:
    """OOLONG-Pairs: F1 of the set of pairs ``(id, id)``, in either order; 1 if both sets are empty."""
    given, gold = _pairs(answer), _pairs("".join(item.expected))
    if not given and not gold:
        return 1.0
    return 2 * len(given & gold) / (len(given) + len(gold))


def _pairs(text: str) -> set[tuple[int, int]]:
    numbers = ((int(one), int(other)) for one, other in _PAIR.findall(text))
    return {(min(pair), max(pair)) for pair in numbers}


def exact(answer: str, item: TaskItem) -> float:
    """1 for an expected text; case, spaces, marks around it and ``Answer:`` before it do not count."""
    return float(_plain(answer) in {_plain(text) for text in item.expected})


def _plain(text: str) -> str:
    text = re.sub(r"^\W*(?:the )?(?:final )?answer(?: is)?\s*:", "", text.strip(), flags=re.IGNORECASE)
    return " ".join(text.split()).strip(" *_`\"'.").casefold()


def choice(answer: str, item: TaskItem) -> float:
    """LongBench-v2: 1 if the letter A to D that the answer names is the expected one."""
    plain = answer.replace("*", "")
    for pattern in _CHOICES:
        if letters := pattern.findall(plain):
            return float(letters[-1].upper() == item.expected[0])
    return 0.0


def number(answer: str, item: TaskItem) -> float:
    """1 if the last number of the answer equals an expected one; ``1,234.50`` is 1234.5."""
    numbers = _NUMBER.findall(answer)
    return float(bool(numbers) and _value(numbers[-1]) in map(_value, item.expected))


def _value(text: str) -> float:
    return float(text.replace(",", ""))


def ids(answer: str, item: TaskItem) -> float:
    """1 if the answer names all expected ids, such as ``REQ-100200``, and no other."""
    return float(set(_ID.findall(answer)) == set(item.expected))


Scorer = Callable[[str, TaskItem], float]
SCORERS: Mapping[ScorerName, Scorer] = MappingProxyType(
    {
        ScorerName.FOUND: found,
        ScorerName.OOLONG: oolong,
        ScorerName.PAIRS_F1: pairs_f1,
        ScorerName.EXACT: exact,
        ScorerName.CHOICE: choice,
        ScorerName.NUMBER: number,
        ScorerName.IDS: ids,
    }
)


def score(answer: str | None, item: TaskItem) -> float:
    """The score of an answer by the item's scorer; 0 if there is no answer."""
    return 0.0 if answer is None else SCORERS[item.scorer](answer, item)
