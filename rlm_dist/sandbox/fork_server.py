"""The worker's side of the fork-server: starts it, has it fork REPLs, and hears how they ended.

The fork-server is started with the first REPL, and again where it died. A thread of this process starts it
and reads what it says until it is gone: with bubblewrap, it would end with the thread that started it. It
knows the REPLs by their process ids, in a namespace of their own; here they go by numbers.
"""

import contextlib
import importlib.util
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox import bubblewrap
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.packages import NO_PACKAGES, Packages
from rlm_dist.sandbox.process import ENVIRONMENT, HANG_UP_S, HUNG_UP, PYTHON_OPTIONS, PlainStart, ending

_ZYGOTE = Path(__file__).with_name("zygote.py")
_LOCKDOWN = ("landlockpy", "seccompy")
_CONTROL = "{control}"  # stands for the number of its descriptor
_MESSAGE_BYTES = 4096
_UP_S = 60.0
_KILL_S = 30.0
_ERROR_CHARS = 300


class ForkedProcess:
    """One REPL that the fork-server forked."""

    def __init__(self, number: int, zygote: "_Zygote") -> None:
        self._number = number
        self._zygote = zygote
        self._ended = threading.Event()
        self._ending = ""

    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._ended.is_set()

    def interrupt(self) -> None:
        """Send it one SIGINT."""
        self._zygote.order({"op": "signal", "id": self._number, "signal": int(signal.SIGINT)})

    def await_exit(self) -> None:
        """Give a process that hung up a moment to end by itself, so that its own exit status is seen."""
        self._ended.wait(HANG_UP_S)

    def kill(self) -> str:
        """End it; says how it ended."""
        ours = self.alive()
        if ours:
            self._zygote.order({"op": "signal", "id": self._number, "signal": int(signal.SIGKILL)})
            if not self._ended.wait(_KILL_S):
                self._zygote.stop()
                self._ended.wait()
        return HUNG_UP if ours and self._ending == ending(-signal.SIGKILL) else self._ending

    def end(self, ending: str) -> None:
        """Note how it ended; the first word counts."""
        if not self._ended.is_set():
            self._ending = ending
            self._ended.set()


class ForkServer:
    """Starts REPLs at a level that locks them; to be made after a worker's own fork, and closed.

    ``packages`` is what they have beside the standard library.
    """

    def __init__(self, level: Level, packages: Packages = NO_PACKAGES) -> None:
        self.level = level
        self._packages = packages
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None

    def launch(self, context_path: Path) -> tuple[ForkedProcess, socket.socket]:
        """Have a REPL forked over the encoded context; gives it and our end of its socket.

        Raises:
            SandboxError: the context cannot be opened, or the fork-server cannot be started.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs, open(context_path, "rb") as context:
                return self._started().spawn(theirs, context.fileno()), ours
        except OSError as error:
            ours.close()
            raise SandboxError(f"the REPL process cannot be started: {error}") from error
        except SandboxError:
            ours.close()
            raise

    def start(self) -> None:
        """Start the fork-server now, not with the first REPL.

        Raises:
            SandboxError: it cannot be started.
        """
        self._started()

    def close(self) -> None:
        """End the fork-server, and every REPL with it."""
        with self._lock:
            zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.stop()

    def _started(self) -> "_Zygote":
        with self._lock:
            if self._zygote is None or self._zygote.gone:
                self._zygote = _Zygote(self.level, self._packages)
                self._zygote.await_up()
            return self._zygote


def start_at(level: Level, packages: Packages = NO_PACKAGES) -> ForkServer | PlainStart:
    """The way to start REPLs at this level; to be closed."""
    return PlainStart(packages=packages) if level is Level.OFF else ForkServer(level, packages)


class _Zygote:
    """One running fork-server process."""

    def __init__(self, level: Level, packages: Packages) -> None:
        self._level = level
        self._packages = packages
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._processes: dict[int, ForkedProcess] = {}
        self._control: socket.socket | None = None
        self._is_up = False
        self._up = threading.Event()
        self._problem: str | None = None
        self.gone = False
        self._thread = threading.Thread(target=self._live, name="repl-fork-server", daemon=True)
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
            assert self._control is not None
            message = json.dumps({"op": "spawn", "id": number}).encode()
            with contextlib.suppress(OSError):  # the thread notices that it is gone, and ends the process
                socket.send_fds(self._control, [message], [repl.fileno(), context_fd])
        return process

    def order(self, message: dict[str, object]) -> None:
        """Send it an order."""
        assert self._control is not None
        with contextlib.suppress(OSError):
            self._control.send(json.dumps(message).encode())

    def stop(self) -> None:
        """End it."""
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _live(self) -> None:
        """Run it from start to end, and end all that it forked with it."""
        try:
            for command in _commands(self._level, self._packages):
                self._problem = self._run(command)
                if self._is_up:
                    break
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

    def _run(self, command: list[str]) -> str | None:
        """Run one command line of it; says what went wrong where it did not come up."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._control:
            with theirs:
                popen = subprocess.Popen(
                    [part.replace(_CONTROL, str(theirs.fileno())) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=ENVIRONMENT,
                    cwd="/",
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            with popen:
                try:
                    while data := self._control.recv(_MESSAGE_BYTES):
                        self._heard(json.loads(data))
                except ConnectionResetError:
                    pass  # it died with orders unread
                finally:
                    popen.kill()
                assert popen.stderr is not None
                told = popen.stderr.read().decode(errors="replace").strip()
        reason = told.rpartition("\n")[2][-_ERROR_CHARS:]  # of a traceback, the error
        return None if self._is_up else (reason or f"{command[0]} ended and said nothing")

    def _heard(self, message: dict[str, Any]) -> None:
        if message["op"] == "up":
            self._is_up = True
            self._up.set()
            return
        with self._lock:
            process = self._processes.pop(message["id"])
        process.end(message["detail"] if message["op"] == "failed" else ending(message["code"]))


def _commands(level: Level, packages: Packages) -> Iterator[list[str]]:
    """The command lines of the fork-server, to be tried in turn."""
    python = os.path.realpath(sys.executable)
    lockdown = [_library(name) for name in _LOCKDOWN]
    run = [python, *PYTHON_OPTIONS, str(_ZYGOTE), _CONTROL, level.value, packages.argument(), *lockdown]
    if level is not Level.NAMESPACES:
        yield run
        return
    readable = [str(_ZYGOTE.parent), *lockdown, *packages.folders]
    for prefix in bubblewrap.prefixes(python, readable=readable):
        yield [*prefix, *run]


def _library(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SandboxError(f"the package {name} is not installed")
    return os.path.dirname(os.path.realpath(spec.origin))
