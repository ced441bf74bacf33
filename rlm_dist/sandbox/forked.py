"""The worker's side of the socket of a fork-server: has it fork REPLs, and hears how they ended.

It knows the REPLs by their process ids, in a namespace of their own; here they go by numbers. A thread of
this process reads what it says until it is gone; orders may be given from any thread.
"""

import contextlib
import itertools
import json
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox.process import HANG_UP_S, HUNG_UP, ending

_MESSAGE_BYTES = 4096
_UP_S = 60.0
_KILL_S = 30.0


class ForkedProcess:
    """One REPL that a fork-server forked."""

    def __init__(self, number: int, forker: "Forker") -> None:
        self._number = number
        self._forker = forker
        self._ended = threading.Event()
        self._ending = ""
        self._noting = threading.Lock()
        self._then: Callable[[], None] | None = None

    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._ended.is_set()

    def interrupt(self) -> None:
        """Send it one SIGINT."""
        self._forker.order({"op": "signal", "id": self._number, "signal": int(signal.SIGINT)})

    def await_exit(self) -> None:
        """Give a process that hung up a moment to end by itself, so that its own exit status is seen."""
        self._ended.wait(HANG_UP_S)

    def kill(self) -> str:
        """End it; says how it ended."""
        ours = self.alive()
        if ours:
            self._forker.order({"op": "signal", "id": self._number, "signal": int(signal.SIGKILL)})
            if not self._ended.wait(_KILL_S):
                self._forker.stop()
                self._ended.wait()
        return HUNG_UP if ours and self._ending == ending(-signal.SIGKILL) else self._ending

    def when_ended(self, then: Callable[[], None]) -> None:
        """Have ``then`` called once it has ended; at once where it has."""
        with self._noting:
            if not self._ended.is_set():
                self._then = then
                return
        then()

    def end(self, ending: str) -> None:
        """Note how it ended; the first word counts."""
        with self._noting:
            if self._ended.is_set():
                return
            self._ending = ending
            self._ended.set()
        if self._then is not None:
            self._then()


class Forker(ABC):
    """One running fork-server process."""

    def __init__(self, name: str, control: socket.socket | None = None) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._processes: dict[int, ForkedProcess] = {}
        self._control = control
        self._is_up = False
        self._up = threading.Event()
        self._problem: str | None = None
        self.gone = False
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    def await_up(self) -> None:
        """Wait until it can fork.

        Raises:
            SandboxError: it cannot.
        """
        if not self._up.wait(_UP_S):
            self.stop()
            self._problem = f"it did not start within {_UP_S:g} s"
        if self._problem is not None:
            raise SandboxError(f"the fork-server cannot be started: {self._problem}")

    def spawn(self, repl: socket.socket, context_fd: int) -> ForkedProcess:
        """Have a REPL forked that holds these two descriptors."""
        with self._lock:
            number = next(self._numbers)
            process = self._processes[number] = ForkedProcess(number, self)
            if self.gone:
                process.end("the fork-server died")
                return process
            # Where it is gone just now, the thread notices, and ends the process.
            self.order({"op": "spawn", "id": number}, repl.fileno(), context_fd)
        return process

    def order(self, message: dict[str, object], *descriptors: int) -> None:
        """Send it an order."""
        assert self._control is not None
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [json.dumps(message).encode()], descriptors)

    def hang_up(self) -> None:
        """Have it end, with every REPL of it."""
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """End it."""
        self.hang_up()
        self._thread.join()

    @abstractmethod
    def _run(self) -> str | None:
        """Run it from start to end; says what went wrong where it did not come up."""

    def _live(self) -> None:
        try:
            self._problem = self._run()
        except OSError as error:
            self._problem = str(error)
        except SandboxError as error:
            self._problem = error.detail
        finally:
            with self._lock:
                self.gone = True
                for process in self._processes.values():
                    process.end("the fork-server died")
            self._up.set()

    def _listen(self, control: socket.socket) -> None:
        """Hear it until it is gone."""
        with contextlib.suppress(ConnectionResetError):  # it died with orders unread
            while data := control.recv(_MESSAGE_BYTES):
                self._heard(json.loads(data))

    def _heard(self, message: dict[str, Any]) -> None:
        if message["op"] == "up":
            self._is_up = True
            self._up.set()
            return
        with self._lock:
            process = self._processes.pop(message["id"])
        process.end(message["detail"] if message["op"] == "failed" else ending(message["code"]))
