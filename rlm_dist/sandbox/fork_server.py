"""Fork-servers as the worker has them: one for all REPLs, and one more for each large context in use.

The first is started with the first REPL, and again where it died. The others, the templates, are forks of it
that have loaded a context; the REPLs over that context are forked from there, share its memory, and start
without loading it. A template is there as long as a REPL over its context is.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox import bubblewrap
from rlm_dist.sandbox.forked import ForkedProcess, Forker
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.packages import NO_PACKAGES, Packages
from rlm_dist.sandbox.process import ENVIRONMENT, PYTHON_OPTIONS, PlainStart

_ZYGOTE = Path(__file__).with_name("zygote.py")
_LOCKDOWN = ("landlockpy", "seccompy")
_CONTROL = "{control}"  # stands for the number of its descriptor
_SHARED_BYTES = 8 << 20  # a smaller context is loaded by each REPL: that takes no longer than a fork
_ERROR_CHARS = 300


class ForkServer:
    """Starts REPLs at a level that locks them; to be made after a worker's own fork, and closed.

    ``packages`` is what they have beside the standard library.
    """

    def __init__(self, level: Level, packages: Packages = NO_PACKAGES) -> None:
        self.level = level
        self._packages = packages
        self._lock = threading.Lock()
        self._zygote: _Zygote | None = None
        self._templates: dict[tuple[object, ...], _Template] = {}

    def launch(self, context_path: Path, memory_bytes: int) -> tuple[ForkedProcess, socket.socket]:
        """Have a REPL forked over the encoded context; gives it and our end of its socket.

        REPLs over one large context share its memory while they run at the same time.

        Raises:
            SandboxError: the context cannot be opened, or the fork-server cannot be started.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs, open(context_path, "rb") as context:
                return self._forked(theirs, context, memory_bytes), ours
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
            templates, self._templates = self._templates, {}
        for template in templates.values():
            template.stop()
        if zygote is not None:
            zygote.stop()

    def _started(self) -> "_Zygote":
        with self._lock:
            if self._zygote is None or self._zygote.gone:
                self._zygote = _Zygote(self.level, self._packages)
                self._zygote.await_up()
            return self._zygote

    def _forked(self, repl: socket.socket, context: BinaryIO, memory_bytes: int) -> ForkedProcess:
        zygote = self._started()
        found = os.fstat(context.fileno())
        if found.st_size < _SHARED_BYTES:
            return zygote.spawn(repl, context.fileno())
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, memory_bytes)
        template = self._template(zygote, key, context, memory_bytes)
        try:
            template.await_up()
        except SandboxError:  # it does not fit, or is none: a REPL of its own will tell
            self._leave(key, template)
            context.seek(0)
            return zygote.spawn(repl, context.fileno())
        process = template.spawn(repl, context.fileno())
        process.when_ended(lambda: self._leave(key, template))
        return process

    def _template(
        self, zygote: "_Zygote", key: tuple[object, ...], context: BinaryIO, memory_bytes: int
    ) -> "_Template":
        """The template of this context, with one more user; not yet up where it is new."""
        with self._lock:
            template = self._templates.get(key)
            if template is None or template.gone:
                template = self._templates[key] = _Template(zygote, context.fileno(), memory_bytes)
            template.users += 1
            return template

    def _leave(self, key: tuple[object, ...], template: "_Template") -> None:
        """Have one user less; the last one ends it."""
        with self._lock:
            template.users -= 1
            if template.users:
                return
            if self._templates.get(key) is template:
                del self._templates[key]
        template.hang_up()


def start_at(level: Level, packages: Packages = NO_PACKAGES) -> ForkServer | PlainStart:
    """The way to start REPLs at this level; to be closed."""
    return PlainStart(packages=packages) if level is Level.OFF else ForkServer(level, packages)


class _Zygote(Forker):
    """The fork-server that this process executes. Its thread starts it: with bubblewrap it ends with that."""

    def __init__(self, level: Level, packages: Packages) -> None:
        self._level = level
        self._packages = packages
        super().__init__("repl-fork-server")

    def _run(self) -> str | None:
        problem = None
        for command in _commands(self._level, self._packages):
            problem = self._run_command(command)
            if self._is_up:
                break
        return problem

    def _run_command(self, command: list[str]) -> str | None:
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
                    self._listen(self._control)
                finally:
                    popen.kill()
                assert popen.stderr is not None
                told = popen.stderr.read().decode(errors="replace").strip()
        reason = told.rpartition("\n")[2][-_ERROR_CHARS:]  # of a traceback, the error
        return None if self._is_up else (reason or f"{command[0]} ended and said nothing")


class _Template(Forker):
    """A fork of the fork-server that has loaded one context; ``users`` counts the REPLs over it."""

    def __init__(self, zygote: _Zygote, context_fd: int, memory_bytes: int) -> None:
        self.users = 0
        self._own, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            order = {"op": "template", "memory_bytes": memory_bytes}
            zygote.order(order, theirs.fileno(), context_fd)
        super().__init__("repl-template", self._own)

    def _run(self) -> str | None:
        with self._own:
            self._listen(self._own)
        return None if self._is_up else "the context could not be loaded"


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
