"""Finds ``FINAL(...)`` and ``FINAL_VAR(...)`` in prose.

Only at the start of a line: not in a sentence, a list item, a quoted line or inline code. The argument ends
at the balanced closing parenthesis. Parentheses in quotes do not count; an apostrophe is not a quote.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from rlm_dist.engine.parsing.syntax import literal_of

_START = re.compile(r"^[ \t]*(?:\*\*|__)?(FINAL(?:_VAR)?)[ \t]*\(", re.MULTILINE)
_QUOTED = re.compile(
    r'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\''
    r'|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'(?!\w)'
)
_STRING = re.compile(r"[rRuU]?['\"]")
_MARKS = re.compile(r"[()'\"]")
_MAX_TRIALS = 8


@dataclass(frozen=True)
class TextAnswer:
    """An answer handed in as text.

    ``argument`` is the text between the parentheses, without outer white space and quotes; ``quoted`` says
    that it was a string literal. ``span`` is where the whole stands in the prose.
    """

    kind: Literal["FINAL", "FINAL_VAR"]
    argument: str
    quoted: bool = False
    span: tuple[int, int] = field(default=(0, 0), compare=False)


def find_answer(prose: str) -> TextAnswer | None:
    """The first answer in the prose that has its closing parenthesis."""
    for trial, start in enumerate(_starts(prose)):
        if trial == _MAX_TRIALS:
            break
        end = _closing(prose, start.end())
        if end is None or _in_a_sentence(prose, start.start(), end):
            continue
        argument, quoted = _unquote(prose[start.end() : end].strip())
        kind: Literal["FINAL", "FINAL_VAR"] = "FINAL_VAR" if start.group(1) == "FINAL_VAR" else "FINAL"
        return TextAnswer(kind, argument, quoted, (start.start(), end + 1))
    return None


def _starts(prose: str) -> Iterator[re.Match[str]]:
    """The beginnings of answers, found line by line: a search holds the lock to its end."""
    at = prose.find("FINAL")
    while at >= 0:
        start = _START.match(prose, prose.rfind("\n", 0, at) + 1)
        if start is not None:
            yield start
        line_end = prose.find("\n", at)
        at = prose.find("FINAL", line_end) if line_end >= 0 else -1


def _closing(prose: str, start: int) -> int | None:
    """The index of the parenthesis that closes an argument which begins at ``start``.

    If the parentheses do not balance (a smiley, an enumeration "1)"), it is the one that ends the prose.
    """
    end = _balanced(prose, start, quotes=True)
    if end is None:
        end = _balanced(prose, start, quotes=False)
    if end is None:
        tail = prose.rstrip().rstrip("*_")
        end = len(tail) - 1 if tail.endswith(")") and len(tail) > start else None
    return end


def _balanced(prose: str, start: int, *, quotes: bool) -> int | None:
    depth, at = 1, start
    while (mark := _MARKS.search(prose, at)) is not None:
        at = mark.end()
        if mark.group() == "(":
            depth += 1
        elif mark.group() == ")":
            depth -= 1
            if depth == 0:
                return mark.start()
        elif quotes and _opens(prose, mark.start(), start):
            quoted = _QUOTED.match(prose, mark.start())
            at = quoted.end() if quoted else at
    return None


def _opens(prose: str, at: int, start: int) -> bool:
    """Whether the quote at ``at`` can open a string: the character before it ends no word or string."""
    before = prose[at - 1] if at > start else "("
    return not before.isalnum() and before not in "'\")"


def _in_a_sentence(prose: str, start: int, end: int) -> bool:
    """Whether a sentence that begins on the line above continues after the parenthesis."""
    after = prose[end + 1 :].split("\n", 1)[0].strip(" \t*_")
    above = prose[:start].rstrip(" \t")
    above = above[:-1].rsplit("\n", 1)[-1].strip() if above.endswith("\n") else ""
    return bool(after[:1].isalpha() and after[0].islower() and above and above[-1].isalpha())


def _unquote(argument: str) -> tuple[str, bool]:
    if not _STRING.match(argument):
        return argument, False
    try:
        value = literal_of(argument)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        value = _strip_quotes(argument)
    return (value, True) if isinstance(value, str) else (argument, False)


def _strip_quotes(argument: str) -> str | None:
    """The text inside one pair of quotes, for text that Python would reject, such as several lines."""
    quote = argument[0]
    if quote not in "'\"":
        return None
    for marks in (quote * 3, quote):
        inner = argument[len(marks) : -len(marks)]
        if len(argument) >= 2 * len(marks) and argument == f"{marks}{inner}{marks}" and marks not in inner:
            return inner
    return None
