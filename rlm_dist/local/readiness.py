"""A pipe by which worker processes say that they are ready, to the process that started them.

Each child inherits the write end, whose number is in ``RLM_READY_FD``, and writes its process id as one line.
So the parent needs no broker to ask them, and hears it at once.
"""

import os
import select
from contextlib import suppress

VARIABLE = "RLM_READY_FD"
_BYTES = 4096


class Readiness:
    """The parent's side: pass ``descriptor`` and ``variables`` to each child."""

    def __init__(self) -> None:
        self._read_end, self.descriptor = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self.descriptor, False)  # a worker that starts again finds nobody who reads
        self._rest = b""
        self.pids: set[int] = set()

    @property
    def variables(self) -> dict[str, str]:
        """The environment variable by which a child finds the pipe."""
        return {VARIABLE: str(self.descriptor)}

    def wait(self, timeout_s: float) -> None:
        """Wait for a word of any child, not longer than ``timeout_s``; ``pids`` has those that are ready."""
        if not select.select([self._read_end], [], [], timeout_s)[0]:
            return
        *lines, self._rest = (self._rest + os.read(self._read_end, _BYTES)).split(b"\n")
        self.pids.update(map(int, lines))

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read_end)
        os.close(self.descriptor)


def take_ready_descriptor() -> int | None:
    """The write end, if this process has one; a grandchild has the variable, but not the descriptor."""
    number = os.environ.pop(VARIABLE, None)
    return None if number is None else int(number)


def say_ready(descriptor: int) -> None:
    """Tell the parent that this process is ready, and close the pipe."""
    with suppress(OSError):  # the parent has gone, or has heard enough
        os.write(descriptor, f"{os.getpid()}\n".encode())
    os.close(descriptor)
