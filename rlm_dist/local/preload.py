"""Workers that are forked from one process, which has loaded what all of them need (see ``worker_preload``).

To load it takes most of the time of a worker's start. The process can be started before anything else is
known, even before the Redis server. Once it has forked it ends, and the kernel makes its children ours, as
those of ``subprocess`` are: we are the subreaper of our descendants for this moment. Linux only.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rlm_dist.local.child_python import module_command, worker_environment

# Named, not imported: they are above this package. The others Celery and the SDK load when a worker starts.
_MODULES = (
    "rlm_dist.root_worker.task",
    "rlm_dist.sub_worker.task",
    "rlm_dist.worker.startup",
    "celery.app.control",
    "celery.app.log",
    "celery.apps.worker",
    "celery.backends.base",
    "celery.events.receiver",
    "celery.fixups.django",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.loops",
    "celery.worker.pidbox",
    "httpcore2",
)
_SET_CHILD_SUBREAPER = 36
_GET_CHILD_SUBREAPER = 37


class ForkedWorker:
    """A child process that another process has forked for us, with what we use of ``subprocess.Popen``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        """Wait for its end; return its exit code, or minus the signal that ended it."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


class Preload:
    """The process that loads; ``fork`` or ``close`` ends it, and so does our own end."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                module_command("rlm_dist.local.worker_preload", *_MODULES),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # the worker that is started instead says what is wrong
                env=worker_environment({}),
                start_new_session=True,
            )

    def fork(
        self,
        workers: Sequence[tuple[Sequence[str], Mapping[str, str]]],
        *,
        folder: Path,
        pipes: Mapping[str, int],
        logs: Sequence[int],
    ) -> list[ForkedWorker]:
        """Fork a worker for each list of arguments of ``worker_command`` and its environment.

        Each inherits ``pipes``, whose numbers are in the variables of these names, and writes to its log.
        Returns none if the process could not do it.
        """
        order = {
            "folder": str(folder),
            "pipes": list(pipes),
            "workers": [
                {"arguments": list(arguments), "environment": dict(environment)}
                for arguments, environment in workers
            ],
        }
        pids: list[int] = []
        with suppress(OSError, ValueError), _subreaper():
            text = json.dumps(order).encode()
            sent = socket.send_fds(self._channel, [text], [*pipes.values(), *logs])
            self._channel.sendall(text[sent:])
            self._channel.shutdown(socket.SHUT_WR)
            with self._channel.makefile("rb") as answer:
                pids = json.loads(answer.readline())
            self._process.wait()
        return [ForkedWorker(pid) for pid in pids]

    def close(self) -> None:
        """End the process, unless it has ended."""
        self._channel.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@contextmanager
def preload() -> Iterator[Preload | None]:
    """A process that loads while this is open; None where the kernel does not give us its children."""
    if sys.platform != "linux":
        yield None
        return
    process = Preload()
    try:
        yield process
    finally:
        process.close()


@contextmanager
def _subreaper() -> Iterator[None]:
    """Become the parent of each descendant whose own parent ends meanwhile."""
    library = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int()
    library.prctl(_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    if library.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "subreaper")
    try:
        yield
    finally:
        library.prctl(_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)
