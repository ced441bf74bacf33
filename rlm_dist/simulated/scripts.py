"""The simulated root model: a script chosen by the query, played turn by turn, as real code for the REPL.

Turn 0 looks at the context, turn 1 does the work, turn 2 hands in the answer. The query is found in the user
messages before the script's first reply; nothing depends on the words around it. If a turn's output shows an
error, the script is played again as one block, which needs no earlier variable.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlm_dist.schema import Message

_KEY = re.compile(r"magic number for (?:the (?:key|city|name|item) )?[\"'`]?([^\s?\"'`]+)", re.I)
_WORD = re.compile(
    r"how many lines (?:contain|have|hold|mention)s?\s+(?:the word\s+)?[\"'`“]([^\"'`”\n]+)", re.I
)
_FIRST = re.compile(r"\bfirst (\d+) (?:lines|items|questions|entries|documents|elements|records)", re.I)
_ASK = re.compile(r"\b(?:ask|make|send|do) (\d+) sub-?calls", re.I)
_TROUBLE = re.compile(r"^(?:Traceback \(most recent call last\)|\w*Error\b)", re.M)
_QUESTION = re.compile(r"^(?:question|query|task)\s*:\s*(.+?)(?=\n\n|\Z)", re.I | re.S | re.M)
QUERY_CHARS = 2000

# How each reply starts, by which a script recognizes its own replies.
_FIRST_TURN = "I look at the context first."
_SECOND_TURN = "Now the work."
_AGAIN = "That went wrong; once more, all in one."
_LAST_TURN = "That is the answer."
_PROSE = (_FIRST_TURN, _SECOND_TURN, _AGAIN, _LAST_TURN)

_LOOK = """\
print(type(context).__name__, len(context) if hasattr(context, "__len__") else "")
print(str(context)[:300])
"""

_LINES = """\
if isinstance(context, dict):
    texts = [str(value) for value in context.values()]
elif isinstance(context, (list, tuple)):
    texts = [str(value) for value in context]
else:
    texts = [str(context)]
lines = [line for text in texts for line in text.splitlines()]
"""

_NEEDLE = (
    _LINES
    + """\
key = {key!r}
places = [number for number, line in enumerate(lines) if key in line][:50]
pieces = ["\\n".join(lines[max(0, place - 2) : place + 3]) for place in places]
if not pieces:
    whole = "\\n".join(lines)
    size = max(1000, len(whole) // 8 + 1)
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
prompts = [
    f"Text:\\n{{piece}}\\n\\nWhat is the magic number for {{key}}? Answer with the number alone, or NONE."
    for piece in pieces
]
replies = [str(reply).strip() for reply in llm_query_batched(prompts)]
result = next((reply for reply in replies if reply != "NONE"), "not found")
print(len(prompts), "sub-calls:", replies[:5])
"""
)

_COUNT = (
    _LINES
    + """\
word = {word!r}
result = sum(word in line for line in lines)
print(result, "of", len(lines), "lines")
"""
)

_FAN_OUT = (
    _LINES
    + """\
from collections import Counter

wanted = {wanted}
chosen = [lines[number % len(lines)] for number in range(wanted)] if lines else []
prompts = [
    f"Label the line by the kind of thing it asks for, in a few words.\\nLine {{number}}: {{line}}"
    for number, line in enumerate(chosen)
]
labels = llm_query_batched(prompts)
counts = Counter(str(label) for label in labels if getattr(label, "ok", True))
result = dict(sorted(counts.items()))
print(len(prompts), "sub-calls:", result)
"""
)

_GENERIC = (
    _LINES
    + """\
head = "\\n".join(texts)[:4000]
result = llm_query(head + "\\n\\n" + {query!r})
print(result)
"""
)


@dataclass(frozen=True)
class Script:
    """The code that does the work, and the reply that hands in its ``result``."""

    work: str
    hand_in: str


def reply(messages: Sequence[Message], choose: Callable[[str], Script] | None = None) -> str:
    """The root model's next reply in the chat; ``choose`` finds another script than ``pick`` for a query."""
    turn = sum(_is_own(message) for message in messages)
    chosen = (choose or pick)(query_text(messages))
    if turn and _TROUBLE.search(messages[-1].content):
        return _block(_AGAIN, chosen.work + "FINAL(result)\n")
    if turn == 0:
        return _block(_FIRST_TURN, _LOOK)
    if turn == 1:
        return _block(_SECOND_TURN, chosen.work)
    return chosen.hand_in


def script(work: str) -> Script:
    """The script that does this work and hands in its ``result``."""
    return Script(work, _block(_LAST_TURN, "FINAL(result)\n"))


def query_text(messages: Sequence[Message]) -> str:
    """The user messages that the script's first reply answers, without those of the examples before them.

    An example ends with a reply that is not the script's own.
    """
    texts: list[str] = []
    for message in messages:
        if _is_own(message):
            break
        if message.role == "assistant":
            texts.clear()
        elif message.role == "user":
            texts.append(message.content)
    return "\n".join(texts)


def _is_own(message: Message) -> bool:
    return message.role == "assistant" and message.content.startswith(_PROSE)


def pick(text: str) -> Script:
    """The script for the query in ``text``; the last match counts, as queries come last."""
    if keys := _KEY.findall(text):
        return script(_NEEDLE.format(key=keys[-1].rstrip(".,;:")))
    if words := _WORD.findall(text):
        return Script(_COUNT.format(word=words[-1]), f"{_LAST_TURN}\n\nFINAL_VAR(result)")
    if numbers := [*_FIRST.findall(text), *_ASK.findall(text)]:
        hand_in = 'answer["content"] = result\nanswer["ready"] = True\n'
        return Script(_FAN_OUT.format(wanted=int(numbers[-1])), _block(_LAST_TURN, hand_in))
    question = _QUESTION.search(text)
    query = (question[1] if question else text)[-QUERY_CHARS:]
    return script(_GENERIC.format(query=query))


def _block(prose: str, code: str) -> str:
    return f"{prose}\n\n```repl\n{code}```"
