"""REPLs from a fork-server: that of the worker, which its processes share, or one of this process's own.

One of its own is started where there is no shared one, or that has died; and again where it died.
"""

import contextlib
import socket
import threading
from pathlib import Path

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox.fork_server_client import ForkedRepl, ForkServerClient
from rlm_dist.sandbox.fork_server_process import ForkServerProcess
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.packages import NO_PACKAGES, Packages
from rlm_dist.sandbox.process import PlainStart


class ForkServerStart:
    """Starts REPLs at a level that locks them; to be made after a worker's own fork, and closed.

    ``packages`` is what they have beside the standard library. What was given as ``shared`` has the same
    level and packages, and stays open.
    """

    def __init__(
        self, level: Level, packages: Packages = NO_PACKAGES, shared: ForkServerProcess | None = None
    ) -> None:
        self.level = level
        self._packages = packages
        self._shared = shared
        self._lock = threading.Lock()
        self._own: ForkServerProcess | None = None
        self._forker: ForkServerClient | None = None

    def launch(self, context_path: Path, memory_bytes: int) -> tuple[ForkedRepl, socket.socket]:
        """Have a REPL forked over the encoded context; gives it and our end of its socket.

        REPLs over one large context share its memory while they run at the same time.

        Raises:
            SandboxError: the context cannot be opened, or the fork-server cannot be started.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs, open(context_path, "rb") as context:
                return self._joined().spawn(theirs, context.fileno(), memory_bytes), ours
        except OSError as error:
            ours.close()
            raise SandboxError(f"the REPL process cannot be started: {error}") from error
        except SandboxError:
            ours.close()
            raise

    def close(self) -> None:
        """End every REPL that was started here, and the fork-server where it is this process's own."""
        with self._lock:
            forker, self._forker = self._forker, None
            own, self._own = self._own, None
        if forker is not None:
            forker.close()
        if own is not None:
            own.close()

    def _joined(self) -> ForkServerClient:
        with self._lock:
            if self._forker is None or self._forker.gone:
                self._forker = ForkServerClient(self._joining())
            return self._forker

    def _joining(self) -> socket.socket:
        for running in (self._shared, self._own):
            if running is not None:
                with contextlib.suppress(SandboxError):
                    return running.join()
        if self._own is not None:
            self._own.close()
        self._own = ForkServerProcess(self.level, self._packages)
        return self._own.join()


def start_at(
    level: Level, packages: Packages = NO_PACKAGES, shared: ForkServerProcess | None = None
) -> ForkServerStart | PlainStart:
    """The way to start REPLs at this level; to be closed."""
    if level is Level.OFF:
        return PlainStart(packages=packages)
    return ForkServerStart(level, packages, shared)
