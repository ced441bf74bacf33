"""A pipe that ties child processes to their parent's life, even if ``kill -9`` ends the parent.

Only the parent holds the write end. Each child inherits the read end, whose number is in ``RLM_LIFELINE_FD``.
When the parent dies, the kernel closes the write end; the child then reads the end of the file, and ends.
"""

import os
import signal
import threading
import time
from types import TracebackType

VARIABLE = "RLM_LIFELINE_FD"


class Lifeline:
    """The parent's side: pass ``descriptor`` and ``variables`` to each child; ``close`` ends them all."""

    def __init__(self) -> None:
        self.descriptor, self._write_end = os.pipe()

    @property
    def variables(self) -> dict[str, str]:
        """The environment variable by which a child finds the lifeline."""
        return {VARIABLE: str(self.descriptor)}

    def close(self) -> None:
        """Close both ends; children that are still alive end themselves."""
        os.close(self.descriptor)
        os.close(self._write_end)

    def __enter__(self) -> "Lifeline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def watch_lifeline(grace_s: float = 5) -> None:
    """End this process when its parent dies: SIGTERM to itself, and SIGKILL to its group after ``grace_s``.

    Does nothing in a process without a lifeline. Call it once, early in a worker's start.
    """
    number = os.environ.pop(VARIABLE, None)  # a grandchild has the variable, but not the descriptor
    if number is not None:
        threading.Thread(target=_watch, args=(int(number), grace_s), daemon=True, name="lifeline").start()


def _watch(descriptor: int, grace_s: float) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    leads_group = os.getpgrp() == os.getpid()
    if leads_group:
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
