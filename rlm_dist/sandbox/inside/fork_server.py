"""The fork-server: a process of a root worker with the standard library loaded and no secret.

It forks the REPLs of the worker's jobs. It has a single thread: a child dies with the thread that forked it.

Its socket carries datagrams of JSON; the worker chooses the ids. From the worker::

    {"op": "spawn", "id": int, "memory_bytes": int}  with two: the REPL's socket, the context
    {"op": "signal", "id": int, "signal": int}

To the worker::

    {"op": "up"}                                   it takes orders from now on
    {"op": "failed", "id": int, "detail": str}     no REPL could be started, its fork-server died,
                                                   or it was killed because it had too many threads
    {"op": "exited", "id": int, "code": int}       a REPL ended; code is negative: by this signal

When the socket is at its end, the REPLs are killed and this process ends. REPLs over a large context are
forked from a template (see ``context_templates``), which is a fork-server too.
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

from . import preload, rehearsal
from .context import Loaded
from .context_templates import ContextTemplate, Key, close_all, key_of
from .exits import SERVER_DIED
from .lockdown import Lockdown
from .spare_pool import SparePool

_MESSAGE_BYTES = 4096
_QUIET_S = 0.05
_LOOK_S = 0.02  # in which a REPL can start more than a thousand threads


class _ReplRecord(NamedTuple):
    """A REPL: the worker's id of it, and the template that it is forked from, if any."""

    number: int
    template: ContextTemplate | None


class ForkServer:
    """The loop of a fork-server; ``names`` has the variables of the context of a template."""

    def __init__(self, worker: socket.socket, lockdown: Lockdown, names: Loaded | None = None) -> None:
        self._worker = worker
        self._is_over = False
        self._lockdown = lockdown
        self._spare_pool = SparePool(lockdown, names)
        self._numbers = itertools.count(1)
        self._jobs: dict[int, _ReplRecord] = {}
        self._templates: dict[Key, ContextTemplate] = {}
        self._selector = selectors.PollSelector()
        self._wake, self._waker = socket.socketpair()

    def serve(self) -> None:
        """Obey the worker's orders until its socket is at its end."""
        for end in (self._wake, self._waker):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._watch(self._wake, self._reap)
        self._watch(self._worker, self._read_worker)
        self._tell_worker({"op": "up"})
        self._spare_pool.refill()
        try:
            while not self._is_over:
                self._step()
        finally:
            self._spare_pool.end()

    def _step(self) -> None:
        pause = None if self._spare_pool.is_ready else _QUIET_S
        if self._spare_pool.must_look:
            pause = _LOOK_S
            self._spare_pool.end_crowded()
        ready = self._selector.select(pause)
        if not ready:
            self._spare_pool.refill()
        for key, _ in ready:
            if self._selector.get_map().get(key.fd) == key:  # otherwise it was closed in this step
                key.data()

    def _watch(self, link: socket.socket, then: Callable[[], None]) -> None:
        self._selector.register(link, selectors.EVENT_READ, then)

    def _unwatch(self, link: socket.socket) -> None:
        self._selector.unregister(link)
        link.close()

    def _read_worker(self) -> None:
        order, descriptors = _receive(self._worker)
        if order is None:
            self._end()
        elif order["op"] == "spawn":
            self._spawn(order, descriptors)
        else:
            for job, record in list(self._jobs.items()):
                if record.number == order["id"]:
                    self._signal(job, order["signal"])

    def _end(self) -> None:
        """Kill the REPLs: the worker is gone."""
        self._is_over = True
        self._unwatch(self._worker)
        for job in list(self._jobs):
            self._signal(job, signal.SIGKILL)

    def _tell_worker(self, message: dict[str, object]) -> None:
        with contextlib.suppress(OSError):  # it is gone: the next read notices, or one has noticed already
            self._worker.send(json.dumps(message).encode())

    def _spawn(self, order: dict[str, Any], descriptors: list[int]) -> None:
        job = next(self._numbers)
        # An order to a template has no memory limit, because a template has no templates.
        key = key_of(descriptors[1], order["memory_bytes"]) if "memory_bytes" in order else None
        template = self._template(key, descriptors[1]) if key is not None else None
        self._jobs[job] = _ReplRecord(order["id"], template)
        if template is None:
            self._fork(job, descriptors)
        else:
            template.spawn(job, descriptors)

    def _fork(self, job: int, descriptors: list[int]) -> None:
        """Fork the REPL of a job from this process; this closes the descriptors."""
        detail = self._spare_pool.spawn(job, descriptors)
        close_all(descriptors)
        if detail is not None:
            self._report_end(job, {"op": "failed", "detail": detail[:1000]})

    def _signal(self, job: int, number: int) -> None:
        template = self._jobs[job].template
        if template is None:
            self._spare_pool.signal(job, number)
        elif job not in template.waiting:
            template.order({"op": "signal", "id": job, "signal": number})
        elif number == signal.SIGKILL:
            close_all(template.waiting.pop(job))
            self._report_end(job, {"op": "exited", "code": -number})

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(_MESSAGE_BYTES)
        for job, message in self._spare_pool.ended():
            self._report_end(job, message)

    def _report_end(self, job: int, message: dict[str, object]) -> None:
        """Report how a job's REPL ended; a template ends with its last REPL."""
        record = self._jobs.pop(job)
        self._tell_worker({**message, "id": record.number})
        template = record.template
        if template is not None and all(other.template is not template for other in self._jobs.values()):
            self._dismiss(template)

    def _template(self, key: Key, context_fd: int) -> ContextTemplate:
        if key not in self._templates:
            template = self._templates[key] = ContextTemplate(
                key, context_fd, self._lockdown, self._serve_as_template
            )
            self._watch(template.link, lambda: self._read_template(template))
        return self._templates[key]

    def _serve_as_template(self, link: socket.socket, names: Loaded) -> None:
        ForkServer(link, self._lockdown, names).serve()

    def _read_template(self, template: ContextTemplate) -> None:
        """Take a template's next message."""
        message, _ = _receive(template.link)
        if message is None:
            self._lose_template(template)
        elif message["op"] == "up":
            template.begin()
        else:
            self._report_end(message.pop("id"), message)

    def _lose_template(self, template: ContextTemplate) -> None:
        """Handle the death of a template, with which its REPLs died.

        REPLs that still waited for it are forked here; if its context cannot be loaded, each reports that.
        """
        self._dismiss(template)
        waiting, template.waiting = template.waiting, {}
        for job, descriptors in waiting.items():
            self._jobs[job] = self._jobs[job]._replace(template=None)
            os.lseek(descriptors[1], 0, os.SEEK_SET)  # the template may have read from it
            self._fork(job, descriptors)
        for job in [job for job, record in self._jobs.items() if record.template is template]:
            self._report_end(job, {"op": "failed", "detail": SERVER_DIED})

    def _dismiss(self, template: ContextTemplate) -> None:
        """Hang up on it, which ends it; the next order over its context forks a new one."""
        if self._templates.get(template.key) is template:
            del self._templates[template.key]
            self._unwatch(template.link)


def _receive(link: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message on this socket, None at its end; and the descriptors that came with it."""
    try:
        data, descriptors, _, _ = socket.recv_fds(link, _MESSAGE_BYTES, 2)
    except ConnectionResetError:  # the other side died with messages unread
        return None, []
    return (json.loads(data) if data else None), descriptors


def main(control_fd: int, level: str, packages: Mapping[str, Sequence[str]]) -> None:
    """Serve the worker at ``control_fd``; ``level`` is one that locks.

    ``packages`` has the ``names`` of optional libraries, and the ``folders`` that hold them.
    """
    os.environ.pop("PWD", None)  # bubblewrap sets it
    sys.argv = [""]
    sys.dont_write_bytecode = True
    preload.standard_library()
    preload.packages(**packages)
    preload.modules_of(packages["names"])
    if level == "seccomp":
        preload.without_files()
    preload.hide_host_name()
    lockdown = Lockdown(landlock=level != "seccomp")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("landlockpy", "seccompy")]:
        del sys.modules[name]  # hidden from model-written code
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))  # each REPL sets its own limit
    rehearsal.rehearse()
    gc.collect()
    gc.freeze()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 2)  # until now it reported errors to the host; a REPL must not have it
    os.close(null)
    ForkServer(socket.socket(fileno=control_fd), lockdown).serve()
