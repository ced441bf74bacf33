"""Names of models as values of a label: replies have them, so nobody but an endpoint bounds their number."""

import threading
from pathlib import Path

from rlm_dist.local.file_lock import locked
from rlm_dist.one_line import one_line

MOST_NAMES = 32
OTHER = "(other)"
_MOST_CHARS = 100


class ModelNames:
    """The first 32 names that any process of this worker met; the others are ``(other)``.

    ``path`` is a file that the processes share, one name a line; None if the worker is one process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
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
            label = one_line(name) or OTHER
            if self._path is not None and not _joins(self._path, label):
                return OTHER
            self._labels[name] = label
            return label


def _joins(path: Path, label: str) -> bool:
    """Whether the name is one of the file, or there was room for it."""
    with locked(path):
        names = path.read_text().splitlines()
        if label in names:
            return True
        if len(names) >= MOST_NAMES:
            return False
        with path.open("a") as file:
            file.write(f"{label}\n")
        return True
