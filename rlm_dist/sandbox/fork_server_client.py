"""The worker's side of one socket to the fork-server: orders REPLs, and receives how they ended.

The fork-server knows the REPLs by their process ids, in a namespace of their own; on this socket each REPL
has a number. A thread of this process reads the fork-server's messages until it is gone. Any thread may send
orders.
"""

import contextlib
import itertools
import json
import signal
import socket
import threading
from typing import Any

from rlm_dist.sandbox.inside.exits import SERVER_DIED
from rlm_dist.sandbox.process import HANG_UP_S, HUNG_UP, ending

MESSAGE_BYTES = 4096
_KILL_S = 30.0


class ForkedRepl:
    """One REPL that a fork-server forked."""

    def __init__(self, number: int, client: "ForkServerClient") -> None:
        self._number = number
        self._client = client
        self._ended = threading.Event()
        self._ending = ""

    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._ended.is_set()

    def interrupt(self) -> None:
        """Send it one SIGINT."""
        self._client.signal(self._number, signal.SIGINT)

    def await_exit(self) -> None:
        """Wait a moment for a process that hung up to end by itself, so that its own exit status is seen."""
        self._ended.wait(HANG_UP_S)

    def kill(self) -> str:
        """Kill it; return how it ended."""
        was_alive = self.alive()
        if was_alive:
            self._client.signal(self._number, signal.SIGKILL)
            if not self._ended.wait(_KILL_S):
                self._client.close()
                self._ended.wait()
        return HUNG_UP if was_alive and self._ending == ending(-signal.SIGKILL) else self._ending

    def end(self, ending: str) -> None:
        """Record how it ended."""
        self._ending = ending
        self._ended.set()


class ForkServerClient:
    """A client of a running fork-server on one socket, which it owns and closes."""

    def __init__(self, control: socket.socket) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._processes: dict[int, ForkedRepl] = {}
        self._control = control
        self.gone = False
        self._thread = threading.Thread(target=self._listen, name="repl-fork-server", daemon=True)
        self._thread.start()

    def spawn(self, repl: socket.socket, context_fd: int, memory_bytes: int) -> ForkedRepl:
        """Have a REPL forked that gets these two descriptors."""
        with self._lock:
            number = next(self._numbers)
            process = ForkedRepl(number, self)
            if self.gone:
                process.end(SERVER_DIED)
                return process
            self._processes[number] = process
            # If the fork-server dies just now, the thread notices and marks the REPL as ended.
            order = {"op": "spawn", "id": number, "memory_bytes": memory_bytes}
            self._order(order, repl.fileno(), context_fd)
        return process

    def signal(self, number: int, which: signal.Signals) -> None:
        """Send a REPL a signal."""
        self._order({"op": "signal", "id": number, "signal": int(which)})

    def close(self) -> None:
        """Hang up: the fork-server ends the REPLs that were ordered on this socket."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _order(self, message: dict[str, object], *descriptors: int) -> None:
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [json.dumps(message).encode()], descriptors)

    def _listen(self) -> None:
        """Read the fork-server's messages until it is gone."""
        with self._control, contextlib.suppress(ConnectionResetError):  # it died with orders unread
            while data := self._control.recv(MESSAGE_BYTES):
                self._note_end(json.loads(data))
        with self._lock:
            self.gone = True
            for process in self._processes.values():
                process.end(SERVER_DIED)

    def _note_end(self, message: dict[str, Any]) -> None:
        with self._lock:
            process = self._processes.pop(message["id"])
        process.end(message["detail"] if message["op"] == "failed" else ending(message["code"]))
