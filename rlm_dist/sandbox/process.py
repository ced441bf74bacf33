"""A REPL that is not locked, as a plain process: starts, interrupts and kills it.

The process is a newly executed program, never a fork of this one: a fork would own this process's memory, and
the keys in it. It shares only one end of a socket pair and the context file, opened read-only.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox.inside.exits import EXIT_BROKEN, EXIT_MEMORY
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.packages import NO_PACKAGES, Packages

CHILD = Path(__file__).with_name("child.py")
HANG_UP_S = 1.0
# The time zone and the order of sets are the same on every machine, so that a job can be replayed.
# Array libraries would otherwise start a thread for each processor.
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC0",
}
# No site-packages, no script folder, no user packages: the standard library alone.
PYTHON_OPTIONS = ("-P", "-s", "-S", "-X", "utf8")
HUNG_UP = "it hung up on its host"


class PlainProcess:
    """One running REPL process, which leads its own session and process group."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen
        self._lock = threading.Lock()

    def alive(self) -> bool:
        """Whether it still runs; this does not reap it, so that its process group's id is not reused."""
        with self._lock:
            if self._popen.returncode is not None:
                return False
            if sys.platform == "darwin":  # no WNOWAIT: only the end of the socket shows the exit
                return True
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._popen.pid, options) is None

    def interrupt(self) -> None:
        """Send it one SIGINT."""
        with self._lock:
            if self._popen.returncode is None:
                os.kill(self._popen.pid, signal.SIGINT)

    def await_exit(self) -> None:
        """Wait a moment for a process that hung up to end by itself, so that its own exit status is seen."""
        deadline = time.monotonic() + HANG_UP_S
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    def kill(self) -> str:
        """Kill it with everything in its process group; return how it ended."""
        was_alive = self.alive()
        with self._lock:
            if self._popen.returncode is None:
                try:
                    os.killpg(self._popen.pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    self._popen.kill()
                self._popen.wait()
        if was_alive and self._popen.returncode == -signal.SIGKILL:
            return HUNG_UP
        return ending(self._popen.returncode)


class PlainStart:
    """Starts REPLs at the level ``off``."""

    level = Level.OFF

    def __init__(self, child: Path = CHILD, *, packages: Packages = NO_PACKAGES) -> None:
        self._child = child
        self._packages = packages.argument()

    def prepare(self) -> None:
        """Do nothing: each process is started separately."""

    def launch(self, context_path: Path, memory_bytes: int) -> tuple[PlainProcess, socket.socket]:
        """Start a REPL process over the encoded context; return it and the host's end of its socket.

        ``memory_bytes`` is unused here: the process gets its limits later, in its first message.

        On Linux the process ends with the thread that calls this.

        Raises:
            SandboxError: the context cannot be opened or no process can be started.
        """
        channel, peer = socket_pair()
        try:
            with peer, open(context_path, "rb") as context:
                fds = (peer.fileno(), context.fileno())
                popen = subprocess.Popen(
                    [sys.executable, *PYTHON_OPTIONS, str(self._child), *map(str, fds), self._packages],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=ENVIRONMENT,
                    cwd="/",
                    pass_fds=fds,
                    start_new_session=True,
                )
        except OSError as error:
            channel.close()
            raise SandboxError(f"the REPL process cannot be started: {error}") from error
        return PlainProcess(popen), channel

    def close(self) -> None:
        """Do nothing: each process is killed separately."""


def socket_pair(kind: socket.SocketKind = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that block.

    A new socket has the default timeout of the process, and one with a timeout does not block for a child
    that inherits it. Celery sets such a default while it stops or connects; other threads go on meanwhile.
    """
    pair = socket.socketpair(socket.AF_UNIX, kind)
    for end in pair:
        end.setblocking(True)
    return pair


def ending(code: int) -> str:
    """How a process ended, as text; ``code`` is its exit code, or minus the signal that ended it."""
    if code == EXIT_MEMORY:
        return "it ran out of memory"
    if code == EXIT_BROKEN:
        return "it broke down"
    if code >= 0:
        return f"it exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    reasons = {"SIGKILL": ", most likely because memory ran out", "SIGXCPU": ": its CPU time is used up"}
    return f"it was ended by signal {-code} ({name}){reasons.get(name, '')}"
