"""Ids of traces and spans, and when spans are wanted at all."""

import subprocess
import sys

import pytest

from rlm_dist.otel.spans import (
    NO_SPANS,
    cell_span,
    job_span,
    parent_of,
    trace_id_of,
    traceparent,
    turn_span,
)
from rlm_dist.otel.start import is_wanted, missing_extra, open_spans
from tests.support.environment import clean_environment

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


def test_ids_follow_from_the_job_and_never_change() -> None:
    """A worker of a later version goes on with the trace that an earlier one began."""
    assert f"{trace_id_of('j1'):032x}" == "d86f9ea84d8d84daedc5756b51dd8818"
    assert f"{job_span('j1'):016x}" == "8b96c1c11a5bb135"
    assert f"{turn_span('j1', 0):016x}" == "a1f775720165b9c5"
    assert f"{cell_span('j1', 0, 'print(1)'):016x}" == "2d9b6ba5f2f4d5e9"


def test_different_steps_have_different_ids() -> None:
    ids = {
        job_span("j1"), job_span("j2"), turn_span("j1", 0), turn_span("j1", 1), turn_span("j2", 0),
        cell_span("j1", 0, "a"), cell_span("j1", 1, "a"), cell_span("j1", 0, "b"),
        cell_span("j1", 0, "\ud800"),
    }  # fmt: skip
    assert len(ids) == 9
    assert trace_id_of("j1") != trace_id_of("j2")


def test_a_header_names_a_span_of_the_job() -> None:
    cell = cell_span("j1", 2, "x")
    assert parent_of("j1", traceparent("j1", cell)) == cell


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        7,
        "00-x-y-01",
        traceparent("j2", 5),
        traceparent("j1", 5).upper() + " ",
        traceparent("j1", 5)[:-1],
    ],
)
def test_a_header_that_names_none_of_them_stands_for_the_job(header: object) -> None:
    assert parent_of("j1", header) == job_span("j1")


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, True),
        ({ENDPOINT: "http://x", "OTEL_SDK_DISABLED": "true"}, False),
        ({ENDPOINT: "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({ENDPOINT: "http://x", "OTEL_TRACES_EXPORTER": "console, otlp"}, True),
    ],
)
def test_opentelemetrys_own_variables_say_whether_spans_are_wanted(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_wanted() is wanted


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rlm_dist.otel.exporter", None)
    assert missing_extra() is None
    monkeypatch.setenv(ENDPOINT, "http://x")
    message = missing_extra()
    assert message is not None
    assert ENDPOINT in message
    assert "pip install 'rlm-dist[otel]'" in message
    assert open_spans(content=False, warn=pytest.fail) is NO_SPANS  # said once, not by each process


def test_a_bad_variable_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://x")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    said: list[str] = []
    assert open_spans(content=False, warn=said.append) is NO_SPANS
    assert len(said) == 1


def test_while_nobody_wants_spans_what_sends_them_is_not_loaded() -> None:
    """redis-py loads other parts of OpenTelemetry wherever it is installed."""
    code = (
        "import sys, rlm_dist.client.client, rlm_dist.root_worker.worker, rlm_dist.sub_worker.worker;"
        "from rlm_dist.otel.start import open_spans; assert not open_spans(content=True, warn=print).on;"
        "parts = 'opentelemetry.exporter', 'opentelemetry.sdk.trace';"
        "print([name for name in sys.modules if name.startswith(parts)])"
    )
    environment = {k: v for k, v in clean_environment().items() if not k.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
