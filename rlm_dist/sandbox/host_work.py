"""How many threads of the host work on what model-written code sent, where that takes long.

One process has the threads of many jobs, and Python runs one of them at a time. A job could have 64 threads
check costly schemas; what renews the leases of other jobs would then wait for seconds at each of its steps.
"""

import threading
from types import TracebackType

_AT_ONCE = 4  # jobs of a process whose input is worked on
_everyone = threading.BoundedSemaphore(_AT_ONCE)


class HostWork:
    """The work for one job: inside its ``with`` block is one thread at a time; ``_AT_ONCE`` over all jobs."""

    def __init__(self) -> None:
        self._own = threading.Lock()

    def __enter__(self) -> None:
        self._own.acquire()
        _everyone.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _everyone.release()
        self._own.release()
