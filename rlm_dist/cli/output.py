"""What a command writes: results on stdout, everything else on stderr, and the exit code.

With ``--json``, stdout gets one JSON document and nothing else, in UTF-8 whatever the locale; a lone
surrogate is written as a JSON escape.

Invariant: all text reaches the terminal through this module. It may come from a model or a document that
tries to control the reader's terminal, so plain text is cleaned here, and JSON is written with escapes for
all control characters.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.live import Live
from rich.text import Text

from rlm_dist.errors import (
    Cancelled,
    InputError,
    LimitExceeded,
    NotFound,
    RLMError,
    SettingsError,
    Unreachable,
)
from rlm_dist.one_line import one_line
from rlm_dist.operations.forecast import Range
from rlm_dist.schema import JobState

# Sequences that control a terminal: CSI; then OSC, DCS, SOS, PM and APC with their text; then others.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*[0-~]"
)
# Single characters that do: all control characters except tab and newline, and marks that reorder a line.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# In JSON also line separators, at which some readers of JSON lines end a line.
_ESCAPED = re.compile(_CONTROLS.pattern[:-1] + r"\u2028\u2029]")
NOT_ISOLATED = (
    "isolation: none (RLM_SANDBOX=off); model-written code runs as a plain process of the worker's user"
)
DONE, FAILED, USAGE, NO_ANSWER, CANCELLED, UNREACHABLE = range(6)
_ERROR_CODES: dict[type[RLMError], int] = {
    SettingsError: USAGE,
    InputError: USAGE,
    NotFound: USAGE,
    LimitExceeded: NO_ANSWER,
    Cancelled: CANCELLED,
    Unreachable: UNREACHABLE,
}
_STATE_CODES = {
    JobState.SUCCEEDED: DONE,
    JobState.EXHAUSTED: NO_ANSWER,
    JobState.CANCELLED: CANCELLED,
}


class Output:
    """Where a command writes; ``quiet`` suppresses progress and notes, never results or errors."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self._quiet = quiet

    def result(self, document: object, lines: Callable[[], Iterator[str] | Sequence[str]]) -> None:
        """Write a result: the document with ``--json``, otherwise the lines."""
        if self.as_json:
            write_json(document)
        else:
            for line in lines():
                typer.echo(clean(line))

    def note(self, text: str) -> None:
        """Write a note to stderr, unless ``quiet``."""
        if not self._quiet:
            typer.echo(clean(text), err=True)

    @property
    def live(self) -> bool:
        """Whether progress is shown live, on a terminal."""
        return not self._quiet and Console(stderr=True).is_terminal

    @contextmanager
    def panel(self, *, every_s: float = 0.0) -> Iterator[Callable[[str], None]]:
        """Yield a function that shows a text. On a terminal, each text replaces the last one.

        Elsewhere, a text is written on a new line if it differs from the last one written and comes at least
        ``every_s`` after it; otherwise it is dropped.
        """
        if not self.live:
            yield self._changes(every_s)
            return
        with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
            yield lambda text: live.update(Text(clean(text)))

    def _changes(self, every_s: float) -> Callable[[str], None]:
        last, due = "", 0.0

        def show(text: str) -> None:
            nonlocal last, due
            if text != last and time.monotonic() >= due:
                self.note(text)
                last, due = text, time.monotonic() + every_s

        return show


def write_json(document: object) -> None:
    """Write one value as one line of JSON on stdout."""
    typer.echo(json_line(document))


def json_line(document: object) -> bytes:
    """One value as one line of JSON, without its newline."""
    text = json.dumps(document, default=_plain, ensure_ascii=False)
    text = _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text.encode("utf-8", "backslashreplace")


def report(error: RLMError, *, as_json: bool) -> int:
    """Write an error to stderr and, with ``as_json``, to stdout as a document; return the exit code."""
    typer.echo(clean(f"error: {error}"), err=True)
    if as_json:
        write_json({"error": {"type": type(error).__name__, "message": str(error)}})
    return _ERROR_CODES.get(type(error), FAILED)


def exit_code(state: JobState) -> int:
    """The exit code of a command that ran one job to its end."""
    return _STATE_CODES.get(state, FAILED)


def clean(text: str) -> str:
    """The text without terminal escapes, control characters and marks that change the reading direction."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def money(amount: float | None) -> str:
    """An amount as text; an unknown amount is never shown as 0."""
    return "unknown" if amount is None else f"${amount:.6f}"


def usd(amount: float) -> str:
    """An approximate amount as text."""
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.4f}"


def duration(seconds: float) -> str:
    """A duration as text, in seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def between(range_: Range, text: Callable[[float], str]) -> str:
    """A forecast quantity with its bounds; ``text`` formats a number."""
    return f"{text(range_.likely)} ({text(range_.low)} to {text(range_.high)})"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines with aligned columns; the first row is the head. Control characters are escaped."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def plain_streams() -> None:
    """Make stdout and stderr accept any text, even if the locale cannot encode it."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a test's stream may have none
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="python")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
