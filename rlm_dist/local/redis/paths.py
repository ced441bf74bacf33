"""The folder ``<home>/redis`` of the embedded server: its files and locks.

::

    users.lock    held shared by each user of the server; the supervisor waits for it exclusively
    start.lock    held while one user checks whether the server runs and, if it does not, starts it
    owner.lock    held by the supervisor and by its server: at most one server over these data, ever
    server.json   {"url", "pid"} of the running server; mode 0600, as it holds the password
    server.log    the output of the server and the supervisor; the log before it is server.log.1
    data/         the append-only files

``server.json`` exists only while a server runs, or after a crash. After a crash it is stale: the next start
takes over its port and password, so that clients that outlived the crash find the new server.
"""

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rlm_dist.errors import InputError
from rlm_dist.local.folders import own_folder

_MAX_LOG_BYTES = 1 << 20
_ANSWER_S = 5
_MOST_BYTES = 1 << 20  # of an answer


@dataclass(frozen=True)
class ServerRecord:
    """The contents of ``server.json``."""

    url: str
    pid: int


@dataclass(frozen=True)
class ServerPaths:
    """The paths of the files of one ``RLM_HOME``'s embedded server."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "redis"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def users(self) -> Path:
        return self.folder / "users.lock"

    @property
    def starting(self) -> Path:
        return self.folder / "start.lock"

    @property
    def owner(self) -> Path:
        return self.folder / "owner.lock"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def record(self) -> Path:
        return self.folder / "server.json"

    def make(self) -> None:
        """Create the folders, readable by their owner only, and check that they can be written to.

        Raises:
            InputError: if they cannot; it names ``RLM_HOME``.
        """
        try:
            own_folder(self.home)
            own_folder(self.folder)
            own_folder(self.data)
            probe = self.folder / f"probe.{os.getpid()}"
            try:
                probe.write_bytes(b"x" * 4096)
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise InputError((f"RLM_HOME: cannot write to {self.folder}: {error.strerror}",)) from None

    def read(self) -> ServerRecord | None:
        """Return the record of the last start, which may be stale; None if there is none to read."""
        try:
            return ServerRecord(**json.loads(self.record.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, server: ServerRecord) -> None:
        """Replace the record in one step."""
        draft = self.folder / "server.json.part"
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(server), file)
        draft.replace(self.record)

    def tidy(self) -> None:
        """Remove half-written files of a crash, and move a long log aside; only under ``owner.lock``."""
        for pattern in ("temp-*", "appendonlydir/temp*"):
            for path in self.data.glob(pattern):
                path.unlink(missing_ok=True)
        if self.log.exists() and self.log.stat().st_size > _MAX_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))


def server_info(url: str) -> dict[str, str] | None:
    """Ask the server at ``url`` for its INFO, without retries; None if no server answers.

    To load the client library would take most of the time of the supervisor's start.
    """
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port), _ANSWER_S) as connection:
            connection.settimeout(_ANSWER_S)
            connection.sendall(f"AUTH {parts.password}\r\nINFO\r\n".encode())
            with connection.makefile("rb") as answer:
                if answer.readline(_MOST_BYTES) != b"+OK\r\n":
                    return None
                size = answer.readline(_MOST_BYTES)
                lines = (
                    answer.read(min(int(size[1:]), _MOST_BYTES)).decode().splitlines()
                    if size.startswith(b"$")
                    else []
                )
    except (OSError, ValueError):
        return None
    return dict(line.split(":", 1) for line in lines if ":" in line) or None


def answers(server: ServerRecord) -> bool:
    """Whether the recorded server answers at its address; another program may have taken the port."""
    info = server_info(server.url)
    return info is not None and info["process_id"] == str(server.pid)
