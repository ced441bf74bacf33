"""What ``--dry-run`` and ``--pilot`` show before money is spent."""

import io

import pytest
import typer

from rlm_dist.cli.trial import ask, pilot_lines
from rlm_dist.errors import InputError
from rlm_dist.operations.forecast import pilot
from rlm_dist.schema import ContextInfo, ContextRef, Costs, JobRecord, JobSpec, JobState

CONTEXT = ContextRef(sha256="0" * 64, size_bytes=3, info=ContextInfo(kind="str", chars=3, items=1))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def job(start_s: int, end_s: int, usd: float | None, tokens: int = 1000) -> JobRecord:
    return JobRecord(
        spec=JobSpec(id="j", custom_id="q", query="?", context=CONTEXT),
        state=JobState.SUCCEEDED,
        queued_ms=0,
        started_ms=start_s * 1000,
        ended_ms=end_s * 1000,
        costs=Costs(total_cost=usd, root_llm_tokens=tokens),
    )


def test_a_pilot_tells_one_job_the_whole_and_the_time_of_the_rest() -> None:
    outlook = pilot([job(0, 10, 0.5), job(0, 10, 0.5)], left=8)
    assert list(pilot_lines(outlook)) == [
        "pilot: 2 succeeded",
        "  per job (10th / 50th / 90th percentile):",
        "    $0.5000 / $0.5000 / $0.5000; 1,000 / 1,000 / 1,000 tokens; 10 s / 10 s / 10 s",
        "  the whole batch: about $5.00 ($1.00 to $10.97), about 10,000 (2,000 to 21,933) tokens",
        "  the other jobs: about 40 s (0 s to 2 min), with 2.0 at once as in the pilot",
    ]


def test_one_unknown_price_makes_the_money_unknown_and_not_smaller() -> None:
    outlook = pilot([job(0, 10, 0.5), job(0, 20, None)], left=8)
    assert (outlook.usd, outlook.whole_usd) == (None, None)
    assert "  the whole batch: cost unknown, about 10,000 (2,000 to 21,933) tokens" in pilot_lines(outlook)


def test_a_pilot_of_which_no_job_ran_tells_its_states_only() -> None:
    cancelled = job(0, 0, 0.0).model_copy(update={"state": JobState.CANCELLED, "started_ms": None})
    assert list(pilot_lines(pilot([cancelled], left=8))) == ["pilot: 1 cancelled"]


def test_without_a_terminal_the_rest_is_not_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(InputError, match="the other 1,200 jobs were not submitted; to continue: do this"):
        ask(1200, "do this")


def test_at_a_terminal_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    ask(12, "do this")
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(typer.Exit) as ended:
        ask(12, "do this")
    assert ended.value.exit_code == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert "Submit the other 12 jobs?" in err
    assert err.endswith("to continue later: do this\n")
