"""The fork-server: one process for all processes of a worker, with the standard library loaded and no secret.

It forks the REPLs of their jobs. It has a single thread: a child dies with the *thread* that forked it.

It has a socket for each process that joined it, besides the first one, which it was started with. They carry
datagrams of JSON; ids are the sender's own. From a worker's process::

    {"op": "join"}                                 with one descriptor: another socket like this one
    {"op": "spawn", "id": int, "memory_bytes": int}  with two: the REPL's socket, the context
    {"op": "signal", "id": int, "signal": int}

To it::

    {"op": "up"}                                   it can fork from now on, for this socket
    {"op": "failed", "id": int, "detail": str}     no REPL could be made, or its fork-server died
    {"op": "exited", "id": int, "code": int}       a REPL ended; negative: by this signal

Where one of these sockets is at its end, so are the REPLs that were ordered by it; where all are, so is this
process. REPLs over a large context are forked from a template (see ``templates``), whoever ordered them.
"""

import contextlib
import gc
import itertools
import json
import os
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from . import preload
from .context_templates import ContextTemplate, Key, close_all, key_of
from .exits import SERVER_DIED
from .lockdown import Lockdown
from .spare_pool import SparePool

_MESSAGE_BYTES = 4096
_QUIET_S = 0.05


class _ReplRecord(NamedTuple):
    """A REPL: whose it is, by which number that knows it, and the template that it comes from."""

    worker: socket.socket
    number: int
    template: ContextTemplate | None


class ForkServer:
    """The loop of a fork-server; ``names`` are what a template's context gave."""

    def __init__(self, lockdown: Lockdown, names: dict[str, Any] | None = None) -> None:
        self._lockdown = lockdown
        self._spare_pool = SparePool(lockdown, names)
        self._numbers = itertools.count(1)
        self._jobs: dict[int, _ReplRecord] = {}
        self._templates: dict[Key, ContextTemplate] = {}
        self._workers: set[socket.socket] = set()
        self._heard = selectors.PollSelector()
        self._wake, self._waker = socket.socketpair()

    def serve(self, first: socket.socket) -> None:
        """Do what is ordered at this socket and those that join, until all are at their end."""
        for end in (self._wake, self._waker):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._hear(self._wake, self._reap)
        self._admit(first)
        self._spare_pool.refill()
        try:
            while self._workers:
                self._turn()
        finally:
            self._spare_pool.end()

    def _turn(self) -> None:
        ready = self._heard.select(None if self._spare_pool.is_ready else _QUIET_S)
        if not ready:
            self._spare_pool.refill()
        for key, _ in ready:
            if self._heard.get_map().get(key.fd) == key:  # else it was closed in this turn
                key.data()

    def _hear(self, link: socket.socket, then: Callable[[], None]) -> None:
        self._heard.register(link, selectors.EVENT_READ, then)

    def _hear_no_more(self, link: socket.socket) -> None:
        self._heard.unregister(link)
        link.close()

    def _admit(self, worker: socket.socket) -> None:
        self._workers.add(worker)
        self._hear(worker, lambda: self._obey(worker))
        _tell(worker, {"op": "up"})

    def _obey(self, worker: socket.socket) -> None:
        order, descriptors = _received(worker)
        if order is None:
            self._leave(worker)
        elif order["op"] == "join":
            self._admit(socket.socket(fileno=descriptors[0]))
        elif order["op"] == "spawn":
            self._spawn(worker, order, descriptors)
        else:
            for job, its in list(self._jobs.items()):
                if (its.worker, its.number) == (worker, order["id"]):
                    self._signal(job, order["signal"])

    def _leave(self, worker: socket.socket) -> None:
        """End the REPLs of a worker's process that is gone."""
        self._workers.remove(worker)
        self._hear_no_more(worker)
        for job, its in list(self._jobs.items()):
            if its.worker is worker:
                self._signal(job, signal.SIGKILL)

    def _spawn(self, worker: socket.socket, order: dict[str, Any], descriptors: list[int]) -> None:
        job = next(self._numbers)
        # A template is not told of the memory: it has none below it.
        key = key_of(descriptors[1], order["memory_bytes"]) if "memory_bytes" in order else None
        template = self._template(key, descriptors[1]) if key is not None else None
        self._jobs[job] = _ReplRecord(worker, order["id"], template)
        if template is None:
            self._fork(job, descriptors)
        else:
            template.spawn(job, descriptors)

    def _fork(self, job: int, descriptors: list[int]) -> None:
        """Fork the REPL of a job here; the descriptors are given away."""
        detail = self._spare_pool.spawn(job, descriptors)
        close_all(descriptors)
        if detail is not None:
            self._end(job, {"op": "failed", "detail": detail[:1000]})

    def _signal(self, job: int, number: int) -> None:
        template = self._jobs[job].template
        if template is None:
            self._spare_pool.signal(job, number)
        elif job not in template.waiting:
            template.order({"op": "signal", "id": job, "signal": number})
        elif number == signal.SIGKILL:
            close_all(template.waiting.pop(job))
            self._end(job, {"op": "exited", "code": -number})

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(_MESSAGE_BYTES)
        for job, code in self._spare_pool.ended():
            self._end(job, {"op": "exited", "code": code})

    def _end(self, job: int, message: dict[str, object]) -> None:
        """Tell how a job's REPL ended; the last one of a template ends that, too."""
        ended = self._jobs.pop(job)
        _tell(ended.worker, {**message, "id": ended.number})
        if ended.template is not None and all(
            it.template is not ended.template for it in self._jobs.values()
        ):
            self._dismiss(ended.template)

    def _template(self, key: Key, context_fd: int) -> ContextTemplate:
        if key not in self._templates:
            made = self._templates[key] = ContextTemplate(
                key, context_fd, self._lockdown, self._serve_as_template
            )
            self._hear(made.link, lambda: self._heed(made))
        return self._templates[key]

    def _serve_as_template(self, link: socket.socket, names: dict[str, Any]) -> None:
        ForkServer(self._lockdown, names).serve(link)

    def _heed(self, template: ContextTemplate) -> None:
        """Take a template's word."""
        message, _ = _received(template.link)
        if message is None:
            self._lose(template)
        elif message["op"] == "up":
            template.begin()
        else:
            self._end(message.pop("id"), message)

    def _lose(self, template: ContextTemplate) -> None:
        """It died: its REPLs did, too; where it could not load its context, REPLs of their own will tell."""
        self._dismiss(template)
        waiting, template.waiting = template.waiting, {}
        for job, descriptors in waiting.items():
            self._jobs[job] = self._jobs[job]._replace(template=None)
            os.lseek(descriptors[1], 0, os.SEEK_SET)  # it may have read there
            self._fork(job, descriptors)
        for job in [job for job, its in self._jobs.items() if its.template is template]:
            self._end(job, {"op": "failed", "detail": SERVER_DIED})

    def _dismiss(self, template: ContextTemplate) -> None:
        """Hang up on it, which ends it; the next order over its context makes a new one."""
        if self._templates.get(template.key) is template:
            del self._templates[template.key]
            self._hear_no_more(template.link)


def _received(link: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """What comes next at this socket; None where it is at its end."""
    try:
        data, descriptors, _, _ = socket.recv_fds(link, _MESSAGE_BYTES, 2)
    except ConnectionResetError:  # the other side died, and had not read all
        return None, []
    return (json.loads(data) if data else None), descriptors


def _tell(worker: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the next read sees that it is gone; or it has been seen
        worker.send(json.dumps(message).encode())


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
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a REPL has a limit of its own
    gc.collect()
    gc.freeze()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 2)  # until now it told of errors; a REPL must not have it
    os.close(null)
    ForkServer(lockdown).serve(socket.socket(fileno=control_fd))
