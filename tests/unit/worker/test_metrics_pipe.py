"""What a process writes to the pipe of its parent is counted there as if it had happened there."""

import os

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from rlm_dist.errors import FailureKind
from rlm_dist.schema import (
    CallFailure,
    CallRequest,
    CallResult,
    Completion,
    JobState,
    Message,
    Outcome,
    Role,
    Usage,
)
from rlm_dist.schema.events import RootReplied, SubCallsAnswered
from rlm_dist.store import Settlement, Spend
from rlm_dist.worker.metrics import Unmeasured, WorkerMetrics
from rlm_dist.worker.metrics_pipe import MetricsPipe, PipedMetrics
from rlm_dist.worker.model_names import ModelNames

SECRET = "xylophone"
USAGE = Usage(input_tokens=100, cached_tokens=40, output_tokens=7, tier="flex")
MODEL = "m\n\ud800"
REQUEST = CallRequest(role=Role.ROOT, model="auto", messages=(Message(role="user", content=SECRET),))
ANSWERED = CallResult(
    completion=Completion(text=SECRET, usage=USAGE, finish_reason="stop", model=MODEL),
    attempts=3, failed_attempts=(FailureKind.RATE,) * 2, seconds=3.0, waited_s=1.5,
)  # fmt: skip
FAILED = CallResult(failure=CallFailure(kind=FailureKind.AUTH, message=SECRET))


def measure(metrics: Unmeasured) -> None:
    """Let each thing happen that is counted."""
    spend = Spend(MODEL, USAGE, 12)
    paid = Settlement("c", Role.ROOT, SECRET, spend, wasted=(spend,), retries=2, rate_limited=2)
    metrics.call_ended(REQUEST, ANSWERED, paid, "auto")
    metrics.call_ended(REQUEST, ANSWERED, Settlement("c", Role.ROOT, SECRET, None, cached=True), "auto")
    metrics.call_ended(REQUEST, FAILED, Settlement("c", Role.ROOT, SECRET, None, returned=SECRET), "auto")
    metrics.call_ended(REQUEST, FAILED, Settlement("c", Role.ROOT, SECRET, None), "auto")
    metrics.event(RootReplied(turn=1, model="m", usage=USAGE, finish_reason="stop", seconds=1))
    metrics.event(
        SubCallsAnswered(first_call_id="c", calls=5, failed=0, from_store=3, seconds=1, call_ids=SECRET)
    )
    metrics.repl_lost("memory")
    metrics.job_started(recovered=True)
    metrics.job_started(recovered=False)
    metrics.job_ended(Outcome(state=JobState.EXHAUSTED, answer=SECRET, limits_reached=("max_usd",)))
    metrics.run_ended(lambda: 2)


def test_all_is_counted_as_if_it_had_happened_here() -> None:
    here, there = CollectorRegistry(), CollectorRegistry()
    measure(WorkerMetrics(here, ModelNames()))
    with MetricsPipe(WorkerMetrics(there, ModelNames())) as pipe:
        child = PipedMetrics(os.dup(pipe.descriptor))
        pipe.follow()
        measure(child)
        child.close()
    assert generate_latest(there) == generate_latest(here)


def test_no_text_of_a_job_is_in_the_pipe() -> None:
    read_end, write_end = os.pipe()
    child = PipedMetrics(write_end)
    measure(child)
    child.close()
    with open(read_end, "rb") as lines:
        written = lines.read()
    assert written.count(b"\n") == 11
    assert SECRET.encode() not in written


@pytest.mark.parametrize("line", [b'{"job_started": tr', b"[]\n", b"\xff\n", b'{"other": 1}\n'])
def test_a_line_that_cannot_be_read_is_left_out(line: bytes) -> None:
    registry = CollectorRegistry()
    with capture_logs() as logs, MetricsPipe(WorkerMetrics(registry, ModelNames())) as pipe:
        child = os.dup(pipe.descriptor)
        pipe.follow()
        os.write(child, b'{"job_started": true}\n' + line)
        os.close(child)
    assert registry.get_sample_value("rlm_jobs_started_total") == 1
    assert [entry["event"] for entry in logs] == ["measurement_not_read"]


def test_a_process_goes_on_when_its_parent_has_gone() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    child = PipedMetrics(write_end)
    measure(child)
    child.close()
    assert not os.path.exists(f"/proc/self/fd/{write_end}")


def test_a_child_that_could_not_be_started_leaves_nothing_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with MetricsPipe(Unmeasured()):
        pass
    assert set(os.listdir("/proc/self/fd")) == before
