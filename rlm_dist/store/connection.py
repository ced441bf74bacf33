"""The connection to Redis, and the one place where its errors become ``Unreachable``.

Every script and command of the store goes through ``StoreConnection``, which repeats it for ``patience_s``
while Redis cannot be reached. That is safe: each script either changes nothing when repeated, or carries a
token by which it recognizes its own repeat.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from rlm_dist.errors import (
    Cancelled,
    ClientClosed,
    LimitExceeded,
    NotFound,
    Parked,
    SettingsError,
    Superseded,
    Unreachable,
)
from rlm_dist.store.scripts import register

T = TypeVar("T")

MAX_BLOCK_MS = 2000
_SOCKET_TIMEOUT_S = 10.0
_RETRIES = 2
_MAX_CONNECTIONS = 1 << 20
_LONGEST_PAUSE_S = 2.0
_HINT = "Start it, or set RLM_REDIS_URL to a server that is up."
_REFUSALS = {
    "OOM": "it has no memory left (maxmemory)",
    "MISCONF": "it cannot save to its disk and refuses writes",
    "READONLY": "it is a read-only replica",
    "NOPERM": "its access rules do not allow a command or key that is needed",
    "NOAUTH": "it requires a password",
}


def connect(url: str, *, client_name: str) -> redis.Redis:
    """A client of the server at ``url`` (``redis://``, ``rediss://``, ``unix://``); connects at first use.

    Replies are text. A blocking read must block for less than the socket timeout of 10 s.

    Raises:
        SettingsError: if the URL cannot be parsed.
    """
    # A Unix socket has no TCP options.
    tcp: dict[str, Any] = {} if url.startswith("unix://") else {"socket_keepalive": True}
    try:
        return redis.Redis.from_url(
            url,
            client_name=client_name,
            decode_responses=True,
            encoding_errors="surrogatepass",
            socket_timeout=_SOCKET_TIMEOUT_S,
            socket_connect_timeout=_SOCKET_TIMEOUT_S / 2,
            health_check_interval=25,
            # Each waiting thread holds a connection, and a worker may have thousands: what bounds them is its
            # number of open files.
            max_connections=_MAX_CONNECTIONS,
            **tcp,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), _RETRIES),
        )
    except ValueError:
        # The text of the error may show a part of the URL, which may hold a password.
        raise SettingsError(("RLM_REDIS_URL: is not an address that redis-py understands",)) from None


@contextmanager
def reaching(client: redis.Redis) -> Iterator[None]:
    """Turn the errors of a Redis that is down, loading, full or read-only into ``Unreachable``."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
        detail = _detail(error)
        if detail is None:
            raise
        raise Unreachable("Redis", _address(client), detail, _HINT) from None


def _detail(error: Exception) -> str | None:
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return "it is still loading its data"
    if isinstance(error, redis.AuthenticationError):
        return "it refuses the user name or password"
    if isinstance(error, redis.TimeoutError):
        return "it does not answer in time"
    if isinstance(error, redis.ConnectionError):
        return str(error) or "the connection was closed"
    return _refusal(error)


def _refusal(error: Exception) -> str | None:
    classes: dict[type[Exception], str] = {
        redis.exceptions.OutOfMemoryError: "OOM",
        redis.exceptions.ReadOnlyError: "READONLY",
        redis.exceptions.NoPermissionError: "NOPERM",
    }
    code = classes.get(type(error)) or str(error).lstrip("-").split(" ", 1)[0]
    return _REFUSALS.get(code)


def _address(client: redis.Redis) -> str:
    options: Mapping[str, Any] = client.connection_pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


class StoreConnection:
    """A client with our scripts that waits up to ``patience_s`` for Redis; safe for several threads."""

    def __init__(self, client: redis.Redis, *, retention_s: int, patience_s: float = 0.0) -> None:
        # redis-py types a reply as a union of str, bytes and more; with decode_responses all texts are str.
        self.client: Any = client
        self.retention_ms = retention_s * 1000
        self._scripts = register(client)
        self._patience_s = patience_s
        self._closed = False

    def close(self) -> None:
        """Close the connection; from now on everything raises ``ClientClosed``, also what waits for Redis."""
        self._closed = True
        self.client.close()

    def now_ms(self) -> int:
        """The server's time, in Unix milliseconds: the one clock of all workers."""
        seconds, microseconds = self.patiently(self.client.time)
        return int(seconds) * 1000 + int(microseconds) // 1000

    def clock(self) -> Callable[[], int]:
        """A function like ``now_ms`` without I/O: one reading of the server's time, advanced by our clock."""
        return clock_from(self.now_ms())

    def script(self, name: str, keys: Sequence[str], *args: str | int) -> Any:
        """Run a script and return its reply; the script may run more than once."""
        script = self._scripts[name]
        return self.patiently(lambda: script(keys=keys, args=args))

    def scripts_at_once(
        self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[str | int]]]
    ) -> list[Any]:
        """Run one script for several jobs in one round trip; return their replies in order."""
        script = self._scripts[name]

        def run() -> list[Any]:
            pipe = self.client.pipeline(transaction=False)
            for keys, args in calls:
                script(keys=keys, args=args, client=pipe)
            return list(pipe.execute())

        return self.patiently(run) if calls else []

    def patiently(self, fn: Callable[[], T]) -> T:
        """Run ``fn``, again and again for up to ``patience_s``, until Redis can be reached.

        Raises:
            Unreachable: if it cannot.
            ClientClosed: after ``close``.
        """
        deadline = time.monotonic() + self._patience_s
        pause_s = 0.05
        while True:
            if self._closed:
                raise ClientClosed
            try:
                with reaching(self.client):
                    return fn()
            except Exception as error:
                if self._closed:  # in the middle of it
                    raise ClientClosed from None
                # Scripts that the server has forgotten are loaded and run again by redis-py, once.
                again = isinstance(error, Unreachable | redis.exceptions.NoScriptError)
                if not again or time.monotonic() + pause_s > deadline:
                    raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class StorePart:
    """The base of the parts of the ``Store``, which share one connection."""

    def __init__(self, connection: StoreConnection) -> None:
        self._connection = connection
        self._client = connection.client
        self._retention_ms = connection.retention_ms
        self._now_ms = connection.now_ms
        self._script = connection.script
        self._scripts_at_once = connection.scripts_at_once
        self._reach = connection.patiently


def clock_from(now_ms: int) -> Callable[[], int]:
    """A function that returns the server's time, of which ``now_ms`` has just been read, in Unix ms."""
    start = time.monotonic()
    return lambda: now_ms + int((time.monotonic() - start) * 1000)


def new_token() -> str:
    """A name for one write, by which its repeat is recognized; unique across threads and forked processes."""
    return f"{random.getrandbits(64):016x}"


def fenced(reply: Any, job_id: str, epoch: int = 0) -> Any:
    """Return the reply of a job's script, or raise the error that it names.

    Raises:
        NotFound, Superseded, Cancelled, Parked: if that is the script's reply.
    """
    if reply in ("NOT_FOUND", "SUPERSEDED", "CANCELLED", "PAUSED"):
        _refuse(reply, job_id, epoch)
    return reply


def within_budget(reply: Any) -> Any:
    """Return the reply of a script that stores bytes of a job.

    Raises:
        LimitExceeded: if the job has no room for them.
    """
    if isinstance(reply, str) and reply.startswith("refused "):
        _, kind, used, limit, _ = reply.split(" ")
        raise LimitExceeded(kind, int(used), int(limit))
    return reply


def _refuse(reply: str, job_id: str, epoch: int) -> NoReturn:
    if reply == "NOT_FOUND":
        raise NotFound("job", job_id)
    if reply == "SUPERSEDED":
        raise Superseded(job_id, epoch)
    if reply == "PAUSED":
        raise Parked(job_id, "its batch is paused")
    raise Cancelled(job_id)
