"""Templates: forks of the fork-server that have loaded a large context, whose REPLs share its memory.

A template is a fork-server of its own, which has one worker, the fork-server that it was forked from: that
hands its workers' orders on, and hears how the REPLs ended. While it loads, orders wait here with their
descriptors. It never runs code of a model.
"""

import contextlib
import gc
import json
import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from . import confine, context
from .exits import EXIT_BROKEN
from .lockdown import Lockdown
from .spare_pool import leave_parent

_LARGE_BYTES = 8 << 20  # a smaller context is loaded by each REPL: that takes no longer than a fork

Serve = Callable[[socket.socket, dict[str, Any]], None]


class Key(NamedTuple):
    """What a template is told from others by: its context's file, as the kernel names it, and its limit."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    memory_bytes: int


def key_of(context_fd: int, memory_bytes: int) -> Key | None:
    """The template for this context; None where it is too small for one."""
    found = os.fstat(context_fd)
    if found.st_size < _LARGE_BYTES:
        return None
    return Key(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, memory_bytes)


class ContextTemplate:
    """One template as its fork-server has it: ``waiting`` are the orders for it until it is up."""

    def __init__(self, key: Key, context_fd: int, lockdown: Lockdown, serve: Serve) -> None:
        """Fork it; where that cannot be, its ``link`` is at its end at once."""
        self.key = key
        self.waiting: dict[int, list[int]] = {}
        self._is_up = False
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.suppress(OSError):
            parent = os.getpid()
            if not os.fork():
                self._live(parent, theirs, context_fd, lockdown, serve)

    def spawn(self, job: int, descriptors: list[int]) -> None:
        """Have a REPL forked, now or once it is up; the descriptors are given away."""
        if not self._is_up:
            self.waiting[job] = descriptors
            return
        self.order({"op": "spawn", "id": job}, *descriptors)
        close_all(descriptors)

    def begin(self) -> None:
        """It is up: hand on what has waited."""
        self._is_up = True
        waiting, self.waiting = self.waiting, {}
        for job, descriptors in waiting.items():
            self.spawn(job, descriptors)

    def order(self, message: dict[str, object], *descriptors: int) -> None:
        """Send it an order; that it is gone is for the reader of ``link`` to notice."""
        with contextlib.suppress(OSError):
            socket.send_fds(self.link, [json.dumps(message).encode()], descriptors)

    def _live(
        self, parent: int, link: socket.socket, context_fd: int, lockdown: Lockdown, serve: Serve
    ) -> NoReturn:
        """The life of a template."""
        try:
            leave_parent(link.fileno(), context_fd, *lockdown.descriptors)
            confine.tie_to_parent(parent)
            confine.first_to_go()
            with confine.memory(self.key.memory_bytes), open(context_fd, "rb") as file:
                names = context.load(file)
            gc.freeze()
            serve(link, names)
        finally:
            os._exit(EXIT_BROKEN)


def close_all(descriptors: list[int]) -> None:
    """Close them."""
    for descriptor in descriptors:
        os.close(descriptor)
