"""A cluster runs under ``deploy/redis-acl.conf``, which refuses all that it does not need."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from rlm_dist.schema import Result, Role
from rlm_dist.simulated import SimulatedEndpoint
from tests.support.bench import WAIT_S, Bench
from tests.support.command_line import Cli
from tests.support.redis_servers import flavours, running

pytestmark = pytest.mark.acceptance


@pytest.fixture(params=sorted(flavours()))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a server with these rules, for its user."""
    (tmp_path / "redis").mkdir()
    with running(flavours()[request.param], tmp_path / "redis", rules=True) as server:
        yield server.url


def look_on(
    url: str, done: Result, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the commands that only read, as the user for these, and one that does not."""
    monkeypatch.setenv("RLM_REDIS_URL", url)
    monkeypatch.setenv("RLM_HOME", str(home / "looking-on"))
    cli, batch = Cli(capsys), str(done.batch_id)
    for words in (
        *(("status",), ("status", batch), ("status", done.id), ("top",), ("trace", done.id)),
        *(("cost", batch, "--check"), ("results", batch)),
    ):
        told = cli(*words, "--json") if words[0] != "results" else cli(*words)
        assert (words, told.code) == (words, 0), told.err
    refused = cli("cancel", batch)
    assert (refused.code, "its access rules do not allow" in refused.err) == (5, True)


def test_a_job_runs_and_one_is_cancelled(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
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
            look_on(url.replace("rlm:", "rlm-monitor:"), result, tmp_path, capsys, monkeypatch)
            for worker in workers:
                assert "NOPERM" not in worker.text()
        finally:
            bench.close()


REFUSED = (
    *(("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "dir", "/x"), ("SHUTDOWN",)),
    *(("ACL", "LIST"), ("EVAL", "return 1", "0"), ("SCRIPT", "FLUSH"), ("MONITOR",)),
    *(("REPLICAOF", "NO", "ONE"), ("CLIENT", "LIST"), ("GET", "other"), ("SET", "other", "1"), ("SAVE",)),
)


WRITES = (
    *(("SET", "rlm:x", "1"), ("DEL", "rlm:job:j"), ("LPUSH", "rlm.root", "x"), ("EVALSHA", "0" * 40, "0")),
    *(
        ("PUBLISH", "/0.celery.pidbox", "x"),
        ("SCRIPT", "LOAD", "return 1"),
        ("LRANGE", "celeryev.x", "0", "1"),
    ),
)


@pytest.mark.parametrize(("user", "more"), [("rlm", ()), ("rlm-monitor", WRITES)])
def test_what_is_not_needed_is_refused(url: str, user: str, more: tuple[tuple[str, ...], ...]) -> None:
    with redis.Redis.from_url(url.replace("rlm:", f"{user}:")) as client:
        assert client.info()["redis_version"]
        assert client.llen("rlm.root") == 0
        for words in (*REFUSED, *more):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*words)
    stranger = url.replace("rlm:hush@", "")
    with redis.Redis.from_url(stranger) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
