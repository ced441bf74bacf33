"""What the calls of all REPLs of a process may take of its memory together, besides one call of each.

A REPL alone may have calls of ``_MAX_OPEN_BYTES`` open (see ``session``); many that try it at once would take
all memory from the jobs beside them. One call of each is always let in, so that no REPL waits for another.
"""

import threading

MAX_BYTES = 1 << 30


class SharedMemory:
    """Bytes that are lent to callers; safe to use from several threads."""

    def __init__(self, most: int = MAX_BYTES) -> None:
        self._left = most
        self._lock = threading.Lock()

    def lend(self, size: int) -> bool:
        """Lend this many bytes; False if fewer are left."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        """Take back what was lent."""
        with self._lock:
            self._left += size
