"""The main loop of the REPL process: reads frames, runs cells, answers the host.

Three threads. The main one runs cells and is the only one that signals reach. The reader takes frames from
the host: replies go to the waiting calls, orders to the main thread; at the end of the stream the process
ends. The writer sends frames, so that an interrupt in the main thread never leaves half a frame behind.
"""

import json
import os
import queue
import random
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from . import confine, context
from .calls import CallFunctions
from .clock import Clock, install
from .exits import EXIT_BROKEN, EXIT_MEMORY
from .frames import pack, receive
from .repl import CellRunner

_SEED = 0


class HostChannel:
    """The socket to the host."""

    def __init__(self, fd: int) -> None:
        self.orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._fd = fd
        self._severed = False
        self._out: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read(self) -> dict[str, Any]:
        """The next frame; where the host is gone, the process ends."""
        payload = receive(lambda n: os.read(self._fd, n))
        if payload is None:
            os._exit(0)
        message: dict[str, Any] = json.loads(payload)
        return message

    def send(self, message: dict[str, object]) -> None:
        """Give a frame to the writer."""
        if self._severed:
            raise RuntimeError("this works in the REPL's own process only, not in one that it forked")
        self._out.put(pack(message))

    def write(self, frame: bytes) -> None:
        """Write a whole frame now."""
        rest = memoryview(frame)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def begin(self, calls: CallFunctions) -> None:
        """Start the reader and the writer."""
        for step in (lambda: self._route(calls), lambda: self.write(self._out.get())):
            threading.Thread(target=_forever, args=(step,), daemon=True).start()
        os.register_at_fork(after_in_child=self._sever)

    def _route(self, calls: CallFunctions) -> None:
        message = self.read()
        if message["op"] == "reply":
            calls.reply(message)
        else:
            self.orders.put(message)

    def _sever(self) -> None:
        self._severed = True  # a process that model-written code forks has no part in the talk
        os.close(self._fd)


def main(socket_fd: int, context_fd: int, names: dict[str, Any] | None = None) -> NoReturn:
    """Serve the host at ``socket_fd`` until it is gone.

    ``context_fd`` is the encoded context; where it is loaded already, ``names`` are what it gave.
    """
    link = HostChannel(socket_fd)
    start = link.read()
    confine.confine(start["limits"])
    if names is None:
        names = _loaded(link, context_fd)
    else:
        os.close(context_fd)
    random.seed(_SEED)
    clock = Clock()
    install(clock)
    calls = CallFunctions(link.send)
    repl = CellRunner(names, calls, start["max_output_chars"])
    link.begin(calls)
    link.send({"op": "ready"})
    _forever(lambda: _serve(link, repl, clock))


def _serve(link: HostChannel, repl: CellRunner, clock: Clock) -> None:
    order = link.orders.get()
    if order["op"] == "run":
        clock.begin(order["began_ns"])
        link.send(repl.run(order["cell"], order["code"]))
    else:
        link.send(repl.resolve(order["path"]))


def _loaded(link: HostChannel, context_fd: int) -> dict[str, Any]:
    try:
        with open(context_fd, "rb") as file:
            return context.load(file)
    except MemoryError:
        detail = "the context does not fit into the memory limit"
    except Exception as error:  # noqa: BLE001  # the edge of the process: the host is told, and it ends
        detail = f"the context cannot be loaded: {type(error).__name__}: {error}"
    link.write(pack({"op": "broken", "detail": detail}))
    os._exit(EXIT_BROKEN)


def _forever(step: Callable[[], None]) -> NoReturn:
    """Repeat ``step``; where it fails the process ends, so that the host never waits for a dead thread."""
    try:
        while True:
            step()
    except MemoryError:
        os._exit(EXIT_MEMORY)
    except BaseException:  # noqa: BLE001  # the edge of the process
        os._exit(EXIT_BROKEN)
