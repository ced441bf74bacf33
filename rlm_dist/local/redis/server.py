"""The embedded Redis server as its users see it: ``with server(home) as url``.

All users of one ``RLM_HOME`` share one real server, with its append-only file in ``<home>/redis``. It runs
while at least one of them is alive (see ``supervisor``). If it dies, a user that is still alive starts it
again, or else the next user.
"""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rlm_dist.errors import Unreachable
from rlm_dist.local.child_python import import_variables, module_command
from rlm_dist.local.file_lock import is_free, locked
from rlm_dist.local.folders import own_file
from rlm_dist.local.redis.paths import ServerPaths, answers

_START_S = 300
_STOP_S = 30
_POLL_S = 0.02


@contextmanager
def server(home: Path) -> Iterator[str]:
    """Yield the URL (``redis://:password@127.0.0.1:port/0``) of the server over the data in ``home``.

    It is started if it does not run. When the last user leaves, in whatever way, it writes its data and ends;
    leaving this context waits for that.

    Raises:
        InputError: if ``home`` cannot be written to.
        Unreachable: if the server cannot be started.
    """
    paths = ServerPaths(home)
    paths.make()
    leaving = threading.Event()
    try:
        with ExitStack() as membership:
            url = _join(paths, membership)
            threading.Thread(target=_keep_running, args=(paths, leaving), daemon=True).start()
            yield url
    finally:
        leaving.set()
        with suppress(FileNotFoundError):  # if the folder was removed under us
            _await_stop(paths)


def _join(paths: ServerPaths, membership: ExitStack) -> str:
    """Become a user of the server, for as long as ``membership`` is open."""
    try:
        membership.enter_context(locked(paths.users, shared=True, timeout_s=_STOP_S))
        return _ensure_running(paths)
    except (TimeoutError, OSError) as error:
        raise _unreachable(paths, str(error)) from None


def _ensure_running(paths: ServerPaths) -> str:
    """Return the URL of the running server; start it if it does not run."""
    with locked(paths.starting, timeout_s=_START_S):
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if is_free(paths.owner):
                return _start(paths)
            record = paths.read()
            if record is not None and answers(record):
                return record.url
            time.sleep(_POLL_S)
    raise _unreachable(paths, "a server holds the data but does not answer")


def _start(paths: ServerPaths) -> str:
    """Start a supervisor, which outlives us if others use its server, and wait for its report."""
    with own_file(paths.log, "ab") as log:
        process = subprocess.Popen(
            module_command("rlm_dist.local.redis.supervisor", str(paths.home)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=paths.folder,  # not the user's current folder, which it would keep in use
            env=_environment(),
            start_new_session=True,
        )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
    report = json.loads(line) if line else {"error": "its supervisor died while it started"}
    if "url" in report:
        return str(report["url"])
    raise _unreachable(paths, report["error"])


def _keep_running(paths: ServerPaths, leaving: threading.Event) -> None:
    """Start the server again if its supervisor dies while we still use it; runs in a thread."""
    try:
        while not leaving.is_set():
            with locked(paths.owner, shared=True):  # free only when supervisor and server are gone
                pass
            if not leaving.is_set():
                _ensure_running(paths)
    except (Unreachable, OSError):
        return  # the users of the server learn it from their own connections


def _await_stop(paths: ServerPaths) -> None:
    """Wait until the server has ended, unless others still use it."""
    deadline = time.monotonic() + _STOP_S
    while time.monotonic() < deadline and not is_free(paths.owner):
        unused = is_free(paths.users)  # then the supervisor is about to notice
        if not unused and is_free(paths.users, shared=True):
            return
        time.sleep(_POLL_S)


def _environment() -> dict[str, str]:
    """Return the environment of a supervisor, without our secrets."""
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("RLM_", "OPENAI_"))
    }
    return variables | import_variables()


def _unreachable(paths: ServerPaths, detail: str) -> Unreachable:
    return Unreachable(
        "the embedded Redis server",
        str(paths.folder),
        detail,
        f"See {paths.log}. Set RLM_HOME to use another folder, or RLM_REDIS_URL to use your own server.",
    )
