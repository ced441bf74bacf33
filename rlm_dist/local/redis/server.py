"""The embedded Redis server as its users see it: ``with server(home) as url``.

All users of one ``RLM_HOME`` share one real server, with its append-only file in ``<home>/redis``. It runs
while at least one of them lives (see ``supervisor``), and is found dead and started again by whoever comes
next, or by a user that is still there.
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
from rlm_dist.local.redis.paths import ServerPaths, answers

_START_S = 300
_STOP_S = 30
_POLL_S = 0.02


@contextmanager
def server(home: Path) -> Iterator[str]:
    """Yield the URL (``redis://:password@127.0.0.1:port/0``) of the server over the data in ``home``.

    It is started where it does not run. When the last user leaves, in whatever way, it writes its data and
    ends; leaving this context waits for that.

    Raises:
        InputError: where ``home`` cannot be written.
        Unreachable: where the server cannot be started.
    """
    place = ServerPaths(home)
    place.make()
    done = threading.Event()
    try:
        with ExitStack() as held:
            url = _join(place, held)
            threading.Thread(target=_mend, args=(place, done), daemon=True).start()
            yield url
    finally:
        done.set()
        with suppress(FileNotFoundError):  # where the folder was removed under us
            _await_stop(place)


def _join(place: ServerPaths, held: ExitStack) -> str:
    """Become a user of the server, for as long as ``held`` is open."""
    try:
        held.enter_context(locked(place.users, shared=True, timeout_s=_STOP_S))
        return _running(place)
    except (TimeoutError, OSError) as error:
        raise _unreachable(place, str(error)) from None


def _running(place: ServerPaths) -> str:
    """Return the URL of the running server, started if need be."""
    with locked(place.starting, timeout_s=_START_S):
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if is_free(place.owner):
                return _start(place)
            record = place.read()
            if record is not None and answers(record):
                return record.url
            time.sleep(_POLL_S)
    raise _unreachable(place, "a server holds the data but does not answer")


def _start(place: ServerPaths) -> str:
    """Start a supervisor, which outlives us where others use its server, and wait for its word."""
    with place.log.open("ab") as log:
        process = subprocess.Popen(
            module_command("rlm_dist.local.redis.supervisor", str(place.home)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=place.folder,  # not the user's, which it would keep busy
            env=_environment(),
            start_new_session=True,
        )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
    said = json.loads(line) if line else {"error": "its supervisor died at the start"}
    if "url" in said:
        return str(said["url"])
    raise _unreachable(place, said["error"])


def _mend(place: ServerPaths, done: threading.Event) -> None:
    """Start the server again where its supervisor dies while we still use it; runs in a thread."""
    try:
        while not done.is_set():
            with locked(place.owner, shared=True):  # free only when supervisor and server are gone
                pass
            if not done.is_set():
                _running(place)
    except (Unreachable, OSError):
        return  # whoever uses the server learns it from its own connection


def _await_stop(place: ServerPaths) -> None:
    """Wait until the server has ended, unless others still use it."""
    deadline = time.monotonic() + _STOP_S
    while time.monotonic() < deadline and not is_free(place.owner):
        nobody = is_free(place.users)  # then the supervisor is about to notice
        if not nobody and is_free(place.users, shared=True):
            return
        time.sleep(_POLL_S)


def _environment() -> dict[str, str]:
    """Return what a supervisor gets: none of our secrets."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RLM_", "OPENAI_"))}
    return kept | import_variables()


def _unreachable(place: ServerPaths, detail: str) -> Unreachable:
    return Unreachable(
        "the embedded Redis server",
        str(place.folder),
        detail,
        f"See {place.log}; RLM_HOME names another folder, RLM_REDIS_URL a server of your own.",
    )
