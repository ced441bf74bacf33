"""What a command writes: results on stdout, everything else on stderr, and the exit code.

With ``--json`` stdout holds one JSON document and nothing else, in UTF-8 whatever the locale; a lone
surrogate is written as the JSON escape it is.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.live import Live

from rlm_dist.errors import (
    Cancelled,
    InputError,
    LimitExceeded,
    NotFound,
    RLMError,
    SettingsError,
    Unreachable,
)
from rlm_dist.models import JobState

DONE, FAILED, USAGE, NO_ANSWER, CANCELLED, UNREACHABLE = range(6)
_CODES: dict[type[RLMError], int] = {
    SettingsError: USAGE,
    InputError: USAGE,
    NotFound: USAGE,
    LimitExceeded: NO_ANSWER,
    Cancelled: CANCELLED,
    Unreachable: UNREACHABLE,
}
_STATES = {
    JobState.SUCCEEDED: DONE,
    JobState.EXHAUSTED: NO_ANSWER,
    JobState.CANCELLED: CANCELLED,
}


class Output:
    """Where one command writes; ``quiet`` leaves out progress and remarks, never results or errors."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self._quiet = quiet

    def result(self, document: object, lines: Callable[[], Iterator[str] | Sequence[str]]) -> None:
        """Write a result: the document with ``--json``, else the lines."""
        if self.as_json:
            write_json(document)
        else:
            for line in lines():
                typer.echo(line)

    def note(self, text: str) -> None:
        """Say something beside the result."""
        if not self._quiet:
            typer.echo(text, err=True)

    @contextmanager
    def panel(self) -> Iterator[Callable[[str], None]]:
        """Yield what shows a text: in place of the last one on a terminal, else below it where it differs."""
        console = Console(stderr=True)
        if self._quiet or not console.is_terminal:
            yield self._changes()
            return
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield live.update

    def _changes(self) -> Callable[[str], None]:
        last = ""

        def show(text: str) -> None:
            nonlocal last
            if text != last:
                self.note(text)
            last = text

        return show


def write_json(document: object) -> None:
    """Write one value as one line of JSON on stdout."""
    typer.echo(json_line(document))


def json_line(document: object) -> bytes:
    """One value as one line of JSON, without its newline."""
    text = json.dumps(document, default=_plain, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


def report(error: RLMError, *, as_json: bool) -> int:
    """Tell of an error on stderr, and on stdout too where a document is asked for; return the exit code."""
    typer.echo(f"error: {error}", err=True)
    if as_json:
        write_json({"error": {"type": type(error).__name__, "message": str(error)}})
    return _CODES.get(type(error), FAILED)


def exit_code(state: JobState) -> int:
    """The exit code of a command that ran one job to its end."""
    return _STATES.get(state, FAILED)


def money(usd: float | None) -> str:
    """An amount as text; one that is not known is never shown as 0."""
    return "unknown" if usd is None else f"${usd:.6f}"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as lines with aligned columns; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def plain_streams() -> None:
    """Let stdout and stderr write any text, whatever the locale can encode."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a test's stream may have none
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="python")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
