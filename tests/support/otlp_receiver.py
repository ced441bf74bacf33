"""A real OTLP receiver, that of the package oteltest, which decodes protobuf over HTTP; on loopback only."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer
from typing import Any, NamedTuple

import oteltest.sink
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from oteltest.sink.handler import AccumulatingHandler

from tests.support.waiting import wait_until


class _LoopbackServer(HTTPServer):
    """Listens on a free port of 127.0.0.1, where the package would listen on every interface."""

    def __init__(self, _: object, handler: Any) -> None:
        super().__init__(("127.0.0.1", 0), self._silent(handler))

    @staticmethod
    def _silent(handler: Any) -> Any:
        return type("Handler", (handler,), {"log_message": lambda *_: None})


class Received(NamedTuple):
    """A span as it came in."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    seconds: float
    error: bool
    links: int
    attributes: dict[str, Any]


class OtlpReceiver:
    """The receiver, and the spans that it got."""

    def __init__(self, sink: Any, handler: Any) -> None:
        self._sink = sink
        self._handler = handler

    @property
    def variables(self) -> dict[str, str]:
        """What to set so that spans are sent here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._sink.httpd.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    @property
    def requests(self) -> list[Any]:
        """The requests, each with its decoded body ``pbreq`` and its ``headers``."""
        return list(self._handler.telemetry.get_trace_requests())

    @property
    def resources(self) -> list[dict[str, Any]]:
        """What each request says about its sender."""
        return [
            _values(resource.resource.attributes)
            for request in self.requests
            for resource in request.pbreq.resource_spans
        ]

    @property
    def spans(self) -> list[Received]:
        """All spans so far."""
        return [
            _received(span)
            for request in self.requests
            for resource in request.pbreq.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def text(self) -> str:
        """Everything that came in, as text."""
        return "".join(str(request.pbreq) for request in self.requests)


def _received(span: Span) -> Received:
    return Received(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        error=span.status.code == 2,
        links=len(span.links),
        attributes=_values(span.attributes),
    )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return (
        [_value(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)
    )


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """Run the receiver."""
    handler = AccumulatingHandler()
    sink = oteltest.sink.HttpSink(handler, logging.getLogger("otlp-receiver"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(oteltest.sink, "HTTPServer", _LoopbackServer)
        sink.start()
        wait_until(lambda: sink.httpd is not None)
    try:
        yield OtlpReceiver(sink, handler)
    finally:
        sink.stop()
