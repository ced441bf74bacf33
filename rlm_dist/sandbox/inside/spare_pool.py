"""The REPL processes of a fork-server: forked, locked, given their jobs, and heard of when they end.

Each is used once. One that is locked and waits is always ready: it is forked in a quiet moment. What is
waited for here, a child's word that it is locked and that it has its job, comes before any code of a model
runs, so that no job can hold up the start of another one.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from . import confine, loop
from .exits import EXIT_BROKEN
from .lockdown import Lockdown

_MESSAGE_BYTES = 4096
_LOCKED = b"locked"
_TAKEN = b"taken"


class _Spare(NamedTuple):
    """A child that is locked, or will be in a moment, and waits for its job."""

    pid: int
    link: socket.socket


class SparePool:
    """The children of this process; jobs go by numbers.

    ``names`` are what the context gave, where this process has loaded it.
    """

    def __init__(self, lockdown: Lockdown, names: dict[str, Any] | None) -> None:
        self._lockdown = lockdown
        self._names = names
        self._jobs: dict[int, int] = {}  # process → job
        self._spare: _Spare | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is a spare child."""
        return self._spare is not None

    def refill(self) -> None:
        """Make a spare child; in a quiet moment, not while one that was just given a job starts."""
        with contextlib.suppress(OSError):  # no room for one more process: the next spawn tells
            self._spare = self._spare or self._forked()

    def spawn(self, job: int, descriptors: Sequence[int]) -> str | None:
        """Give the job's two descriptors to the spare child, or a new one; says what went wrong."""
        spare, self._spare = self._spare, None
        if spare is not None and self._hand(job, spare, descriptors) is None:
            return None
        try:
            return self._hand(job, self._forked(), descriptors)
        except OSError as error:
            return str(error)

    def signal(self, job: int, number: int) -> None:
        """Send this signal to the job's child."""
        for pid, its_job in self._jobs.items():
            if its_job == job:
                os.kill(pid, number)

    def ended(self) -> Iterator[tuple[int, int]]:
        """The jobs whose children have ended, each with its exit code; negative: by this signal."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                job = self._jobs.pop(pid, None)
                if job is not None:  # else a spare, or a template
                    yield job, os.waitstatus_to_exitcode(status)

    def end(self) -> None:
        """End every child."""
        for pid in self._jobs:
            os.kill(pid, signal.SIGKILL)

    def _hand(self, job: int, spare: _Spare, descriptors: Sequence[int]) -> str | None:
        """Give them to this child, once it is locked; says what went wrong."""
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

    def _forked(self) -> _Spare:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            self._live(theirs, parent)
        theirs.close()
        return _Spare(pid, ours)

    def _live(self, link: socket.socket, parent: int) -> NoReturn:
        """The life of a child: it locks itself, waits for its job, and is its REPL."""
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


def leave_parent(*kept: int) -> None:
    """In a fork of a fork-server: give up its signals, and what it holds open but for these descriptors."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    confine.hold_only(*kept)
