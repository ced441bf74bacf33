"""What the simulated root model writes about windows of OOLONG, as functions; the REPL gets their source.

Dates are texts such as ``2023-01-05``, whose order is that of time. Standard library only.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple


class DatedLine(NamedTuple):
    """A line of a window; the label is empty if it does not stand there."""

    day: str
    user: str
    text: str
    label: str


def read_lines(window: str) -> list[DatedLine]:
    """The lines of a window in its text."""
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    months = {name: f"{number:02}" for number, name in enumerate(names, 1)}
    form = r"^Date: (\w{3}) (\d\d), (\d{4}) \|\| User: (\d+) \|\| Instance: (.*?)(?: \|\| Label: (.*))?$"
    return [
        DatedLine(f"{year}-{months[month]}-{day}", user, text, label)
        for month, day, year, user, text, label in re.findall(form, window, re.M)
    ]


def ask_labels(lines: list[DatedLine], labels: str, ask: Callable[[list[str]], list[str]]) -> list[DatedLine]:
    """The lines with the labels that the sub model gives them, 100 lines a prompt."""
    task = (
        f"Give each numbered text one of these labels: {labels}.\n"
        "Reply with one line for each, in the form 'number: label', and nothing else.\n\n"
    )
    found: dict[int, str] = {}
    for _ in range(2):  # what a reply leaves out is asked again
        left = [place for place, line in enumerate(lines) if not line.label and place not in found]
        groups = [left[start : start + 100] for start in range(0, len(left), 100)]
        prompts = [
            task + "\n".join(f"{number}: {lines[place].text}" for number, place in enumerate(group, 1))
            for group in groups
        ]
        for group, reply in zip(groups, ask(prompts) if prompts else [], strict=True):
            for number, label in re.findall(r"^(\d+): (.+)$", str(reply), re.M):
                if 1 <= int(number) <= len(group):
                    found[group[int(number) - 1]] = label.strip()
    return [
        line if line.label else line._replace(label=found.get(place, "")) for place, line in enumerate(lines)
    ]


def of_users(lines: list[DatedLine], users: list[str]) -> list[DatedLine]:
    """The lines of these users."""
    return [line for line in lines if line.user in set(users)]


def in_month(lines: list[DatedLine], month: str) -> list[DatedLine]:
    """The lines of a month, ``01`` to ``12``, of any year."""
    return [line for line in lines if line.day[5:7] == month]


def in_range(lines: list[DatedLine], first: str, last: str) -> list[DatedLine]:
    """The lines from one date to another, both included."""
    return [line for line in lines if first <= line.day <= last]


def at_rank(values: list[str], rank: int) -> str:
    """The value whose number is the ``rank``-th, from 0 on, or from the end if it is negative."""
    ordered = Counter(values).most_common()
    return ordered[rank][0] if -len(ordered) <= rank < len(ordered) else "unknown"


def extreme_label(lines: list[DatedLine], rank: int) -> str:
    """The label at a rank."""
    return f"Label: {at_rank([line.label for line in lines], rank)}"


def compare_labels(lines: list[DatedLine], one: str, other: str) -> str:
    """Whether a label is more common than another."""
    counts = Counter(line.label for line in lines)
    more, less = counts[one] > counts[other], counts[one] < counts[other]
    phrase = "more common than" if more else "less common than" if less else "same frequency as"
    return f"Answer: {one} is {phrase} {other}"


def count_label(lines: list[DatedLine], label: str) -> str:
    """How many lines have a label."""
    return f"Answer: {sum(line.label == label for line in lines)}"


def extreme_user(lines: list[DatedLine], rank: int) -> str:
    """The user at a rank by lines."""
    return f"User: {at_rank([line.user for line in lines], rank)}"


def user_of_label(lines: list[DatedLine], label: str) -> str:
    """The user with most lines of a label."""
    return f"User: {at_rank([line.user for line in lines if line.label == label], 0)}"


def compare_users(lines: list[DatedLine], one: str, other: str, label: str) -> str:
    """Which of two users has more lines of a label."""
    counts = Counter(line.user for line in lines if line.label == label)
    return f"User: {one if counts[one] > counts[other] else other}"


def extreme_day(lines: list[DatedLine], rank: int) -> str:
    """The date at a rank by lines."""
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    year, _, rest = at_rank([line.day for line in lines], rank).partition("-")
    month, _, day = rest.partition("-")
    return f"Date: {names[int(month or 1) - 1]} {day}, {year}"


def days_seen(lines: list[DatedLine], times: int) -> str:
    """How many dates have exactly ``times`` lines."""
    return f"Answer: {list(Counter(line.day for line in lines).values()).count(times)}"


def before_and_after(lines: list[DatedLine], label: str, day: str) -> str:
    """How a label's share before a date stands to that after it."""
    before = [line.label == label for line in lines if line.day < day]
    after = [line.label == label for line in lines if line.day > day]
    one, other = sum(before) * len(after), sum(after) * len(before)
    return f"Answer: {'more common' if one > other else 'less common' if one < other else 'same frequency'}"


def by_month(lines: list[DatedLine]) -> dict[str, Counter[str]]:
    """The counts of labels by month, such as ``2023-01``, in order."""
    months: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        months[line.day[:7]][line.label] += 1
    return dict(sorted(months.items()))


def first_month(lines: list[DatedLine], one: str, other: str) -> str:
    """The first month that has more lines of one label than of another."""
    names = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ]
    months = (month for month, counts in by_month(lines).items() if counts[one] > counts[other])
    year, _, month = next(months, "").partition("-")
    return f"Answer: {names[int(month) - 1]} {year}" if month else "Answer: none"


def months_more(lines: list[DatedLine], one: str, other: str) -> str:
    """How many months have more lines of one label than of another."""
    return f"Answer: {sum(counts[one] > counts[other] for counts in by_month(lines).values())}"


def months_top(lines: list[DatedLine], label: str) -> str:
    """In how many months a label is more common than each other one."""
    tops = (
        counts[label] > max((count for name, count in counts.items() if name != label), default=0)
        for counts in by_month(lines).values()
    )
    return f"Answer: {sum(tops)}"


def by_user(lines: list[DatedLine]) -> dict[str, list[DatedLine]]:
    """The lines of each user."""
    users: defaultdict[str, list[DatedLine]] = defaultdict(list)
    for line in lines:
        users[line.user].append(line)
    return dict(users)


def pairs_of_both(lines: list[DatedLine], labels: list[str], dated: str, after: bool, day: str) -> str:
    """The pairs of users who both have one of the labels, and lines of ``dated`` on one side of a date."""
    wanted = [
        int(user)
        for user, own in by_user(lines).items()
        if any(line.label in labels for line in own)
        and all(line.day > day if after else line.day < day for line in own if line.label == dated)
    ]
    return "\n".join(f"({one}, {other})" for one, other in combinations(sorted(wanted), 2)) or "no pairs"


def pairs_of_roles(
    lines: list[DatedLine], one: list[tuple[str, int, bool]], other: list[tuple[str, int, bool]]
) -> str:
    """The pairs of which one user meets all of one list, the other all of another: label, times, exactly."""
    counts = {int(user): Counter(line.label for line in own) for user, own in by_user(lines).items()}
    firsts, seconds = (
        {
            user
            for user, own in counts.items()
            if all(own[label] == times if just else own[label] >= times for label, times, just in role)
        }
        for role in (one, other)
    )
    pairs = {(min(a, b), max(a, b)) for a in firsts for b in seconds if a != b}
    return "\n".join(f"({a}, {b})" for a, b in sorted(pairs)) or "no pairs"
