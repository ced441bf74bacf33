"""The REPL processes of a fork-server: forks and locks them, gives them their jobs, and reaps them.

Each process is used once. One is kept spare, locked and waiting for a job; it is forked in a quiet moment.
The pool waits only for a child's messages that it is locked and that it has its job. Both come before any
model-written code runs, so that no job can delay the start of another one.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from . import confine, loop
from .context import Loaded
from .exits import EXIT_BROKEN
from .lockdown import Lockdown

_MESSAGE_BYTES = 4096
_LOCKED = b"locked"
_TAKEN = b"taken"
_OWN_LINKS = 2  # of a folder: the rest are its subfolders, here one for each thread
_CROWDED = f"it started more than {confine.MAX_THREADS} threads"


class _Spare(NamedTuple):
    """A child that is locked, or will be in a moment, and waits for its job."""

    pid: int
    link: socket.socket


class SparePool:
    """The children of this process; each job has a number.

    ``names`` has the context's variables, if this process has loaded it.
    """

    def __init__(self, lockdown: Lockdown, names: Loaded | None) -> None:
        self._lockdown = lockdown
        self._names = names
        self._jobs: dict[int, int] = {}  # process → job
        self._spare: _Spare | None = None
        self._crowded: set[int] = set()

    @property
    def is_ready(self) -> bool:
        """Whether a spare child exists."""
        return self._spare is not None

    def refill(self) -> None:
        """Fork a spare child; call this in a quiet moment, not while a child with a new job starts."""
        with contextlib.suppress(OSError):  # no room for one more process: the next spawn reports it
            self._spare = self._spare or self._fork()

    def spawn(self, job: int, descriptors: Sequence[int]) -> str | None:
        """Give the job's two descriptors to the spare child or a new one; return what went wrong, or None."""
        spare, self._spare = self._spare, None
        if spare is not None and self._assign(job, spare, descriptors) is None:
            return None
        try:
            return self._assign(job, self._fork(), descriptors)
        except OSError as error:
            return str(error)

    def signal(self, job: int, number: int) -> None:
        """Send this signal to the job's child."""
        for pid, its_job in self._jobs.items():
            if its_job == job:
                os.kill(pid, number)

    @property
    def must_look(self) -> bool:
        """Whether ``end_crowded`` must be called often."""
        return bool(self._jobs) and not self._lockdown.limits_threads

    def end_crowded(self) -> None:
        """Kill the children that have too many threads; without /proc they cannot be counted."""
        for pid in self._jobs:
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}/task").st_nlink - _OWN_LINKS > confine.MAX_THREADS:
                    self._crowded.add(pid)
                    os.kill(pid, signal.SIGKILL)

    def ended(self) -> Iterator[tuple[int, dict[str, object]]]:
        """The jobs whose children have ended, each with the message that says how."""
        with contextlib.suppress(ChildProcessError):
            while (child := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = child
                job = self._jobs.pop(pid, None)
                if job is not None:  # otherwise it was a spare, or a template
                    yield job, self._ending(pid, os.waitstatus_to_exitcode(status))

    def _ending(self, pid: int, code: int) -> dict[str, object]:
        if pid in self._crowded:
            self._crowded.remove(pid)
            return {"op": "failed", "detail": _CROWDED}
        return {"op": "exited", "code": code}

    def end(self) -> None:
        """Kill every child that has a job."""
        for pid in self._jobs:
            os.kill(pid, signal.SIGKILL)

    def _assign(self, job: int, spare: _Spare, descriptors: Sequence[int]) -> str | None:
        """Give the descriptors to this child once it is locked; return what went wrong, or None."""
        with spare.link as link:
            try:
                state = link.recv(_MESSAGE_BYTES)
                if state != _LOCKED:
                    return state.decode() or "the process broke down while it was being locked"
                socket.send_fds(link, [b"job"], descriptors)
                if link.recv(_MESSAGE_BYTES) != _TAKEN:
                    return "the process ended while it was given its job"
            except OSError as error:
                return str(error)
        self._jobs[spare.pid] = job
        return None

    def _fork(self) -> _Spare:
        link, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            self._live(peer, parent)
        peer.close()
        return _Spare(pid, link)

    def _live(self, link: socket.socket, parent: int) -> NoReturn:
        """Run the child's process: lock it, wait for its job, and run its REPL."""
        try:
            leave_parent(link.fileno(), *self._lockdown.descriptors)
            self._lockdown.apply(parent)
            link.send(_LOCKED)
            data, descriptors, _, _ = socket.recv_fds(link, _MESSAGE_BYTES, 2)
            if data:
                link.send(_TAKEN)
                link.close()
                repl_fd, context_fd = descriptors
                loop.main(repl_fd, context_fd, self._names)
        except BaseException as error:  # noqa: BLE001  # the edge of the process
            with contextlib.suppress(OSError):
                link.send(f"{type(error).__name__}: {error}"[:1000].encode())
        finally:
            os._exit(EXIT_BROKEN)


def leave_parent(*descriptors: int) -> None:
    """In a fork of a fork-server: drop its signal handlers, and close all but these descriptors.

    The first three get a device of their own: flags of an open file are shared by all who inherit it.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    confine.hold_only(*descriptors)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.close(null)
