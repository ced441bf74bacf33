"""The part of a job's budgets that is kept for the next root calls of its samples, which run side by side.

The store keeps one amount for a job. It is the sum of what the samples keep, without those whose root call is
in flight: that has a reservation of its own.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rlm_dist.store import CallRefused


class Keep(Protocol):
    """``CallStore.keep`` of one job."""

    def __call__(self, *, tokens: int, nanousd: int | None, partly: bool = False) -> CallRefused | None: ...


class Room:
    """What the samples of one job keep, together; safe to use from several threads."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._parts: dict[int, tuple[int, int]] = {}

    def keep(self, sample: int, *, tokens: int, nanousd: int, partly: bool = False) -> CallRefused | None:
        """Keep this much for a sample, in place of what it kept before; see ``CallStore.keep``."""
        with self._lock:
            others = [part for number, part in self._parts.items() if number != sample]
            refused = self._keep(
                tokens=tokens + sum(part[0] for part in others),
                nanousd=nanousd + sum(part[1] for part in others),
                partly=partly,
            )
            if refused is None:
                self._parts[sample] = tokens, nanousd
        return refused

    @contextmanager
    def drawing(self, sample: int) -> Iterator[None]:
        """The sample opens a root call, which draws on what is kept; meanwhile no other sample keeps."""
        with self._lock:
            self._parts.pop(sample, None)
            yield

    def leave(self, sample: int) -> None:
        """Give free what a sample kept: it has ended."""
        with self._lock:
            if self._parts.pop(sample, None) is None:
                return
            tokens, nanousd = (sum(amounts) for amounts in zip((0, 0), *self._parts.values(), strict=True))
            self._keep(tokens=tokens, nanousd=nanousd, partly=True)
