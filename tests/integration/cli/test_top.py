"""``top``: the running batches and jobs, as text and as JSON."""

import pytest

from rlm_dist.schema import ErrorInfo, JobState, Outcome, Role
from rlm_dist.store import Store, connect
from tests.support.command_line import Cli
from tests.support.store_values import LEASE_MS, finish_job, opens, running_job, spec, start_job


@pytest.fixture
def cli(redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    return Cli(capsys)


def test_running_jobs_are_shown_with_their_calls_and_no_job_is_said_to_be_none(
    cli: Cli, redis_url: str
) -> None:
    nothing = "0 jobs running, 0 calls in flight, root worker processes: 0, sub workers: 0\n"
    assert cli("top").out == nothing
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        store.batches.create("b", "digest", 1)
        epoch = running_job(store, "j\x1b[2J", batch_id="b")
        store.calls.open("j\x1b[2J", epoch, opens("a", "b"))
        store.workers.announce_requests("sub-1", {"j\x1b[2J": 1}, LEASE_MS)
        store.workers.announce_slots("sub-1", 8, LEASE_MS)
        first, missing, _, batches, batch, _, head, row = cli("top").out.splitlines()
        (document,) = cli("top", "--json").document["jobs"]
    assert first == "1 job running, 1 call in flight, root worker processes: 0, sub workers: 1"
    assert missing.startswith("no root worker is running")
    assert batches.split()[:4] == ["BATCH", "STATE", "JOBS", "ENDED"]
    assert batch.split()[:7] == ["b", "running", "1", "0", "0", "1", "1"]
    assert head.split() == ["JOB", "NAME", "BATCH", "RUNS", "CALLS", "TOKENS", "WORKER"]
    assert row.split() == ["j\\x1b[2J", "j\\x1b[2J", "b", "0", "s", "1", "0", "root-1"]
    assert (document["job"]["calls_in_flight"], document["job"]["batch_id"]) == (1, "b")


def test_top_and_status_show_the_same_figures(cli: Cli, redis_url: str) -> None:
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        store.batches.create("b", "digest", 6)
        store.jobs.create([spec(f"q{n}", batch_id="b", index=n) for n in range(5)])
        limit = Outcome(
            state=JobState.EXHAUSTED,
            error=ErrorInfo(type="LimitExceeded", message="m"),
            limits_reached=("max_usd",),
        )
        for n in range(4):
            assert finish_job(store, f"q{n}", start_job(store, f"q{n}", "root-1", LEASE_MS) or 0, limit)
        for role in Role:
            store.workers.announce_slots("w", 8, LEASE_MS, role)
        (batch,) = cli("top", "--json").document["batches"]
        status = cli("status", "b", "--json").document
        text = cli("status", "b").out
    for field in ("unanswered", "slowest", "missing_workers", "endpoints"):
        assert batch["view"][field] == status[field]
    assert batch["record"]["counts"] == status["counts"]
    assert status["unanswered"] == [{"reason": "max_usd", "count": 4, "first": ["q0", "q1", "q2"]}]
    assert "  failed   4 × max_usd: q0, q1, q2, …\n" in text
    assert status["missing_workers"] == []
