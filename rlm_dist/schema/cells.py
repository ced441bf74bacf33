"""The results of code blocks, and of variables that are looked up, in the REPL."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

# What ended a REPL: a block's time limit, memory, a broken frame, that it read nothing, or anything else.
LostBy = Literal["time", "memory", "protocol", "unread", "ended"]
# The names that a REPL offers besides Python's own; a test compares this list with a live REPL.
REPL_NAMES = frozenset(
    {
        *("context", "history", "answer", "llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched"),
        *("LLMQueryError", "FINAL", "FINAL_VAR", "SHOW_VARS", "exit", "quit"),
    }
)


class FinalValue(NamedTuple):
    """An answer handed in: its text, its value if that is JSON but not a string, and how it was handed in."""

    text: str
    value: Any
    by: Literal["FINAL", "FINAL_VAR", "answer"]


class ReachedLimit(NamedTuple):
    """A limit that a call did not fit into, as in ``errors.LimitExceeded``."""

    kind: str
    used: float
    limit: float
    needed: float = 0


@dataclass(frozen=True)
class Clipped:
    """The head and tail of a text; ``omitted`` characters between them are left out."""

    head: str = ""
    tail: str = ""
    omitted: int = 0


@dataclass(frozen=True)
class CellResult:
    """What one code block did in the REPL.

    ``error`` is the plain traceback of an exception, or why the block was stopped. ``state_lost`` says that
    the REPL process had to be ended, and that its variables are lost; ``lost_by`` says what ended it.
    ``partial`` is the text of ``answer["content"]`` after the block, ready or not, cut beyond 1 MiB; None if
    there is none or it is the last one that was reported. ``truncated_calls`` counts the answers of sub-calls
    that were cut off at the output limit. ``limits`` are those for which sub-calls were not made.
    """

    output: Clipped = Clipped()
    error: str | None = None
    final: FinalValue | None = None
    partial: str | None = None
    state_lost: bool = False
    lost_by: LostBy | None = None
    calls: int = 0
    failed_calls: int = 0
    truncated_calls: int = 0
    seconds: float = 0.0
    limits: tuple[ReachedLimit, ...] = ()


@dataclass(frozen=True)
class Resolved:
    """The value of a variable or a simple path (``d['k']``, ``a.b[0]``) in the REPL.

    ``found`` is false for an unknown name; ``names`` then lists the variables that exist. ``final`` is also
    None if the value is None, which is not an answer.
    """

    found: bool
    final: FinalValue | None = None
    names: tuple[str, ...] = ()
