"""The process of a fork-server, as it is started; each process that orders REPLs of it joins it.

It is started without a thread, so that a worker's main process can start it before its pool is forked: the
pool's processes inherit its socket, and each joins by a socket of its own. It ends when nobody holds one of
these sockets any more.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox import bubblewrap
from rlm_dist.sandbox.fork_server_client import MESSAGE_BYTES
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.packages import NO_PACKAGES, Packages
from rlm_dist.sandbox.process import ENVIRONMENT, PYTHON_OPTIONS

_ZYGOTE = Path(__file__).with_name("fork_server.py")
_LOCKDOWN = ("landlockpy", "seccompy")
_CONTROL = "{control}"  # stands for the number of its descriptor
_UP_S = 60.0
_ERROR_CHARS = 300
# bubblewrap ends with its parent. A pool outlives the process that forked it, and may go on with its jobs: so
# that parent is a shell, which waits for it and does nothing else.
_KEEPER = ("/bin/sh", "-c", '"$@"; exit', "sh")


class ForkServerProcess:
    """One running fork-server; to be closed by the process that started it, not by those that join it."""

    def __init__(self, level: Level, packages: Packages = NO_PACKAGES) -> None:
        """Start it, at a level that locks.

        Raises:
            SandboxError: it cannot be started.
        """
        problem: str | None = None
        for command in _commands(level, packages):
            problem = self._start(command)
            if problem is None:
                return
        raise SandboxError(f"the fork-server cannot be started: {problem}")

    def join(self) -> socket.socket:
        """A socket of one's own to it, at which it takes orders; also after a fork of this process.

        Raises:
            SandboxError: it is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                socket.send_fds(self._control, [json.dumps({"op": "join"}).encode()], [theirs.fileno()])
            problem = _awaited(ours)
        except OSError as error:
            problem = str(error)
        if problem is not None:
            ours.close()
            raise SandboxError(f"the fork-server cannot be joined: {problem}")
        return ours

    def close(self) -> None:
        """End it, and every REPL with it."""
        self._popen.kill()
        self._popen.wait()
        self._control.close()

    def _start(self, command: list[str]) -> str | None:
        """Start it by this command line; says what went wrong."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._popen = subprocess.Popen(
                    [part.replace(_CONTROL, str(theirs.fileno())) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=ENVIRONMENT,
                    cwd="/",
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        except OSError as error:
            self._control.close()
            return str(error)
        assert self._popen.stderr is not None
        with self._popen.stderr as stderr:
            problem = _awaited(self._control)
            if problem is None:
                return None
            self.close()
            told = stderr.read().decode(errors="replace").strip()
        return told.rpartition("\n")[2][-_ERROR_CHARS:] or problem  # of a traceback, the error


def _awaited(link: socket.socket) -> str | None:
    """Wait until the fork-server is up at this socket; says what went wrong."""
    link.settimeout(_UP_S)
    try:
        heard = link.recv(MESSAGE_BYTES)
    except TimeoutError:
        return f"it did not come up within {_UP_S:g} s"
    except ConnectionResetError:
        heard = b""
    link.settimeout(None)
    return None if heard else "it ended and said nothing"


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
        yield [*_KEEPER, *prefix, *run]


def _library(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SandboxError(f"the package {name} is not installed")
    return os.path.dirname(os.path.realpath(spec.origin))
