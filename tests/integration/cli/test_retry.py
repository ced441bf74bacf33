"""``retry`` and the jobs that a limit of their own ended."""

import pytest

from rlm_dist.schema import ErrorInfo, JobState, Outcome
from rlm_dist.store import Store, connect
from tests.support.command_line import Cli
from tests.support.store_values import LEASE_MS, finish_job, spec, start_job


def at_limit(kind: str) -> Outcome:
    error = ErrorInfo(type="LimitExceeded", message="m")
    return Outcome(state=JobState.EXHAUSTED, error=error, limits_reached=(kind,), iterations=1)


ENDS = {
    "money": at_limit("max_usd"),
    "turns": at_limit("max_iterations"),
    "shared": at_limit("batch_max_usd"),
    "failed": Outcome(state=JobState.FAILED, error=ErrorInfo(type="auth", message="m")),
}


def test_jobs_at_a_limit_of_their_own_are_left_out_unless_it_is_raised(
    redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLM_REDIS_URL", redis_url)
    cli = Cli(capsys)
    with connect(redis_url, client_name="test") as client:
        store = Store(client, retention_s=1000)
        store.batches.create("b", "digest", len(ENDS))
        store.jobs.create(
            [spec(name, batch_id="b", index=n, max_nanousd=1000) for n, name in enumerate(ENDS)]
        )
        store.batches.seal("b")
        for name, end in ENDS.items():
            assert finish_job(store, name, start_job(store, name, "root-1", LEASE_MS) or 0, end)
        first = cli("retry", "b")
        assert first.out == "b: 2 jobs\n"
        assert "1 job left out, ended by max_usd; to retry with more: --raise max_usd=…" in first.err
        states = {name: store.jobs.get(name).state for name in ENDS}
        assert [name for name, state in states.items() if state is JobState.QUEUED] == ["shared", "failed"]

        lower = cli("retry", "b", "--raise", "max_usd=0.0000001", "--json").document
        assert (lower["retried"], lower["left_out"]) == (0, {"max_usd": 1, "max_iterations": 1})
        raised = cli(
            "retry", "b", "--raise", "max_usd=0.5", "--raise", "max_iterations=40", "--json"
        ).document
        assert (raised["retried"], raised["left_out"]) == (2, {})
        limits = {name: store.jobs.get(name).spec.limits for name in ENDS}
        assert client.hget("rlm:job:money", "max_nanousd") == "500000000"
        assert client.hget("rlm:job:turns", "max_nanousd") == "1000"
    assert (limits["money"].max_nanousd, limits["money"].max_iterations) == (500_000_000, 20)
    assert (limits["turns"].max_nanousd, limits["turns"].max_iterations) == (1000, 40)
    assert limits["failed"].max_nanousd == 1000
    for text, words in [
        ("max_usd", "LIMIT=NUMBER"),
        ("model=3", "model: cannot be raised"),
        ("max_usd=-1", "max_usd"),
    ]:
        refused = cli("retry", "b", "--raise", text)
        assert (refused.code, words in refused.err) == (2, True)
