"""Counts the turns in a row that did nothing but raise the same error.

Two turns are alike if their blocks printed the same and raised errors of the same type and message, whatever
the lines in which they were raised.
"""

import re
from collections.abc import Sequence

from rlm_dist.schema import CellResult

NOTICE_AFTER = 5  # turns; the job ends after as many again
_LINE_NUMBER = re.compile(r"\bline \d+")
_Signature = tuple[tuple[str, object], ...]


class RepeatedErrors:
    """The turns of one job; ``turns`` is how many of the last ones raised the same error."""

    def __init__(self) -> None:
        self.turns = 0
        self._last: _Signature = ()

    @property
    def kind(self) -> str:
        """The type of the error, such as ``KeyError``; of no error whose text does not begin with one."""
        name = self._last[-1][0].split("\n", 1)[0].split(":", 1)[0] if self._last else ""
        return name if name.replace(".", "").isidentifier() else "error"

    @property
    def exceeded(self) -> bool:
        """Whether the model went on raising the same error after the note about it."""
        return self.turns >= 2 * NOTICE_AFTER

    def add(self, results: Sequence[CellResult]) -> None:
        """Count a turn with the results of its blocks."""
        signature: _Signature = ()
        if all(result.error for result in results):
            signature = tuple((_message(result.error or ""), result.output) for result in results)
        self.turns = (self.turns + 1 if signature == self._last else 1) if signature else 0
        self._last = signature


def _message(error: str) -> str:
    """The type and message at the end of a traceback, without line numbers."""
    lines = error.rstrip().split("\n")
    frames = [index for index, line in enumerate(lines) if line.startswith("  ")]
    start = frames[-1] + 1 if frames and frames[-1] + 1 < len(lines) else 0
    return _LINE_NUMBER.sub("line", "\n".join(lines[start:]))
