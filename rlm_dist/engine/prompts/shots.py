# ruff: noqa: E501  # prompts are data: the code in them is short in tokens, not in columns
"""Worked examples for small models, which copy an example's code with new literals.

There is one for each kind of task that such a model can do: count lines, find a fact by its pattern, narrow
the text down by words and ask about the rest, ask about every piece and combine the answers. They are short,
because a local model's window is about 4,000 tokens.
"""

from typing import NamedTuple

from rlm_dist.schema import ContextInfo


class Shot(NamedTuple):
    """A question over some context, and the reply that solves it."""

    info: ContextInfo
    query: str
    reply: str


def _text(chars: int) -> ContextInfo:
    return ContextInfo(kind="str", chars=chars, items=1)


SHOTS = (
    Shot(
        _text(48_210),
        "How many lines of the log have the level WARNING?",
        """\
```repl
lines = context.splitlines()
hits = [line for line in lines if "WARNING" in line]
print(len(lines), hits[:2])
FINAL(len(hits))
```""",
    ),
    Shot(
        _text(215_400),
        "What is the secret code for blue-harbor mentioned in the text?",
        """\
```repl
import re
places = [m.start() for m in re.finditer("blue-harbor", context, re.IGNORECASE)]
near = [context[max(0, p - 200):p + 200] for p in places]
found = re.findall(r"blue-harbor\\D{0,60}?(\\d+)", " ".join(near), re.IGNORECASE)
print(near[:1], found)
FINAL(found[0] if found else llm_query("What is the secret code for blue-harbor? Reply with the code only.\\n" + "\\n".join(near)[:4000]))
```""",
    ),
    Shot(
        _text(90_650),
        "Where does the woman who repairs violins live?",
        """\
```repl
lines = context.splitlines()
words = ["violin", "repair", "luthier", "instrument", "strings", "workshop"]
hits = [line for line in lines if any(word in line.lower() for word in words)]
print(len(hits), hits[:3])
FINAL(llm_query("Where does the woman who repairs violins live? Reply with the place only.\\n" + "\\n".join(hits)[:4000]))
```""",
    ),
    Shot(
        ContextInfo(kind="list", chars=31_900, items=240, sizes=(131, 128, 140)),
        "Each item is a customer review. How many are positive, how many are negative?",
        """\
```repl
from collections import Counter
prompts = ["Is this review positive or negative? Reply with one word.\\nReview: " + item[:3000] for item in context]
labels = llm_query_batched(prompts)
counts = Counter("negative" if "negative" in label.lower() else "positive" for label in labels)
print(counts)
FINAL("positive: " + str(counts["positive"]) + ", negative: " + str(counts["negative"]))
```""",
    ),
    Shot(
        _text(12_300),
        "Summarize what the text says about the budget.",
        """\
```repl
chunks = [context[i:i + 3500] for i in range(0, len(context), 3500)]
notes = llm_query_batched(["What does this text say about the budget? If nothing, reply NONE.\\n" + c for c in chunks])
useful = [note for note in notes if "NONE" not in note]
print(len(chunks), len(useful))
FINAL(llm_query("Summarize in three sentences what these notes say about the budget.\\n" + "\\n".join(useful)[:4000]))
```""",
    ),
)
