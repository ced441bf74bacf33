"""Starts the process of a fork-server, which ends when nobody holds the other end of its socket any more."""

import importlib.util
import os
import random
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
from rlm_dist.sandbox.process import ENVIRONMENT, PYTHON_OPTIONS, socket_pair

_PROGRAM = Path(__file__).with_name("fork_server.py")
_LOCKDOWN = ("landlockpy", "seccompy")
_CONTROL = "{control}"  # stands for the number of the control socket's descriptor
_START_S = 60.0
# Before those of single REPLs, and below 2 to the 31st, where bubblewrap's numbers end; nobody assigns these.
_FIRST_USER, _USERS = 1_900_000_000, 100_000_000
_ERROR_CHARS = 300
# bubblewrap ends with the *thread* that started it, which may be that of any job. So bubblewrap's parent is a
# shell, which waits for it and does nothing else.
_WAITING_SHELL = ("/bin/sh", "-c", '"$@"; exit', "sh")


class ForkServerProcess:
    """One running fork-server; ``control`` is the socket for orders to it, owned by whoever uses it."""

    control: socket.socket

    def __init__(self, level: Level, packages: Packages = NO_PACKAGES) -> None:
        """Start it; ``level`` must be one that locks.

        Raises:
            SandboxError: it cannot be started.
        """
        problem: str | None = None
        for command, user in _commands(level, packages):
            problem = self._start(command, user)
            if problem is None:
                return
        raise SandboxError(f"the fork-server cannot be started: {problem}")

    def close(self) -> None:
        """Kill it, and every REPL with it."""
        self._popen.kill()
        self._popen.wait()
        self.control.close()

    def _start(self, command: list[str], user: int | None) -> str | None:
        """Start it as this user, or our own if it is None; return what went wrong, None if nothing did."""
        self.control, peer = socket_pair(socket.SOCK_SEQPACKET)
        try:
            with peer:
                self._popen = subprocess.Popen(
                    [part.replace(_CONTROL, str(peer.fileno())) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=ENVIRONMENT,
                    cwd="/",
                    pass_fds=[peer.fileno()],
                    start_new_session=True,
                    user=user,
                    group=user,
                    extra_groups=None if user is None else (),
                )
        except OSError as error:
            self.control.close()
            return str(error)
        assert self._popen.stderr is not None
        with self._popen.stderr as stderr:
            problem = _wait_until_up(self.control)
            if problem is None:
                return None
            self.close()
            output = stderr.read().decode(errors="replace").strip()
        return output.rpartition("\n")[2][-_ERROR_CHARS:] or problem  # a traceback ends with the error


def _wait_until_up(link: socket.socket) -> str | None:
    """Wait until the fork-server serves this socket; return what went wrong, None if nothing did."""
    link.settimeout(_START_S)
    try:
        data = link.recv(MESSAGE_BYTES)
    except TimeoutError:
        return f"it did not start within {_START_S:g} s"
    except ConnectionResetError:
        data = b""
    link.settimeout(None)
    return None if data else "it ended without an error message"


def _commands(level: Level, packages: Packages) -> Iterator[tuple[list[str], int | None]]:
    """The command lines for the fork-server, in the order in which to try them, and as whom: None means us.

    Root tries bubblewrap as a user that nobody else is. That fails if others cannot read Python, or may not
    make namespaces.
    """
    python = os.path.realpath(sys.executable)
    lockdown = [_library(name) for name in _LOCKDOWN]
    program = [python, *PYTHON_OPTIONS, str(_PROGRAM), _CONTROL, level.value, packages.argument(), *lockdown]
    if level is not Level.NAMESPACES:
        yield program, None
        return
    readable = [str(_PROGRAM.parent), *lockdown, *packages.folders]
    is_root = os.geteuid() == 0
    own_user = _FIRST_USER + random.SystemRandom().randrange(_USERS)
    for user in (own_user, None) if is_root else (None,):
        for prefix in bubblewrap.prefixes(python, readable=readable, as_root=is_root and user is None):
            yield [*_WAITING_SHELL, *prefix, *program], user


def _library(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SandboxError(f"the package {name} is not installed")
    return os.path.dirname(os.path.realpath(spec.origin))
