"""What a worker counts: of calls, jobs and REPLs, under a bounded number of labels."""

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from rlm_dist.errors import FailureKind
from rlm_dist.llm.endpoints import Endpoint
from rlm_dist.llm.prices import Prices
from rlm_dist.schema import (
    CallFailure,
    CallRequest,
    CallResult,
    Charge,
    Completion,
    JobState,
    Message,
    Outcome,
    Role,
    Usage,
)
from rlm_dist.schema.events import RootReplied, SubCallsAnswered
from rlm_dist.worker.accounts import Accounts
from rlm_dist.worker.metrics import BY_NAME, WorkerMetrics
from rlm_dist.worker.model_names import MOST_NAMES, OTHER, ModelNames

USAGE = Usage(input_tokens=100, cached_tokens=40, output_tokens=7)
PROMPT = "xylophone"


class Counted:
    """Metrics, and the accounts that tell them of calls; a million tokens of ``mine`` cost 1 USD."""

    def __init__(self, folder: Path) -> None:
        prices = folder / "prices.json"
        prices.write_text(json.dumps({"mine": {"input": 1, "output": 1}}))
        self.registry = CollectorRegistry()
        self.metrics = WorkerMetrics(self.registry, ModelNames())
        self._accounts = Accounts(
            prices=Prices(prices),
            endpoints=dict.fromkeys(Role, (Endpoint("http://127.0.0.1:1/v1"),)),
            resolve=lambda _, name: name,
            on_end=self.metrics.call_ended,
        )

    def call(self, result: CallResult, model: str = "mine") -> None:
        """End a sub-call."""
        request = CallRequest(role=Role.SUB, model=model, messages=(Message(role="user", content=PROMPT),))
        self._accounts.settlement("c", request, result, "")

    def value(self, sample: str, **labels: str) -> float:
        """A sample of the sub role, 0 if there is none."""
        return self.registry.get_sample_value(sample, {**labels}) or 0.0

    def text(self) -> str:
        """What a scrape returns."""
        return generate_latest(self.registry).decode()


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


def answered(model: str = "mine", usage: Usage = USAGE, **fields: object) -> CallResult:
    done = Completion(text="secret", usage=usage, finish_reason="stop", model=model)
    return CallResult(completion=done, seconds=3.0, waited_s=1.5).model_copy(update=fields)


def test_an_answered_call_counts_by_role_model_and_tier(counted: Counted) -> None:
    counted.call(answered())
    by_model = {"role": "sub", "model": "mine"}
    assert counted.value("rlm_calls_total", **by_model, outcome="ok") == 1
    assert counted.value("rlm_call_seconds_sum", **by_model) == 3.0
    assert counted.value("rlm_call_wait_seconds_sum", **by_model) == 1.5
    assert counted.value("rlm_prompt_tokens_bucket", **by_model, le="64.0") == 0
    assert counted.value("rlm_prompt_tokens_bucket", **by_model, le="256.0") == 1
    assert counted.value("rlm_answer_tokens_sum", **by_model) == 7
    tokens = {
        kind: counted.value("rlm_tokens_total", **by_model, tier="default", kind=kind)
        for kind in ("input", "cached", "output")
    }
    assert tokens == {"input": 60, "cached": 40, "output": 7}
    assert counted.value("rlm_cost_usd_total", **by_model, tier="default") == pytest.approx(107e-6)


def test_failed_attempts_count_as_retries_and_as_429s(counted: Counted) -> None:
    failures = (FailureKind.RATE, FailureKind.RATE, FailureKind.TIMEOUT)
    counted.call(answered(attempts=4, failed_attempts=failures))
    failure = CallFailure(kind=FailureKind.TRANSIENT, message="gone")
    failed = CallResult(failure=failure, attempts=2, failed_attempts=(FailureKind.TRANSIENT,) * 2)
    counted.call(failed)
    retries = {
        kind: counted.value("rlm_call_retries_total", role="sub", kind=kind)
        for kind in ("rate", "timeout", "transient")
    }
    assert retries == {"rate": 2, "timeout": 1, "transient": 1}  # nothing followed its last attempt
    assert counted.value("rlm_rate_limited_total", role="sub", model="mine") == 2
    assert counted.value("rlm_calls_total", role="sub", model="mine", outcome="transient") == 1
    assert counted.value("rlm_call_seconds_count", role="sub", model="mine") == 2
    assert counted.value("rlm_answer_tokens_count", role="sub", model="mine") == 1


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (CallResult(failure=CallFailure(kind=FailureKind.RETURNED, message="stops"), attempts=0), "returned"),
        (CallResult(failure=CallFailure(kind=FailureKind.AUTH, message="no key")), "returned"),
        (CallResult(failure=CallFailure(kind=FailureKind.CANCELLED, message="over")), "cancelled"),
        (CallResult(failure=CallFailure(kind="of another version", message="?")), "other"),
        (answered(cached=True, attempts=0), "cached"),
    ],
)
def test_each_end_of_a_call_has_an_outcome(counted: Counted, result: CallResult, outcome: str) -> None:
    counted.call(result)
    assert counted.value("rlm_calls_total", role="sub", model="mine", outcome=outcome) == 1
    assert counted.value("rlm_calls_total", role="sub", model="mine", outcome="ok") == 0


def test_an_answer_of_another_job_is_a_hit_and_costs_nothing(counted: Counted) -> None:
    counted.call(answered(cached=True, attempts=0))
    assert counted.value("rlm_cache_hits_total", role="sub", source="cache") == 1
    assert counted.value("rlm_call_seconds_count", role="sub", model="mine") == 0
    assert counted.value("rlm_tokens_total", role="sub", model="mine", tier="default", kind="input") == 0


def test_paid_attempts_in_vain_and_unknown_prices_count(counted: Counted) -> None:
    wasted = Charge(model="mine", usage=Usage(output_tokens=1_000_000))
    counted.call(answered(model="nobody knows", wasted=(wasted,)), "nobody knows")
    assert counted.value("rlm_cost_usd_total", role="sub", model="mine", tier="default") == 1.0
    assert counted.value("rlm_unpriced_calls_total", role="sub", model="nobody knows") == 1


def test_a_hostile_endpoint_makes_no_more_than_32_models_and_four_tiers(counted: Counted) -> None:
    for n in range(500):
        usage = USAGE.model_copy(update={"tier": f"tier{n}", "billed_nanousd": 1})
        counted.call(answered(model=f"model\n{n}\x1b[31m\u202e{'x' * 10_000}", usage=usage))
    text = counted.text()
    models = {line.split('model="')[1].split('"')[0] for line in text.splitlines() if 'model="' in line}
    assert len(models) == MOST_NAMES + 1
    assert OTHER in models
    assert all(model.isprintable() and len(model) < 1000 for model in models)
    assert counted.value("rlm_tokens_total", role="sub", model=OTHER, tier="other", kind="output") > 0
    assert "tier1" not in text


def test_no_text_of_a_prompt_or_answer_is_a_label(counted: Counted) -> None:
    counted.call(answered())
    counted.call(CallResult(failure=CallFailure(kind=FailureKind.INVALID, message=PROMPT)))
    assert PROMPT not in counted.text()
    assert "secret" not in counted.text()


def test_jobs_turns_and_limits(counted: Counted) -> None:
    metrics = counted.metrics
    for recovered in (False, True):
        metrics.job_started(recovered=recovered)
    for replayed in (False, True):
        metrics.event(
            RootReplied(turn=1, model="m", usage=USAGE, finish_reason="stop", seconds=1, replayed=replayed)
        )
    metrics.event(SubCallsAnswered(first_call_id="c", calls=5, failed=0, from_store=3, seconds=1))
    metrics.repl_lost("memory")
    limits = ("max_usd", "of another version")
    metrics.job_ended(Outcome(state=JobState.EXHAUSTED, limits_reached=limits))
    for duplicates in (2, 0):
        metrics.run_ended(lambda duplicates=duplicates: duplicates)  # type: ignore[misc]
    assert counted.value("rlm_jobs_started_total") == 2
    assert counted.value("rlm_job_recoveries_total") == 1
    assert counted.value("rlm_turns_total") == 1
    assert counted.value("rlm_cache_hits_total", role="sub", source="job") == 3
    assert counted.value("rlm_repl_kills_total", reason="memory") == 1
    assert counted.value("rlm_jobs_ended_total", state="exhausted") == 1
    assert counted.value("rlm_budget_stops_total", kind="max_usd") == 1
    assert counted.value("rlm_budget_stops_total", kind="other") == 1
    assert counted.value("rlm_duplicate_paid_calls_total") == 2


def test_what_an_alert_takes_the_rate_of_begins_at_zero(counted: Counted) -> None:
    assert counted.registry.get_sample_value("rlm_jobs_ended_total", {"state": "failed"}) == 0
    assert counted.registry.get_sample_value("rlm_budget_stops_total", {"kind": "batch_max_usd"}) == 0


def test_every_metric_is_in_a_scrape_before_anything_was_counted(counted: Counted) -> None:
    found = {metric.name for metric in counted.registry.collect()}
    assert found == {name.removesuffix("_total") for name in BY_NAME}
