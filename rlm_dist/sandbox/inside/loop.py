"""The main loop of the REPL process: reads frames, runs cells, answers the host.

It has three threads. The main thread runs cells, and is the only one that signals reach. The reader takes
frames from the host: it passes replies to the waiting calls and orders to the main thread, and ends the
process at the end of the stream. The writer sends frames, so that an interrupt in the main thread never
leaves half a frame behind.
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
from .child_calls import ChildFunctions
from .clock import Clock, install
from .exits import EXIT_BROKEN, EXIT_MEMORY
from .frames import MAX_DETAIL_CHARS, pack, receive
from .repl import CellRunner
from .tools import ToolFunctions

_SEED = 0


class HostChannel:
    """The socket to the host."""

    def __init__(self, fd: int) -> None:
        self.orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._fd = fd
        self._severed = False
        self._out: queue.SimpleQueue[tuple[bytes, threading.Event | None]] = queue.SimpleQueue()

    def read(self) -> dict[str, Any]:
        """The next frame; if the host is gone, the process ends."""
        payload = receive(lambda n: os.read(self._fd, n))
        if payload is None:
            os._exit(0)
        message: dict[str, Any] = json.loads(payload)
        return message

    def send(self, message: dict[str, object]) -> None:
        """Pass a frame to the writer."""
        self._pass_on(message, None)

    def send_slowly(self, message: dict[str, object]) -> None:
        """Pass a frame to the writer, and wait until it is written: of many, one is in memory at a time."""
        written = threading.Event()
        self._pass_on(message, written)
        written.wait()

    def _pass_on(self, message: dict[str, object], written: threading.Event | None) -> None:
        if self._severed:
            raise RuntimeError("this works in the REPL's own process only, not in one that it forked")
        self._out.put((pack(message), written))

    def write(self, frame: bytes) -> None:
        """Write a whole frame now."""
        rest = memoryview(frame)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def begin(self, calls: CallFunctions, tools: ToolFunctions) -> None:
        """Start the reader and the writer."""
        for step in (lambda: self._route(calls, tools), self._write_next):
            threading.Thread(target=_forever, args=(step,), daemon=True).start()
        os.register_at_fork(after_in_child=self._sever)

    def _write_next(self) -> None:
        frame, written = self._out.get()
        self.write(frame)
        if written is not None:
            written.set()

    def _route(self, calls: CallFunctions, tools: ToolFunctions) -> None:
        message = self.read()
        if message["op"] == "reply":
            calls.reply(message)
        elif message["op"] == "tool_reply":
            tools.reply(message)
        else:
            self.orders.put(message)

    def _sever(self) -> None:
        self._severed = True  # a process that model-written code forks must not talk to the host
        os.close(self._fd)


def main(socket_fd: int, context_fd: int, names: context.Loaded | None = None) -> NoReturn:
    """Serve the host at ``socket_fd`` until it is gone.

    ``context_fd`` is the encoded context; if it is loaded already, ``names`` has its variables.
    """
    channel = HostChannel(socket_fd)
    start = channel.read()
    confine.confine(start["limits"])
    if names is None:
        names = _load_context(channel, context_fd)
    else:
        os.close(context_fd)
    random.seed(_SEED)
    clock = Clock()
    install(clock)
    calls = CallFunctions(channel.send)
    most = start["max_context_bytes"]
    children = ChildFunctions(calls, names.variables["context"], most, channel.send_slowly) if most else calls
    tools = ToolFunctions(channel.send, start["tools"])
    repl = CellRunner(names, calls, start["max_output_chars"], tools.names, children)
    channel.begin(calls, tools)
    channel.send({"op": "ready"})
    _forever(lambda: _serve(channel, repl, clock))


def _serve(channel: HostChannel, repl: CellRunner, clock: Clock) -> None:
    order = channel.orders.get()
    if order["op"] == "run":
        clock.begin(order["began_ns"])
        channel.send(repl.run(order["cell"], order["code"]))
    elif order["op"] == "begin":
        channel.send(repl.begin(order["added"], order["ended"]))
    else:
        channel.send(repl.resolve(order["path"]))


def _load_context(channel: HostChannel, context_fd: int) -> context.Loaded:
    try:
        with open(context_fd, "rb") as file:
            return context.load(file)
    except MemoryError:
        detail = "the context does not fit into the memory limit"
    except Exception as error:  # noqa: BLE001  # the edge of the process: it reports the error and ends
        detail = f"the context cannot be loaded: {type(error).__name__}: {error}"
    channel.write(pack({"op": "broken", "detail": detail[:MAX_DETAIL_CHARS]}))
    os._exit(EXIT_BROKEN)


def _forever(step: Callable[[], None]) -> NoReturn:
    """Repeat ``step``; if it fails the process ends, so that the host never waits for a dead thread."""
    try:
        while True:
            step()
    except MemoryError:
        os._exit(EXIT_MEMORY)
    except BaseException:  # noqa: BLE001  # the edge of the process
        os._exit(EXIT_BROKEN)
