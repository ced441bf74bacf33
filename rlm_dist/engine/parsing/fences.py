"""Cuts fenced blocks out of a reply and finds where each one really ends.

A line of fence marks may be part of a string in the code. Such a string is triple-quoted. So if the code up
to the first closing fence ends inside a triple-quoted string, later closing fences are tried until the code
compiles. The number of characters compiled in these trials is bounded.
"""

import ast
import re
import textwrap
from dataclasses import dataclass
from enum import Enum

from rlm_dist.engine.parsing.programs import MAX_PARSED_CHARS, RUN_TAGS, compiles, tree_of
from rlm_dist.engine.parsing.syntax import module_of

_WRAPPER_TAGS = frozenset({"", "markdown", "md"})
_OPEN = re.compile(r"([ \t]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?)(`{3,}|~{3,})[ \t]*([^\s`~]*)[ \t]*(.*)")
_TRAILING_OPEN = re.compile(r"(?:```|~~~)[ \t]*(repl|python3?|py)[ \t]*$", re.IGNORECASE)
_CLOSE = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*$")
_TRIAL_CHARS = 1_000_000
_MAX_TAIL_TRIALS = 4


class Kind(Enum):
    """The kind of a block, by its tag."""

    CODE = "code"
    UNTAGGED = "untagged"
    OTHER = "other"


@dataclass(frozen=True)
class Fence:
    """One fenced block; ``closed`` is false if the reply ended before its closing fence."""

    kind: Kind
    tag: str
    code: str
    closed: bool

    @property
    def runnable(self) -> bool:
        """Whether a block without a tag is code: it compiles, and does more than evaluate names or values."""
        tree = tree_of(self.code)
        return tree is not None and any(not _plain(statement) for statement in tree.body)


def split(text: str) -> tuple[list[Fence], str]:
    """Return the fenced blocks in order, and the text around them with an empty line for each block."""
    return _Splitter(text.split("\n")).split()


def _open_string(code: str) -> bool:
    """Whether the code ends inside a triple-quoted string."""
    if len(code) > MAX_PARSED_CHARS:
        return False
    try:
        module_of(code)
    except SyntaxError as error:
        return "triple-quoted" in (error.msg or "")
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return False


def _plain(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and not any(
        isinstance(node, ast.Call) for node in ast.walk(statement)
    )


class _Splitter:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._closing_marks = [mark.group(1) if (mark := _CLOSE.match(line)) else "" for line in lines]
        self._trial_chars = _TRIAL_CHARS
        self._unclosed_marks: set[str] = set()

    def split(self) -> tuple[list[Fence], str]:
        fences: list[Fence] = []
        prose: list[str] = []
        at = 0
        wrapper: str | None = None
        while at < len(self._lines):
            line = self._lines[at]
            if wrapper is not None and fences and self._closing_marks[at].startswith(wrapper):
                wrapper = None
                at += 1
                continue
            opening = _OPEN.match(line)
            if opening is not None and self._wraps(opening, at):
                wrapper = opening.group(2)
                at += 1
                continue
            trailing = None if opening else _TRAILING_OPEN.search(line)
            if trailing is not None:
                prose.append(line[: trailing.start()])
                opening = _OPEN.match(line[trailing.start() :])
            if opening is None:
                prose.append(line)
                at += 1
                continue
            one_liner = self._one_line(opening)
            if one_liner is None and "`" in opening.group(4):  # prose that begins with inline code
                prose.append(line)
                at += 1
                continue
            fence, at = (one_liner, at + 1) if one_liner else self._block(opening, at)
            fences.append(fence)
            prose.append("")
        return fences, "\n".join(prose)

    def _wraps(self, opening: re.Match[str], at: int) -> bool:
        """Whether this fence holds nothing but fences, so that the code is in those."""
        _, _, tag, rest = opening.groups()
        if rest or (tag.lower() not in _WRAPPER_TAGS and _kind(tag) is not Kind.CODE):
            return False
        inner = next((line for line in self._lines[at + 1 :] if line.strip()), "")
        match = _OPEN.match(inner)
        return match is not None and _kind(match.group(3)) is Kind.CODE and not match.group(4)

    def _one_line(self, opening: re.Match[str]) -> Fence | None:
        _, marks, tag, rest = opening.groups()
        body, inner = rest.rstrip(), f"{tag} {rest}".rstrip()
        if inner.endswith(marks) and len(inner) > len(marks):
            if _kind(tag) is Kind.CODE and body != marks:
                return Fence(Kind.CODE, tag, body[: -len(marks)].strip(), True)
            whole = inner[: -len(marks)].strip()
            kind = Kind.UNTAGGED if compiles(whole) else Kind.OTHER
            return Fence(kind, "" if kind is Kind.UNTAGGED else tag, whole, True)
        return None

    def _block(self, opening: re.Match[str], at: int) -> tuple[Fence, int]:
        lead, marks, tag, rest = opening.groups()
        kind = _kind(tag)
        start = at + 1
        first = self._first_closing(start, marks)
        if first is None:
            return self._unclosed(kind, tag, start, len(lead))
        if kind is Kind.OTHER:
            return Fence(kind, tag, "\n".join(self._lines[start:first]), True), first + 1
        code, end = self._code(start, first, marks, len(lead))
        if rest and kind is Kind.CODE and compiles(f"{rest}\n{code}"):
            code = f"{rest}\n{code}"
        return Fence(kind, "" if kind is Kind.UNTAGGED else tag, code, True), end

    def _first_closing(self, start: int, marks: str) -> int | None:
        if marks in self._unclosed_marks:
            return None
        for index in range(start, len(self._lines)):
            if self._closing_marks[index].startswith(marks):
                return index
        self._unclosed_marks.add(marks)
        return None

    def _unclosed(self, kind: Kind, tag: str, start: int, indent: int) -> tuple[Fence, int]:
        code, end = self._tail(start, len(self._lines), indent) or (
            self._body(start, len(self._lines), indent),
            len(self._lines),
        )
        return Fence(kind, tag, code, end < len(self._lines)), end

    def _code(self, start: int, first: int, marks: str, indent: int) -> tuple[str, int]:
        """The code from line ``start`` on, and the number of the line after its closing fence."""
        code = self._body(start, first, indent)
        if compiles(code):
            return code, first + 1
        if _open_string(code):
            for end in range(first + 1, len(self._lines)):
                if not self._closing_marks[end].startswith(marks):
                    continue
                longer = self._body(start, end, indent)
                self._trial_chars -= len(longer)
                if self._trial_chars < 0:
                    break
                if compiles(longer):
                    return longer, end + 1
        return self._tail(start, first, indent) or (code, first + 1)

    def _tail(self, start: int, stop: int, indent: int) -> tuple[str, int] | None:
        """Code whose closing fence is at the end of its last line, and the number of the line after it."""
        trials = 0
        for end in range(start, stop):
            line = self._lines[end].rstrip()
            if not line.endswith("```") or self._closing_marks[end]:
                continue
            trials += 1
            code = self._dedent([*self._lines[start:end], line.rstrip("`")], indent)
            self._trial_chars -= len(code)
            if trials > _MAX_TAIL_TRIALS or self._trial_chars < 0:
                return None
            if compiles(code):
                return code, end + 1
        return None

    def _body(self, start: int, end: int, indent: int) -> str:
        return self._dedent(self._lines[start:end], indent)

    def _dedent(self, lines: list[str], indent: int) -> str:
        """The lines without their fence's indentation, or without their common one if only that compiles."""
        code = "\n".join(line[min(indent, len(line) - len(line.lstrip(" \t"))) :] for line in lines)
        if code[:1] in (" ", "\t", "\n") and len(code) <= MAX_PARSED_CHARS and not compiles(code):
            flush = textwrap.dedent(code)
            return flush if compiles(flush) else code
        return code


def _kind(tag: str) -> Kind:
    name = tag.strip("{}.,:").lower()
    if not name:
        return Kind.UNTAGGED
    return Kind.CODE if name in RUN_TAGS else Kind.OTHER
