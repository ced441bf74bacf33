"""Advisory file locks between processes: the kernel frees them when their holder dies, however it dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.02


@contextmanager
def locked(path: Path, *, shared: bool = False, timeout_s: float | None = None) -> Iterator[int]:
    """Hold the lock of ``path`` (created if it is missing) and yield its file descriptor.

    The descriptor may be handed to a child process, which then holds the lock too.

    Raises:
        TimeoutError: if it is not free within ``timeout_s`` (None waits for ever, 0 does not wait).
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, path, shared=shared, timeout_s=timeout_s)
        yield descriptor
    finally:
        os.close(descriptor)


def is_free(path: Path, *, shared: bool = False) -> bool:
    """Whether the lock of ``path`` could be taken at this moment."""
    try:
        with locked(path, shared=shared, timeout_s=0):
            return True
    except TimeoutError:
        return False


def _acquire(descriptor: int, path: Path, *, shared: bool, timeout_s: float | None) -> None:
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if timeout_s is None:
        fcntl.flock(descriptor, operation)
        return
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path} is locked by another process") from None
            time.sleep(_POLL_S)
        else:
            return
