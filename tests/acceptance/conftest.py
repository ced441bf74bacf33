"""A whole cluster for a test: a real server, the simulated endpoint over HTTP, and worker processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import Bench, MakeBench
from tests.support.redis_servers import RedisServer


@pytest.fixture
def make_bench(redis_server: RedisServer, tmp_path: Path) -> Iterator[MakeBench]:
    """Benches over one server, empty at first, closed at the end of the test."""
    benches: list[Bench] = []
    with redis.Redis.from_url(redis_server.admin_url) as client:
        client.flushall()

    def make(endpoint: SimulatedEndpoint) -> Bench:
        folder = tmp_path / f"bench{len(benches)}"
        folder.mkdir()
        benches.append(Bench(redis_url=redis_server.url, api_url=endpoint.url, folder=folder))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()
