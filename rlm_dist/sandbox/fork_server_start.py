"""Starts REPLs from a fork-server: the worker's, which its processes share, or this process's own.

This process starts its own fork-server if there is no shared one or the shared one has died. It starts
another one if its own has died.
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
    """Starts REPLs at a level that locks them; create it after a worker's own fork, and close it.

    ``packages`` are the libraries that the REPLs have besides the standard library. The fork-server
    ``shared`` has the same level and packages; ``close`` leaves it open.
    """

    def __init__(
        self, level: Level, packages: Packages = NO_PACKAGES, shared: ForkServerProcess | None = None
    ) -> None:
        self.level = level
        self._packages = packages
        self._shared = shared
        self._lock = threading.Lock()
        self._own_server: ForkServerProcess | None = None
        self._client: ForkServerClient | None = None

    def launch(self, context_path: Path, memory_bytes: int) -> tuple[ForkedRepl, socket.socket]:
        """Have a REPL forked over the encoded context; return it and the host's end of its socket.

        REPLs over one large context share its memory while they run at the same time.

        Raises:
            SandboxError: the context cannot be opened, or the fork-server cannot be started.
        """
        channel, peer = socket.socketpair()
        try:
            with peer, open(context_path, "rb") as context:
                return self._joined_client().spawn(peer, context.fileno(), memory_bytes), channel
        except OSError as error:
            channel.close()
            raise SandboxError(f"the REPL process cannot be started: {error}") from error
        except SandboxError:
            channel.close()
            raise

    def close(self) -> None:
        """End every REPL that was started here, and the fork-server if it is this process's own."""
        with self._lock:
            client, self._client = self._client, None
            own_server, self._own_server = self._own_server, None
        if client is not None:
            client.close()
        if own_server is not None:
            own_server.close()

    def _joined_client(self) -> ForkServerClient:
        with self._lock:
            if self._client is None or self._client.gone:
                self._client = ForkServerClient(self._join())
            return self._client

    def _join(self) -> socket.socket:
        for server in (self._shared, self._own_server):
            if server is not None:
                with contextlib.suppress(SandboxError):
                    return server.join()
        if self._own_server is not None:
            self._own_server.close()
        self._own_server = ForkServerProcess(self.level, self._packages)
        return self._own_server.join()


def start_at(
    level: Level, packages: Packages = NO_PACKAGES, shared: ForkServerProcess | None = None
) -> ForkServerStart | PlainStart:
    """An object that starts REPLs at this level; the caller closes it."""
    if level is Level.OFF:
        return PlainStart(packages=packages)
    return ForkServerStart(level, packages, shared)
