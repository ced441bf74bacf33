"""A cluster runs under ``deploy/redis-acl.conf``, which refuses all that it does not need."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from rlm_dist.schema import Role
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import WAIT_S, Bench
from tests.support.redis_servers import flavours, running

pytestmark = pytest.mark.acceptance


@pytest.fixture(params=sorted(flavours()))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a server with these rules, for its user."""
    (tmp_path / "redis").mkdir()
    with running(flavours()[request.param], tmp_path / "redis", rules=True) as server:
        yield server.url


def test_a_job_runs_and_one_is_cancelled(url: str, tmp_path: Path) -> None:
    with SimulatedEndpoint() as endpoint:
        bench = Bench(redis_url=url, api_url=endpoint.url, folder=tmp_path)
        workers = [bench.start(Role.ROOT, concurrency=1), bench.start(Role.SUB, concurrency=4)]
        try:
            bench.wait_ready()
            lines = "\n".join(f"Who is number {n}?" for n in range(20))
            line = {"id": "a", "query": "Label the first 20 lines.", "context": lines}
            (result,) = bench.client.submit_batch([line]).results()
            assert result.answer_json == {"human being": 20}
            cancelled = bench.client.submit(lines, "Label the first 20 lines.")
            cancelled.cancel()
            assert cancelled.result(WAIT_S).state.final
            for worker in workers:
                assert "NOPERM" not in worker.text()
        finally:
            bench.close()


REFUSED = (
    *(("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "dir", "/x"), ("SHUTDOWN",)),
    *(("ACL", "LIST"), ("EVAL", "return 1", "0"), ("SCRIPT", "FLUSH"), ("MONITOR",)),
    *(("REPLICAOF", "NO", "ONE"), ("CLIENT", "LIST"), ("GET", "other"), ("SET", "other", "1"), ("SAVE",)),
)


def test_what_is_not_needed_is_refused(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        assert client.info()["redis_version"]
        for words in REFUSED:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*words)
    stranger = url.replace("rlm:hush@", "")
    with redis.Redis.from_url(stranger) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
