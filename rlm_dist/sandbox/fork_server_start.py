"""Starts REPLs from a fork-server, which this process owns; if it has died, another one is started."""

import socket
import threading
from pathlib import Path

from rlm_dist.errors import SandboxError
from rlm_dist.sandbox.fork_server_client import ForkedRepl, ForkServerClient
from rlm_dist.sandbox.fork_server_process import ForkServerProcess
from rlm_dist.sandbox.level import Level
from rlm_dist.sandbox.packages import NO_PACKAGES, Packages
from rlm_dist.sandbox.process import PlainStart, socket_pair


class ForkServerStart:
    """Starts REPLs at a level that locks them, from any thread; close it.

    ``packages`` are the libraries that the REPLs have besides the standard library.
    """

    def __init__(self, level: Level, packages: Packages = NO_PACKAGES) -> None:
        self.level = level
        self._packages = packages
        self._lock = threading.Lock()
        self._server: ForkServerProcess | None = None
        self._client: ForkServerClient | None = None

    def prepare(self) -> None:
        """Start the fork-server, if it does not run: the first REPL then does not wait for it.

        Raises:
            SandboxError: it cannot be started.
        """
        self._running_client()

    def launch(self, context_path: Path, memory_bytes: int) -> tuple[ForkedRepl, socket.socket]:
        """Have a REPL forked over the encoded context; return it and the host's end of its socket.

        REPLs over one large context share its memory while they run at the same time.

        Raises:
            SandboxError: the context cannot be opened, or the fork-server cannot be started.
        """
        channel, peer = socket_pair()
        try:
            with peer, open(context_path, "rb") as context:
                return self._running_client().spawn(peer, context.fileno(), memory_bytes), channel
        except OSError as error:
            channel.close()
            raise SandboxError(f"the REPL process cannot be started: {error}") from error
        except SandboxError:
            channel.close()
            raise

    def close(self) -> None:
        """End the fork-server and every REPL that was started here."""
        with self._lock:
            self._stop()

    def _running_client(self) -> ForkServerClient:
        with self._lock:
            if self._client is None or self._client.gone:
                self._stop()
                self._server = ForkServerProcess(self.level, self._packages)
                self._client = ForkServerClient(self._server.control)
            return self._client

    def _stop(self) -> None:
        client, self._client = self._client, None
        server, self._server = self._server, None
        if client is not None:
            client.close()
        if server is not None:
            server.close()


def start_at(level: Level, packages: Packages = NO_PACKAGES) -> ForkServerStart | PlainStart:
    """An object that starts REPLs at this level; the caller closes it."""
    return PlainStart(packages=packages) if level is Level.OFF else ForkServerStart(level, packages)
