"""Decides which blocks of a reply still run after one of them has failed.

A block that does not compile is often a sketch of the next one, so the blocks after it run. If a reply has
blocks tagged ``python`` and blocks tagged ``repl``, the latter are the program, and an error in one of the
former does not stop them. But no block runs that reads what a failed block was to assign: it would compute
with values of an earlier turn.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rlm_dist.engine.parsing.programs import changed_names, compiles, read_names

MOST_BLOCKS = 50


class NotRun(NamedTuple):
    """A block that was not run, by its number from 1, and why."""

    number: int
    why: str


class BlockOrder:
    """The blocks of one reply; they are passed in order, ``repl`` says which are tagged for the REPL."""

    def __init__(self, blocks: Sequence[str], repl: Sequence[bool]) -> None:
        self._blocks = blocks
        self._repl = repl
        self._has_program = any(repl)
        self._stopped = ""
        self._failed_aside = ""
        self._missing: dict[str, int] = {}

    def reason_to_skip(self, index: int, *, within: bool = True) -> str:
        """Why a block is not to run, as part of a sentence; empty if it is to run.

        ``within`` says whether it is one of the first ``MOST_BLOCKS``.
        """
        reason = self._stopped or ("" if self._repl[index] else self._failed_aside)
        if not within:
            reason = f"only the first {MOST_BLOCKS} blocks of a reply are run"
        if not reason and self._missing:
            missing = sorted(read_names(self._blocks[index]) & self._missing.keys())
            if missing:
                reason = (
                    f"it uses {missing[0]}, which block {self._missing[missing[0]]} did not get to assign"
                )
        if reason:
            self._miss(index)
        return reason

    def fail(self, index: int) -> None:
        """Take note that a block raised an error."""
        if not compiles(self._blocks[index]):
            self._miss(index)
        elif self._has_program and not self._repl[index]:
            self._miss(index)
            self._failed_aside = f"block {index + 1} raised an error"
        else:
            self._stopped = f"block {index + 1} raised an error"

    def stop(self, index: int) -> None:
        """Take note that a block ended the REPL."""
        self._stopped = f"block {index + 1} ended the REPL"

    def _miss(self, index: int) -> None:
        for name in changed_names(self._blocks[index]):
            self._missing.setdefault(name, index + 1)
