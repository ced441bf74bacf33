"""Workers started one by one, as on several machines, with a shared Redis and no cluster of our own."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rlm_dist.simulated import SimulatedEndpoint
from tests.support.command_line import Cli, command
from tests.support.redis_servers import RedisServer


@pytest.fixture
def variables(redis_server: RedisServer, tmp_path: Path) -> Iterator[dict[str, str]]:
    with SimulatedEndpoint() as endpoint:
        yield {
            "RLM_REDIS_URL": redis_server.url,
            "RLM_API_URL": endpoint.url,
            "RLM_HOME": str(tmp_path / "home"),
            "RLM_BROKER_PREFIX": "rlm.cli-workers.",
        }


def test_a_job_runs_on_workers_of_each_role_and_they_stop_when_told_to(
    variables: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "text.txt").write_text("The magic number for blue-cat is 4711.\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        started = [
            stack.enter_context(command("worker", role, "--concurrency", "2", **variables))
            for role in ("root", "sub")
        ]
        query = "What is the magic number for blue-cat?"
        done = Cli(capsys)("run", "--context", tmp_path / "text.txt", "--query", query)
        assert (done.code, done.out) == (0, "4711\n")
        # Contexts went through Redis, so this home has only its cache.
        assert not (tmp_path / "home/blobs").exists()
    assert [process.returncode for process in started] == [0, 0]
