"""How a good model would go about a question of the quality tasks: which functions, with what arguments."""

import re
from collections.abc import Callable, Mapping
from datetime import date
from types import MappingProxyType
from typing import Any, NamedTuple

from rlm_dist.bench.quality.multihop import RELATIONS
from rlm_dist.bench.quality.windows import month_name
from rlm_dist.bench.quality_oracle import line_code

NEEDLE = "the magic number for {}"
# The form of the sentence that states a fact, by the words that ask for it.
FACTS: Mapping[str, str] = MappingProxyType(
    {relation.asked: relation.fact for relation in RELATIONS} | {NEEDLE: "The magic number for {} is {}."}
)
_MONTHS = tuple(month_name(number) for number in range(1, 13))
_DAY = r"(\w{3} \d\d, \d{4})"
_KIND = re.compile(r"the (?:firm|town of|river) ")
_TIMES = MappingProxyType({"one": 1, "two": 2})


class CodeStep(NamedTuple):
    """A function of ``line_code`` and its arguments after the lines."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


class LinesPlan(NamedTuple):
    """A question on lines: which of them, whether their labels matter, and what makes the answer of them."""

    scope: CodeStep | None
    answer: CodeStep
    labels: bool


class FactsPlan(NamedTuple):
    """A question on facts: follow ``steps``, keys of ``FACTS``, from a name."""

    name: str
    steps: tuple[str, ...]


class ChoicesPlan(NamedTuple):
    """A question on code with its choices by letter; ``kind`` is that of its item, ``about`` a name."""

    kind: str
    about: str
    question: str
    choices: Mapping[str, str]


QueryPlan = LinesPlan | FactsPlan | ChoicesPlan


def plan_of(text: str) -> QueryPlan | None:
    """The plan for the question in a text; None if it is none of the tasks' questions."""
    return _facts(text) or _choices(text) or _lines(text)


def _facts(text: str) -> FactsPlan | None:
    if needle := re.search(r"The text states one magic number for (\S+)\. What is it\?", text):
        return FactsPlan(needle[1], (NEEDLE,))
    asked = re.search(r"What is (the .+)\? The documents state each step of this once", text)
    if asked is None:
        return None
    name, steps = asked[1], list[str]()
    while step := next((step for step in FACTS if name.startswith(step.format(""))), None):
        name = name.removeprefix(step.format(""))
        steps.append(step)
    return FactsPlan(_KIND.sub("", name, count=1), tuple(reversed(steps)))


_CODE_KINDS = (
    ("defines", r"Which of these files defines the function, method or class `(.+)`\?"),
    ("calls", r"Which of these functions calls a function, method or class by the name `(.+)`\?"),
    ("subclasses", r"Which of these classes has `(.+)` as a direct base class\?"),
    ("imports", r"Which of these files imports the module `(.+)`, or something from it\?"),
)


def _choices(text: str) -> ChoicesPlan | None:
    for kind, pattern in _CODE_KINDS:
        if found := re.search(pattern, text):
            choices = dict(re.findall(r"^([A-D])\. (.+)$", text[found.end() :], re.M))
            return ChoicesPlan(kind, found[1], found[0], choices)
    return None


def _lines(text: str) -> LinesPlan | None:
    for pattern, labels, step in _STEPS:
        if found := re.search(pattern, text):
            return LinesPlan(_scope(text), step(found), labels)
    return None


def _scope(text: str) -> CodeStep | None:
    if users := re.search(r"Among the lines of these users alone: ([\d, ]+):", text):
        return CodeStep(line_code.of_users, (users[1].split(", "),))
    if month := re.search(r"Among the lines dated in (\w+) of any year:", text):
        return CodeStep(line_code.in_month, (f"{_MONTHS.index(month[1]) + 1:02}",))
    if days := re.search(rf"Among the lines dated from {_DAY} to {_DAY}, both included:", text):
        return CodeStep(line_code.in_range, (_iso(days[1]), _iso(days[2])))
    return None


def _iso(shown: str) -> str:
    """A date of the lines as ``2023-01-05``."""
    number = next(at for at, name in enumerate(_MONTHS, 1) if name.startswith(shown[:3]))
    return date(int(shown[-4:]), number, int(shown[4:6])).isoformat()


def _rank(found: re.Match[str]) -> tuple[int]:
    return ({"most": 0, "second most": 1, "least": -1}[found[1]],)


def _both(found: re.Match[str]) -> CodeStep:
    one, other, dated, side, day = found.groups()
    rule = (dated, side == "after", _iso(day)) if dated else ("", True, "")
    return CodeStep(line_code.pairs_of_both, ([one, other], *rule))


def _roles(found: re.Match[str]) -> CodeStep:
    condition = r"(at least|exactly) (\w+) lines? with the label '(.+?)'"
    roles = [
        [(label, _TIMES[times], much == "exactly") for much, times, label in re.findall(condition, role)]
        for role in found.groups()
    ]
    return CodeStep(line_code.pairs_of_roles, tuple(roles))


_TWO = r"more lines with the label '(.+?)' than with the label '(.+?)'\?"
# The first pattern that is found says whether labels matter, and makes the step.
_STEPS: tuple[tuple[str, bool, Callable[[re.Match[str]], CodeStep]], ...] = (
    (
        r"which label is the (most|least) common\?",
        True,
        lambda found: CodeStep(line_code.extreme_label, _rank(found)),
    ),
    (
        r"is the label '(.+?)' more common than, less common than, or of the same frequency as the label "
        r"'(.+?)'\?",
        True,
        lambda found: CodeStep(line_code.compare_labels, found.groups()),
    ),
    (
        r"how many lines have the label '(.+?)'\?",
        True,
        lambda found: CodeStep(line_code.count_label, found.groups()),
    ),
    (
        r"Which user has the (most|second most) lines\?",
        False,
        lambda found: CodeStep(line_code.extreme_user, _rank(found)),
    ),
    (
        r"Which user has the most lines with the label '(.+?)'\?",
        True,
        lambda found: CodeStep(line_code.user_of_label, found.groups()),
    ),
    (
        r"Which of the users (\d+) and (\d+) has more lines with the label '(.+?)'\?",
        True,
        lambda found: CodeStep(line_code.compare_users, found.groups()),
    ),
    (
        r"Which date has the (most|second most) lines\?",
        False,
        lambda found: CodeStep(line_code.extreme_day, _rank(found)),
    ),
    (
        r"How many dates occur exactly (\w+)",
        False,
        lambda found: CodeStep(line_code.days_seen, (1 if found[1] == "once" else int(found[1]),)),
    ),
    (
        rf"share of lines with the label '(.+?)' among all lines dated before {_DAY}, and",
        True,
        lambda found: CodeStep(line_code.before_and_after, (found[1], _iso(found[2]))),
    ),
    (
        rf"Which is the first month, of all years, that has {_TWO}",
        True,
        lambda found: CodeStep(line_code.first_month, found.groups()),
    ),
    (
        rf"How many of them have {_TWO}",
        True,
        lambda found: CodeStep(line_code.months_more, found.groups()),
    ),
    (
        r"In how many of them is the label '(.+?)' more common than each other label\?",
        True,
        lambda found: CodeStep(line_code.months_top, found.groups()),
    ),
    (
        r"both are users who have at least one line with the label '(.+?)' or the label '(.+?)'"
        rf"(?:, and whose lines with the label '(.+?)', if any, are all dated (after|before) {_DAY})?"
        r"\. The two",
        True,
        _both,
    ),
    (r"such that one user has (.+?), and the other user has (.+?)\. The two", True, _roles),
)
