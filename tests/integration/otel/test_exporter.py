"""Spans on their way to a real receiver, or to none."""

import logging
import socket
import threading
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from rlm_dist.otel.spans import FinishedSpan, Spans, job_span, trace_id_of, turn_span
from rlm_dist.otel.start import open_spans
from tests.support.otlp_receiver import OtlpReceiver, otlp_receiver

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with otlp_receiver() as running:
        for name, value in running.variables.items():
            monkeypatch.setenv(name, value)
        yield running


def finished(job_id: str = "j1", **fields: object) -> FinishedSpan:
    usual = {
        "job_id": job_id, "name": "turn", "began_ns": 1_000_000_000, "ended_ns": 3_000_000_000,
        "attributes": {"rlm.turn": 0}, "parent": job_span(job_id), "span_id": turn_span(job_id, 0),
    }  # fmt: skip
    return FinishedSpan(**(usual | fields))  # type: ignore[arg-type]  # a test names the fields that matter


def sent(*spans: FinishedSpan) -> None:
    """Send these spans, from a process that then ends."""
    opened = open_spans(content=False, warn=pytest.fail)
    for span in spans:
        opened.record(span)
    opened.close()


def test_a_span_arrives_with_its_ids_and_times(receiver: OtlpReceiver) -> None:
    sent(finished(kind="client", error="rate"), finished(span_id=None, parent=None))
    with_parent, root = receiver.spans
    assert (with_parent.id, with_parent.parent) == (f"{turn_span('j1', 0):016x}", f"{job_span('j1'):016x}")
    assert with_parent.trace == root.trace == f"{trace_id_of('j1'):032x}"
    assert (with_parent.seconds, with_parent.error, root.error) == (2.0, True, False)
    assert with_parent.attributes == {"rlm.turn": 0}
    assert root.parent == ""
    assert root.id not in ("", with_parent.id)


def test_a_submission_is_linked_to_what_the_calling_program_does(receiver: OtlpReceiver) -> None:
    callers = SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(1))
    with trace.use_span(NonRecordingSpan(callers)):
        sent(finished(links_caller=True), finished())
    linked, other = receiver.spans
    assert (linked.links, other.links) == (1, 0)
    assert linked.trace == f"{trace_id_of('j1'):032x}"


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
def test_a_sampler_takes_whole_traces_or_leaves_them(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    jobs = [f"j{number}" for number in range(100)]
    sent(
        *(finished(job) for job in jobs), *(finished(job, parent=None, span_id=job_span(job)) for job in jobs)
    )
    traces = [span.trace for span in receiver.spans]
    assert 20 < len(set(traces)) < 80
    assert len(traces) == 2 * len(set(traces))


def test_text_that_utf_8_cannot_encode_does_not_lose_its_batch(receiver: OtlpReceiver) -> None:
    sent(finished(name="chat \ud800", attributes={"a": "\ud800", "b": ["\ud800"]}), finished())
    assert len(receiver.spans) == 2


def test_a_user_may_name_the_service(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    sent(finished())
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    sent(finished())
    assert [resource["service.name"] for resource in receiver.resources] == ["rlm-dist", "mine"]


@pytest.fixture
def silent_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a collector that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        monkeypatch.setenv(ENDPOINT, f"http://user:pass-word@127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=top-secret")
        yield listener.getsockname()[1]


def opened(said: list[str], came: threading.Event | None = None) -> Spans:
    def warn(text: str) -> None:
        said.append(text)
        if came is not None:
            came.set()

    return open_spans(content=False, warn=warn)


def test_a_collector_that_is_away_is_said_once_and_without_its_headers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv(ENDPOINT, f"http://user:pass-word@127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=top-secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    said: list[str] = []
    came = threading.Event()
    spans = opened(said, came)
    with caplog.at_level(logging.DEBUG):
        spans.record(finished())
        assert came.wait(60)
        spans.record(finished())
        spans.close()
    assert said == ["spans are dropped: the collector cannot be reached, or refuses them"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "top-secret" not in caplog.text
    assert "pass-word" not in caplog.text


@pytest.mark.usefixtures("silent_address")
def test_a_collector_that_hangs_holds_up_no_call_and_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """More spans than the queue holds are recorded while nothing is sent; the end is bounded, too."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "600")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    said: list[str] = []
    spans = opened(said)

    def record() -> None:
        for _ in range(2000):
            spans.record(finished())

    recording = threading.Thread(target=record, daemon=True)
    recording.start()
    recording.join(60)  # far less than the time-out of one request
    assert not recording.is_alive()
    assert said == ["spans are dropped: more are waiting than OTEL_BSP_MAX_QUEUE_SIZE"]
    closing = threading.Thread(target=spans.close, daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()


def test_others_who_use_opentelemetry_in_this_process_keep_their_log(
    receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    sent(finished())
    assert receiver.spans
    logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").warning("theirs")
    assert caplog.messages[-1] == "theirs"
