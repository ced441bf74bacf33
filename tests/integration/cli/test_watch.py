"""``status --watch``, lists with running jobs first, and notes on workers that are missing."""

import json
import threading
from pathlib import Path

import pytest

from rlm_dist.schema import Role
from rlm_dist.store import Store, connect
from tests.support.command_line import Cli, command
from tests.support.played_jobs import answered, play, take
from tests.support.redis_servers import AofServer
from tests.support.store_values import LEASE_MS, spec

ROOT, SUB = (f"no {role} worker is running" for role in Role)


@pytest.fixture
def cli(
    redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Cli:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    monkeypatch.setenv("RLM_HOME", str(tmp_path))
    return Cli(capsys)


def test_a_watch_without_an_id_shows_the_newest(cli: Cli, redis_url: str) -> None:
    assert cli("status", "--watch").out == "nothing has been submitted yet\n"
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        store.jobs.create([spec("alone")])
        store.jobs.cancel("alone")
        assert cli("status", "--watch", "--json").document["id"] == "alone"
        store.batches.create("b", "digest", 1)
        store.jobs.create([spec("in", batch_id="b")])
        store.batches.cancel("b")
        client.hset("rlm:batch:b", "created_ms", 2**45)
        assert cli("status", "--watch", "--json").document["id"] == "b"


def test_running_jobs_come_first(cli: Cli, redis_url: str) -> None:
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        store.jobs.create([spec(f"j{n:02}") for n in range(30)])
        client.zadd("rlm:jobs", {f"j{n:02}": n for n in range(30)})
        take(store, "j00")
    jobs = cli("status", "--json").document["jobs"]
    assert [job["id"] for job in jobs[:3]] == ["j00", "j29", "j28"]


def test_missing_workers_are_said_at_once(cli: Cli, redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    path.write_text(json.dumps({"id": "q", "query": "?", "context": "t"}) + "\n")
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        store.workers.announce_slots("sub-1", 8, LEASE_MS)
        submitted = cli("submit", path, "--batch-id", "b")
        assert (ROOT in submitted.err, SUB in submitted.err) == (True, False)
        assert ROOT in cli("status", "b").out
        assert ROOT in cli("status", "q").err
        (check,) = [one for one in cli("doctor", "--json").document["checks"] if one["name"] == "workers"]
        assert (check["status"], check["detail"]) == ("warning", ROOT)
        store.workers.announce_slots("root-1", 1, LEASE_MS, Role.ROOT)
        assert "no root worker" not in cli("submit", path, "--batch-id", "b").err
        play(store, store.batches.job_ids("b", 0, 1)[0], answered("x"))
        client.delete("rlm:slots:until")
        assert SUB in cli("results", "b", "--follow").err
        assert SUB not in cli("results", "b").err


def test_a_watch_survives_a_restart_of_redis(tmp_path: Path) -> None:
    server = AofServer(tmp_path)
    try:
        with server.client() as client:
            store = Store(client, retention_s=1000)
            store.jobs.create([spec("j")])
        variables = {"RLM_REDIS_URL": server.server.url, "RLM_HOME": str(tmp_path / "home")}
        with command("status", "j", "--watch", **variables) as process:
            assert process.stderr is not None
            assert any("queued" in line for line in process.stderr)
            server.kill()
            assert any("cannot be reached" in line for line in process.stderr)
            server.start()
            with server.client() as client:
                Store(client, retention_s=1000).jobs.cancel("j")
            rest = threading.Thread(target=process.stderr.read)
            rest.start()
            assert process.stdout is not None
            assert "cancelled" in process.stdout.readline()
            assert process.wait(60) == 0
            rest.join()
    finally:
        server.kill()
