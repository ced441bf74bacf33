"""What code blocks come to in the REPL."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

# What a REPL offers beside Python; a test compares this list with a live one.
REPL_NAMES = frozenset(
    {
        *("context", "history", "answer", "llm_query", "llm_query_batched", "rlm_query", "rlm_query_batched"),
        *("LLMQueryError", "FINAL", "FINAL_VAR", "SHOW_VARS", "exit", "quit"),
    }
)


class FinalValue(NamedTuple):
    """An answer handed in: its text, the value where it is JSON and no string, and by which way."""

    text: str
    value: Any
    by: Literal["FINAL", "FINAL_VAR", "answer"]


@dataclass(frozen=True)
class Clipped:
    """A text of which only head and tail were kept; ``omitted`` characters are left out between them."""

    head: str = ""
    tail: str = ""
    omitted: int = 0


@dataclass(frozen=True)
class CellResult:
    """What one code block did in the REPL.

    ``error`` is the plain traceback of an exception, or why the block was stopped. ``state_lost`` says that
    the REPL process had to be ended, and its variables with it. ``partial`` is the text of
    ``answer["content"]`` after the block, ready or not (None where it is None or absent).
    """

    output: Clipped = Clipped()
    error: str | None = None
    final: FinalValue | None = None
    partial: str | None = None
    state_lost: bool = False
    calls: int = 0
    failed_calls: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Resolved:
    """What a variable or a simple path (``d['k']``, ``a.b[0]``) is in the REPL.

    ``found`` is false for an unknown name; ``names`` are then the live names there are. ``final`` is None
    also where the value is None, which is no answer.
    """

    found: bool
    final: FinalValue | None = None
    names: tuple[str, ...] = ()
