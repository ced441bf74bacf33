"""Names of models as values of a label: replies have them, so nobody but an endpoint bounds their number."""

import threading

from rlm_dist.one_line import one_line

MOST_NAMES = 32
OTHER = "(other)"
_MOST_CHARS = 100


class ModelNames:
    """The first 32 names that this worker met; the others are ``(other)``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._labels: dict[str, str] = {}

    def label(self, name: str) -> str:
        """The value of the label: the name on one line, of bounded length, or ``(other)``."""
        name = name[:_MOST_CHARS]
        return self._labels.get(name) or self._meet(name)

    def _meet(self, name: str) -> str:
        with self._lock:
            if len(self._labels) >= MOST_NAMES:
                return OTHER
            self._labels[name] = one_line(name) or OTHER
            return self._labels[name]
