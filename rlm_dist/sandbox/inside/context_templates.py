"""Templates: forks of the fork-server that have loaded a large context, whose REPLs share its memory.

A template is itself a fork-server. Its only worker is the fork-server that it was forked from, which passes
its own workers' orders on and receives how the REPLs ended. While a template loads its context, orders wait
here with their descriptors. A template never runs model-written code. It is locked before it reads
the context.
"""

import contextlib
import gc
import json
import os
import socket
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from . import confine, context
from .exits import EXIT_BROKEN
from .lockdown import Lockdown
from .spare_pool import leave_parent

_LARGE_BYTES = 8 << 20  # each REPL loads a smaller context itself: that takes no longer than a fork

Serve = Callable[[socket.socket, context.Loaded], None]


class Key(NamedTuple):
    """What identifies a template: its context's file, as the kernel identifies it, and its memory limit."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    memory_bytes: int


def key_of(context_fd: int, memory_bytes: int) -> Key | None:
    """The key of this context's template; None if the context is too small for one."""
    file = os.fstat(context_fd)
    if file.st_size < _LARGE_BYTES:
        return None
    return Key(file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, memory_bytes)


class ContextTemplate:
    """One template, as its fork-server sees it; ``waiting`` holds its orders until it is up."""

    def __init__(self, key: Key, context_fd: int, lockdown: Lockdown, serve: Serve) -> None:
        """Fork it; if that fails, its ``link`` is at its end at once."""
        self.key = key
        self.waiting: dict[int, list[int]] = {}
        self._is_up = False
        self.link, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with peer, contextlib.suppress(OSError):
            parent = os.getpid()
            if not os.fork():
                self._live(parent, peer, context_fd, lockdown, serve)

    def spawn(self, job: int, descriptors: list[int]) -> None:
        """Have a REPL forked, now or once the template is up; this closes the descriptors."""
        if not self._is_up:
            self.waiting[job] = descriptors
            return
        self.order({"op": "spawn", "id": job}, *descriptors)
        close_all(descriptors)

    def begin(self) -> None:
        """Note that it is up, and send it the orders that have waited."""
        self._is_up = True
        waiting, self.waiting = self.waiting, {}
        for job, descriptors in waiting.items():
            self.spawn(job, descriptors)

    def order(self, message: dict[str, object], *descriptors: int) -> None:
        """Send it an order; if it is gone, the reader of ``link`` notices."""
        with contextlib.suppress(OSError):
            socket.send_fds(self.link, [json.dumps(message).encode()], descriptors)

    def _live(
        self, parent: int, link: socket.socket, context_fd: int, lockdown: Lockdown, serve: Serve
    ) -> NoReturn:
        """Run the template's process until its link ends."""
        try:
            leave_parent(link.fileno(), context_fd, *lockdown.descriptors)
            confine.tie_to_parent(parent)
            confine.first_to_go()
            lockdown.apply_to_template()
            with confine.memory(self.key.memory_bytes), open(context_fd, "rb") as file:
                names = context.load(file)
            gc.freeze()
            serve(link, names)
        finally:
            os._exit(EXIT_BROKEN)


def close_all(descriptors: list[int]) -> None:
    """Close these descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)
