"""Sends spans by OTLP over HTTP; needs the extra ``otel``, and is imported only if spans are asked for.

OpenTelemetry's own variables say where they go, with which headers, how many may wait and which are
sampled. A thread sends them in batches. If they do not arrive they are dropped, and that is logged once.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from rlm_dist.otel.spans import AttributeValue, FinishedSpan, trace_id_of

# They log each failed request and each dropped span. Other users of OpenTelemetry in this process keep that.
_LOGGERS = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")
# Unlike the SDK's own, for a worker that ends suddenly and for bursts of calls; its variables go first.
_DELAY = ("OTEL_BSP_SCHEDULE_DELAY", 1000)
_QUEUE = ("OTEL_BSP_MAX_QUEUE_SIZE", 8192)
_BATCH = ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
_BATCH_WITH_CONTENT = 64
_LAST_SPANS_S = 2.0
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class OtlpSpans:
    """Sends the spans of this process, made after the fork."""

    on = True

    def __init__(self, *, content: bool, warn: Callable[[str], None]) -> None:
        self.content = content
        self._warnings = _Warnings(warn)
        self._ids = _GivenIds()
        # What happens at the end of the process is ours to bound.
        self._provider = TracerProvider(resource=_resource(), id_generator=self._ids, shutdown_on_exit=False)
        size, default = _BATCH
        self._provider.add_span_processor(
            BatchSpanProcessor(
                _QuietExporter(OTLPSpanExporter(), self._warnings),
                schedule_delay_millis=_unless_set(*_DELAY),
                max_queue_size=_unless_set(*_QUEUE),
                max_export_batch_size=_unless_set(size, _BATCH_WITH_CONTENT if content else default),
            )
        )
        self._tracer = self._provider.get_tracer("rlm_dist")

    def record(self, span: FinishedSpan) -> None:
        """Put a span on the queue; it is dropped if the sampler says so, or if the queue is full."""
        try:
            with self._warnings.instead_of_logs():
                self._record(span)
        except Exception as error:  # noqa: BLE001  # a span must not fail what it stands for
            self._warnings.once(f"a span cannot be recorded: {type(error).__name__}")

    def close(self) -> None:
        """Send what is left for up to 2 s."""
        closing = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        closing.start()
        closing.join(_LAST_SPANS_S)

    def _record(self, span: FinishedSpan) -> None:
        trace_id = trace_id_of(span.job_id)
        # As if each were the first one: by the trace's id, all processes decide alike.
        sampled = self._provider.sampler.should_sample(Context(), trace_id, span.name)
        if sampled.decision is not Decision.RECORD_AND_SAMPLE:
            return
        with self._ids.given(trace_id, span.span_id):
            recorded = self._tracer.start_span(
                _text(span.name),
                context=_context(trace_id, span.parent),
                kind=_KINDS[span.kind],
                attributes={name: _encodable(value) for name, value in span.attributes.items()},
                links=_caller() if span.links_caller else (),
                start_time=span.began_ns,
            )
        if span.error is not None:
            recorded.set_status(Status(StatusCode.ERROR, span.error))
        recorded.end(max(span.began_ns, span.ended_ns))


class _GivenIds(IdGenerator):
    """The ids that the thread was given, or else random ones."""

    def __init__(self) -> None:
        self._given = threading.local()
        self._random = RandomIdGenerator()

    @contextmanager
    def given(self, trace_id: int, span_id: int | None) -> Iterator[None]:
        """Give these ids to the next span of this thread."""
        self._given.ids = trace_id, span_id
        try:
            yield
        finally:
            del self._given.ids

    def generate_trace_id(self) -> int:
        """The id of the job's trace."""
        return int(self._given.ids[0])

    def generate_span_id(self) -> int:
        """The id that was given, or else a random one."""
        return self._given.ids[1] or self._random.generate_span_id()


class _Warnings:
    """Passes on the first warning, and keeps what OpenTelemetry says about our spans out of the log."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._lock = threading.Lock()
        self._has_warned = False

    def once(self, text: str) -> None:
        """Warn, unless that has happened before."""
        with self._lock:
            first, self._has_warned = not self._has_warned, True
        if first:
            self._warn(text)

    @contextmanager
    def instead_of_logs(self) -> Iterator[None]:
        """Keep what OpenTelemetry logs meanwhile in this thread out of the log."""
        _here.warnings = self
        try:
            yield
        finally:
            _here.warnings = None


_here = threading.local()  # ``warnings`` are those of the spans that this thread is busy with


def _is_of_others(record: logging.LogRecord) -> bool:
    warnings: _Warnings | None = getattr(_here, "warnings", None)
    if warnings is not None and str(record.msg).startswith("Queue full"):
        warnings.once("spans are dropped: more are waiting than OTEL_BSP_MAX_QUEUE_SIZE")
    return warnings is None


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_is_of_others)


class _QuietExporter(SpanExporter):
    """An exporter whose failures are one warning, without the collector's address, headers and answer."""

    def __init__(self, exporter: SpanExporter, warnings: _Warnings) -> None:
        self._exporter = exporter
        self._warnings = warnings

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        try:
            with self._warnings.instead_of_logs():
                result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001  # the same as a collector that refuses
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._warnings.once("spans are dropped: the collector cannot be reached, or refuses them")
        return result

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()


def _resource() -> Resource:
    given = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return Resource.create({} if given else {"service.name": "rlm-dist"})


def _unless_set(variable: str, default: int) -> int | None:
    """The default, or None if the SDK is to read the variable."""
    return None if os.environ.get(variable) else default


def _text(text: str) -> str:
    """The text, without lone surrogates, which would fail its whole batch."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _encodable(value: AttributeValue) -> AttributeValue:
    if isinstance(value, str):
        return _text(value)
    return [_text(item) for item in value] if isinstance(value, Sequence) else value


def _context(trace_id: int, parent: int | None) -> Context:
    if parent is None:
        return Context()
    context = SpanContext(trace_id, parent, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


def _caller() -> Sequence[Link]:
    context = trace.get_current_span().get_span_context()
    return [Link(context)] if context.is_valid else []
