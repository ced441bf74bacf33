"""A pipe that ties child processes to their parent's life, also where the parent is killed by ``kill -9``.

The parent alone holds the write end; each child gets the read end, its number in ``RLM_LIFELINE_FD``. The
kernel closes the write end when the parent dies, the child reads the end of the file, and ends itself.
"""

import os
import signal
import threading
import time
from types import TracebackType

VARIABLE = "RLM_LIFELINE_FD"


class Lifeline:
    """The parent's side: pass ``descriptor`` and ``variables`` to each child; to close it ends them all."""

    def __init__(self) -> None:
        self.descriptor, self._held = os.pipe()

    @property
    def variables(self) -> dict[str, str]:
        """What a child finds the lifeline by."""
        return {VARIABLE: str(self.descriptor)}

    def close(self) -> None:
        """Let go: children that still live end themselves."""
        os.close(self.descriptor)
        os.close(self._held)

    def __enter__(self) -> "Lifeline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def watch_lifeline(grace_s: float = 5) -> None:
    """End this process when its parent dies: SIGTERM to itself, and SIGKILL to its group after ``grace_s``.

    Does nothing in a process that was given no lifeline. To be called once, early, from a worker's start.
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
