"""The server of a peer that needs Redis: an embedded one, whose memory and CPU time are the peer's."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis

from rlm_dist.local.redis.server import server


class RedisServer(NamedTuple):
    """A running server, and a folder that lives as long."""

    url: str
    pid: int
    folder: Path


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Run a separate server while the context is open."""
    with tempfile.TemporaryDirectory(prefix="rlm-bench-") as name, server(Path(name)) as url:
        with redis.Redis.from_url(url) as client:
            info: Any = client.info("server")
        yield RedisServer(url, int(info["process_id"]), Path(name))
