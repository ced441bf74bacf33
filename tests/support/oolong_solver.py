"""Answers OOLONG's questions from the text of a window with gold labels and of the question alone."""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime
from functools import lru_cache
from typing import NamedTuple

_LINE = re.compile(r"Date: (\w{3} \d\d, \d{4}) \|\| User: (\d+) \|\| Instance: (.*) \|\| Label: (.*)")
_DATE = r"(\w{3} \d\d, \d{4})"


class ParsedLine(NamedTuple):
    day: date
    user: str
    text: str
    label: str


@lru_cache(maxsize=2)
def parsed(window: str) -> list[ParsedLine]:
    matches = (_LINE.fullmatch(line) for line in window.split("\n"))
    return [ParsedLine(as_day(match[1]), match[2], match[3], match[4]) for match in matches if match]


def as_day(text: str) -> date:
    return datetime.strptime(text, "%b %d, %Y").date()


def solved(window: str, question: str) -> set[str]:
    """All right answers; more than one if the question has a tie."""
    lines, rest = _considered(parsed(window), question)
    labels = re.findall(r"'([^']+)'", rest.split(" Give the final answer")[0])
    for pattern, solve in _SOLVERS:
        if match := re.search(pattern, rest):
            return solve(lines, labels, match)
    raise AssertionError(f"a question of no known kind: {question}")


def _considered(lines: list[ParsedLine], question: str) -> tuple[list[ParsedLine], str]:
    """The lines that the question is about, and the question without the words that say so."""
    if match := re.match(r"Among the lines of these users alone: ([\d, ]+): ", question):
        users = match[1].split(", ")
        assert 1 <= len(set(users)) == len(users) <= 20
        lines = [line for line in lines if line.user in users]
    elif match := re.match(r"Among the lines dated in (\w+) of any year: ", question):
        lines = [line for line in lines if line.day.strftime("%B") == match[1]]
    elif match := re.match(rf"Among the lines dated from {_DATE} to {_DATE}, both included: ", question):
        first, last = as_day(match[1]), as_day(match[2])
        lines = [line for line in lines if first <= line.day <= last]
    elif match := re.match("In the lines above, ", question):
        pass
    return lines, question[match.end() :] if match else question


def _extreme(values: Iterable[str | date], rank: int) -> set[str]:
    """All values of which as many exist as of the one at this rank; a negative rank is from the end."""
    counts = Counter(values)
    times = sorted(counts.values(), reverse=True)[rank]
    return {str(value) for value, count in counts.items() if count == times}


def _compare_labels(lines: list[ParsedLine], labels: list[str], match: re.Match[str]) -> set[str]:
    one, other = (sum(line.label == label for line in lines) for label in labels[:2])
    return {"more common than" if one > other else "less common than" if one < other else "same frequency as"}


def _before_after(lines: list[ParsedLine], labels: list[str], match: re.Match[str]) -> set[str]:
    day = as_day(match[1])
    shares = []
    for side in ([x for x in lines if x.day < day], [x for x in lines if x.day > day]):
        shares.append(sum(line.label == labels[0] for line in side) / len(side))
    return {
        "more common"
        if shares[0] > shares[1]
        else "less common"
        if shares[0] < shares[1]
        else "same frequency"
    }


def _by_month(lines: list[ParsedLine]) -> list[tuple[str, Counter[str]]]:
    months: dict[date, Counter[str]] = {}
    for line in lines:
        months.setdefault(line.day.replace(day=1), Counter())[line.label] += 1
    return [(month.strftime("%B %Y"), months[month]) for month in sorted(months)]


def _more(lines: list[ParsedLine], labels: list[str]) -> list[str]:
    return [month for month, counts in _by_month(lines) if counts[labels[0]] > counts[labels[1]]]


def _on_top(lines: list[ParsedLine], label: str) -> int:
    tops = (
        counts[label] > max([0, *(n for x, n in counts.items() if x != label)])
        for _, counts in _by_month(lines)
    )
    return sum(tops)


def _seen(lines: list[ParsedLine], times: str) -> int:
    wanted = 1 if times == "once" else int(times.split()[0])
    return list(Counter(line.day for line in lines).values()).count(wanted)


def _rival(lines: list[ParsedLine], labels: list[str], match: re.Match[str]) -> set[str]:
    users = [line.user for line in lines if line.label == labels[0] and line.user in match.groups()]
    return _extreme(users, 0)


_SOLVERS = (
    (r"^which label is the most common\?", lambda lines, _, __: _extreme((x.label for x in lines), 0)),
    (r"^which label is the least common\?", lambda lines, _, __: _extreme((x.label for x in lines), -1)),
    (r"^is the label .* more common than,", _compare_labels),
    (
        r"^how many lines have the label",
        lambda lines, labels, _: {str(sum(x.label == labels[0] for x in lines))},
    ),
    (r"^Which user has the most lines\?", lambda lines, _, __: _extreme((x.user for x in lines), 0)),
    (r"^Which user has the second most lines\?", lambda lines, _, __: _extreme((x.user for x in lines), 1)),
    (
        r"^Which user has the most lines with the label",
        lambda lines, labels, _: _extreme((x.user for x in lines if x.label == labels[0]), 0),
    ),
    (r"^Which of the users (\d+) and (\d+) has more lines", _rival),
    (r"^Which date has the most lines\?", lambda lines, _, __: _extreme((x.day for x in lines), 0)),
    (r"^Which date has the second most lines\?", lambda lines, _, __: _extreme((x.day for x in lines), 1)),
    (r"^How many dates occur exactly (.*)\?", lambda lines, _, match: {str(_seen(lines, match[1]))}),
    (rf"^Take the share of lines .* dated before {_DATE},", _before_after),
    (r"^Which is the first month,", lambda lines, labels, _: {_more(lines, labels)[0]}),
    (r"How many of them have more lines", lambda lines, labels, _: {str(len(_more(lines, labels)))}),
    (r"In how many of them is the label", lambda lines, labels, _: {str(_on_top(lines, labels[0]))}),
)
