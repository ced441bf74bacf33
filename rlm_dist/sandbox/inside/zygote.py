"""The fork-server: one process for each worker process, with the standard library loaded and no secret.

It forks the REPLs of its worker's jobs, one after another, each used once; one that is locked and waits is
always ready. It has a single thread: a child dies with the *thread* that forked it.

Its socket carries datagrams of JSON. From the worker::

    {"op": "spawn", "id": int}                     with two descriptors: the REPL's socket, the context
    {"op": "signal", "id": int, "signal": int}
    {"op": "template", "memory_bytes": int}        with two descriptors: a socket like this one, the context

A template is a fork-server of its own, at the socket that it is given: a fork of this process which has
loaded a context, so that the REPLs that it forks share its memory. It never runs code of a model either.

To the worker::

    {"op": "up", "pid": int}                       it can fork from now on
    {"op": "failed", "id": int, "detail": str}     no REPL could be made
    {"op": "exited", "id": int, "code": int}       a REPL ended; negative: by this signal

Where the worker is gone, so are this process and every REPL.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from . import confine, context, loop, preload
from .exits import EXIT_BROKEN
from .lockdown import Lockdown

_MESSAGE_BYTES = 4096
_MAX_DESCRIPTORS = 1 << 20
_LOCKED = b"locked"
_TAKEN = b"taken"
_QUIET_S = 0.05


class _Spare:
    """A child that is locked and waits for its job."""

    def __init__(self, pid: int, link: socket.socket) -> None:
        self.pid = pid
        self.link = link


class Zygote:
    """The fork-server's loop."""

    def __init__(
        self, control: socket.socket, lockdown: Lockdown, names: dict[str, Any] | None = None
    ) -> None:
        self._control = control
        self._lockdown = lockdown
        self._names = names  # what a template's context gave
        self._children: dict[int, int] = {}  # process → id of its job
        self._spare: _Spare | None = None
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._wake.setblocking(False)

    def serve(self) -> None:
        """Do what the worker orders, until it is gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        waiting = selectors.PollSelector()
        waiting.register(self._control, selectors.EVENT_READ)
        waiting.register(self._wake, selectors.EVENT_READ)
        self._tell({"op": "up", "pid": os.getpid()})
        self._refill()
        while True:
            ready = {key.fileobj for key, _ in waiting.select(None if self._spare else _QUIET_S)}
            if not ready:
                self._refill()
            if self._wake in ready:
                self._reap()
            if self._control in ready and not self._obey():
                return

    def end(self) -> None:
        """End every child."""
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _refill(self) -> None:
        """Make a spare child; in a quiet moment, not while one that was just given a job starts."""
        with contextlib.suppress(OSError):  # no room for one more process: the next spawn tells
            self._spare = self._spare or self._forked()

    def _obey(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 2)
        if not data:
            return False
        order: dict[str, Any] = json.loads(data)
        if order["op"] == "spawn":
            self._spawn(order["id"], descriptors)
        elif order["op"] == "template":
            self._fork_template(order["memory_bytes"], descriptors)
        else:
            for pid, job in self._children.items():
                if job == order["id"]:
                    os.kill(pid, order["signal"])
        return True

    def _spawn(self, job: int, descriptors: list[int]) -> None:
        """Give the job's two descriptors to the spare child; where that has died, to a new one."""
        spare, self._spare = self._spare, None
        detail = self._hand(job, spare, descriptors) if spare is not None else "there is no spare process"
        try:
            if detail is not None:
                detail = self._hand(job, self._forked(), descriptors)
        except OSError as error:
            detail = str(error)
        if detail is not None:
            self._tell({"op": "failed", "id": job, "detail": detail[:1000]})
        for descriptor in descriptors:
            os.close(descriptor)

    def _hand(self, job: int, spare: _Spare, descriptors: list[int]) -> str | None:
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
        self._children[spare.pid] = job
        return None

    def _fork_template(self, memory_bytes: int, descriptors: list[int]) -> None:
        """Fork a template; where there is none, the worker sees the end of its socket."""
        with contextlib.suppress(OSError):
            parent = os.getpid()
            if not os.fork():
                self._be_template(parent, memory_bytes, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)

    def _be_template(self, parent: int, memory_bytes: int, control_fd: int, context_fd: int) -> NoReturn:
        """The life of a template."""
        try:
            self._leave_parent()
            if self._spare is not None:
                self._spare.link.close()
            confine.tie_to_parent(parent)
            confine.first_to_go()
            with confine.memory(memory_bytes), open(context_fd, "rb") as file:
                names = context.load(file)
            gc.freeze()
            Zygote(socket.socket(fileno=control_fd), self._lockdown, names).serve()
        finally:
            os._exit(EXIT_BROKEN)

    def _leave_parent(self) -> None:
        """Close what belongs to the process that this one was forked from."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for own in (self._control, self._wake, self._waker):
            own.close()

    def _forked(self) -> _Spare:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            ours.close()
            self._live(theirs, parent)
        theirs.close()
        return _Spare(pid, ours)

    def _live(self, link: socket.socket, parent: int) -> NoReturn:
        """The life of a child: it locks itself, waits for its job, and is its REPL."""
        try:
            self._leave_parent()
            self._lockdown.apply(parent)
            os.closerange(3, link.fileno())
            os.closerange(link.fileno() + 1, _MAX_DESCRIPTORS)
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

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(_MESSAGE_BYTES)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                job = self._children.pop(pid, None)
                if job is not None:
                    self._tell({"op": "exited", "id": job, "code": os.waitstatus_to_exitcode(status)})

    def _tell(self, message: dict[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the next read sees that it is gone
            self._control.send(json.dumps(message).encode())


def main(control_fd: int, level: str, packages: Mapping[str, Sequence[str]]) -> None:
    """Serve the worker at ``control_fd``; the level is one of those that lock.

    ``packages`` has the ``names`` of optional libraries, and the ``folders`` that they lie in.
    """
    os.environ.pop("PWD", None)  # bubblewrap sets it
    sys.argv = [""]
    sys.dont_write_bytecode = True
    preload.standard_library()
    preload.packages(**packages)
    preload.modules_of(packages["names"])
    if level == "seccomp":
        preload.without_files()
    lockdown = Lockdown(landlock=level != "seccomp")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("landlockpy", "seccompy")]:
        del sys.modules[name]  # not for model-written code, which sees the standard library alone
    gc.collect()
    gc.freeze()
    zygote = Zygote(socket.socket(fileno=control_fd), lockdown)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 2)  # until now it told of errors; a REPL must not have it
    os.close(null)
    try:
        zygote.serve()
    finally:
        zygote.end()
