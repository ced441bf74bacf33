"""What people who watch a job see of its run: turns begun and cells that diverged, over all samples."""

import threading
from collections.abc import Callable


class RunCounts:
    """Counts over the samples of one run of a job; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[int, int] = {}
        self._diverged = 0

    @property
    def turns(self) -> int:
        """How many turns have begun."""
        return sum(tuple(self._turns.values()))

    def begin_turn(self, sample: int, number: int) -> None:
        """Note that a sample is in its turn ``number``, from 0."""
        with self._lock:
            self._turns[sample] = number + 1

    def diverge(self, store: Callable[[int], None]) -> None:
        """Note that a cell diverged, and ``store`` how many did."""
        with self._lock:
            self._diverged += 1
            store(self._diverged)
