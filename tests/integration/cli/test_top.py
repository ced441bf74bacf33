"""``top``: the running jobs, as text and as JSON."""

import pytest

from rlm_dist.store import Store, connect
from tests.support.command_line import Cli
from tests.support.store_values import LEASE_MS, opens, running_job


@pytest.fixture
def cli(redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    return Cli(capsys)


def test_running_jobs_are_shown_with_their_calls_and_no_job_is_said_to_be_none(
    cli: Cli, redis_url: str
) -> None:
    assert cli("top").out == "0 jobs running, 0 calls in flight, 0 sub workers\n"
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        store.batches.create("b", "digest", 1)
        epoch = running_job(store, "j\x1b[2J", batch_id="b")
        store.calls.open("j\x1b[2J", epoch, opens("a", "b"))
        store.workers.announce_requests("sub-1", {"j\x1b[2J": 1}, LEASE_MS)
        first, head, row = cli("top").out.splitlines()
        (document,) = cli("top", "--json").document["jobs"]
    assert first == "1 jobs running, 1 calls in flight, 0 sub workers"
    assert head.split() == ["JOB", "NAME", "BATCH", "RUNS", "CALLS", "TOKENS", "WORKER"]
    assert row.split() == ["j\\x1b[2J", "j\\x1b[2J", "b", "0", "s", "1", "0", "root-1"]
    assert (document["calls_in_flight"], document["batch_id"]) == (1, "b")
