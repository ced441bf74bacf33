"""Drops what a model thinks aloud: ``<think>…</think>``, whatever stands in it.

A tag inside a fenced block is code and stays. A closing tag without an opening one ends thoughts that began
with the reply (chat templates swallow the opening tag); an opening tag without a closing one opens thoughts
that were cut off, and nothing after it counts.
"""

import re

_OPEN = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_CLOSE = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_INLINE = re.compile(r"`[^`\n]*`")


def without_thoughts(text: str) -> str:
    """The text without thoughts."""
    if not _OPEN.search(text) and not _CLOSE.search(text):
        return text
    kept: list[str] = []
    thinking = fenced = False
    for line in text.split("\n"):
        if thinking:
            closed = _CLOSE.search(line)
            if closed is None:
                continue
            thinking, line = False, line[closed.end() :]
        if not fenced:
            line, thinking = _cut(line)
        orphan = None if thinking else _orphan(line, fenced)
        if orphan is not None:
            kept, fenced, line = [], False, line[orphan:]
        if _FENCE.match(line) and line.count("```") < 2:
            fenced = not fenced
        kept.append(line)
    return "\n".join(kept)


def _cut(line: str) -> tuple[str, bool]:
    """A line of prose without the thoughts in it, and whether thoughts are still open at its end."""
    masked = _INLINE.sub(lambda found: " " * len(found.group()), line)
    kept, at = [], 0
    while (opened := _OPEN.search(masked, at)) is not None:
        kept.append(line[at : opened.start()])
        closed = _CLOSE.search(masked, opened.end())
        if closed is None:
            return "".join(kept), True
        at = closed.end()
    return "".join([*kept, line[at:]]), False


def _orphan(line: str, fenced: bool) -> int | None:
    """Where a closing tag ends that has no opening one; in a fence only a line that starts with it counts."""
    stripped = line.strip()
    found = list(_CLOSE.finditer(line))
    if not found:
        return None
    if _CLOSE.match(stripped) or (not fenced and line[found[-1].end() :].strip() == ""):
        return found[-1].end()
    return None
