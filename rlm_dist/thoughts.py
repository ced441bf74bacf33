"""Drops what a model thinks aloud: ``<think>…</think>``, with any content, and the channel ``analysis``.

A tag inside a fenced block or a tool call is code and stays. A closing tag without an opening one ends
thoughts that began with the reply (chat templates swallow the opening tag). An opening tag without a closing
one begins thoughts that were cut off; everything after it is dropped.

A text that begins with ``<|channel|>`` or ``<|start|>`` is made of messages, each
``<|channel|>NAME<|message|>TEXT``. Their texts are kept, but for those of the channel ``analysis``.
"""

import re

_OPEN = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_CLOSE = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_INLINE = re.compile(r"`[^`\n]*`")
_CHANNELS = ("<|channel|>", "<|start|>")
_HEADER = re.compile(
    r"<\|channel\|>\s{0,10}(\w{1,50})[^<\n]{0,200}(?:<\|constrain\|>[^<\n]{0,100})?<\|message\|>"
)
_START = re.compile(r"<\|start\|>[^<\n]{0,100}\Z")


def without_thoughts(text: str) -> str:
    """Return the text without thoughts."""
    if text.lstrip().startswith(_CHANNELS):
        text = _without_analysis(text)
    if not _OPEN.search(text) and not _CLOSE.search(text):
        return text
    lines: list[str] = []
    thinking = fenced = called = False
    for line in text.split("\n"):
        if thinking:
            closing = _CLOSE.search(line)
            if closing is None:
                continue
            thinking, line = False, line[closing.end() :]
        called = called or (not fenced and line.lstrip().startswith("<tool_call>"))
        if called and not _CLOSE.match(line.strip()):
            called = "</tool_call>" not in line
            lines.append(line)
            continue
        if not fenced:
            line, thinking = _cut(line)
            called = line.lstrip().startswith("<tool_call>") and "</tool_call>" not in line
        orphan = None if thinking else _orphan(line, fenced)
        if orphan is not None:
            lines, fenced, line = [], False, line[orphan:]
        if _FENCE.match(line) and line.count("```") < 2:
            fenced = not fenced
        lines.append(line)
    return "\n".join(lines)


def _cut(line: str) -> tuple[str, bool]:
    """A line of prose without the thoughts in it, and whether thoughts are still open at its end."""
    masked = _INLINE.sub(lambda code: " " * len(code.group()), line)
    parts, at = [], 0
    while (opening := _OPEN.search(masked, at)) is not None:
        parts.append(line[at : opening.start()])
        closing = _CLOSE.search(masked, opening.end())
        if closing is None:
            return "".join(parts), True
        at = closing.end()
    return "".join([*parts, line[at:]]), False


def _orphan(line: str, fenced: bool) -> int | None:
    """The end of a closing tag that has no opening one; in a fence only a tag that starts its line counts."""
    stripped = line.strip()
    closings = list(_CLOSE.finditer(line))
    if not closings:
        return None
    if _CLOSE.match(stripped) or (not fenced and line[closings[-1].end() :].strip() == ""):
        return closings[-1].end()
    return None


def _without_analysis(text: str) -> str:
    """The texts of the messages in all channels but that of thoughts, one below the other."""
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)] if headers else []
    return "\n".join(
        _message_text(text[header.end() : end])
        for header, end in zip(headers, ends, strict=True)
        if header[1] != "analysis"
    )


def _message_text(text: str) -> str:
    """A message's text without the marks of its end and of the next one's start."""
    text = _START.sub("", text.rstrip()).rstrip()
    for mark in ("<|end|>", "<|return|>", "<|call|>"):
        text = text.removesuffix(mark)
    return text.rstrip()
