"""What the processes of this package record of a job, and where it goes: nowhere without OpenTelemetry.

Nothing of a trace is stored. A job's trace id, and the ids of the spans that have children (the job, its
turns and its cells), are hashes of the job's id. So each process knows them without asking, a worker that
takes a job over goes on with the same trace, and stored jobs and call ids stay as they are. Only the cell
that asked for a sub-call is sent along, as a W3C ``traceparent`` in the header ``HEADER`` of the message.

A span is recorded when what it stands for has ended.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

HEADER = "rlm_traceparent"
EXTRA = "pip install 'rlm-dist[otel]'"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")
_TRACE_BYTES = 16
_SPAN_BYTES = 8

AttributeValue = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, AttributeValue]


@dataclass(frozen=True)
class FinishedSpan:
    """One step of a job; times are Unix nanoseconds.

    ``parent`` is a span's id, or None for the job itself. ``span_id`` is None for a span without children,
    which gets a random one. ``error`` is the kind of error that it ended with. ``links_caller`` links it to
    the span that the calling program is in.
    """

    job_id: str
    name: str
    began_ns: int
    ended_ns: int
    attributes: Attributes
    parent: int | None
    span_id: int | None = None
    kind: Literal["internal", "client", "producer", "consumer"] = "internal"
    error: str | None = None
    links_caller: bool = False


class Spans(Protocol):
    """Takes the spans of this process: none if not ``on``, and none with texts if not ``content``."""

    @property
    def on(self) -> bool: ...

    @property
    def content(self) -> bool: ...

    def record(self, span: FinishedSpan) -> None:
        """Send a span some time later; neither waits nor fails."""

    def close(self) -> None:
        """Send what is left, for a short time."""


class NoSpans:
    """Takes spans and does nothing."""

    on = False
    content = False

    def record(self, span: FinishedSpan) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


NO_SPANS: Spans = NoSpans()


def is_wanted() -> bool:
    """Whether OpenTelemetry's own variables ask for spans."""
    exporters = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    return (
        any(os.environ.get(name) for name in _ENDPOINTS)
        and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and "otlp" in [name.strip() for name in exporters.split(",")]
    )


def missing_extra() -> str | None:
    """What is missing to send the spans that are asked for; None if nothing is. Loads what is not."""
    if not is_wanted():
        return None
    try:
        import rlm_dist.otel.exporter  # noqa: F401, PLC0415  # an optional dependency
    except ImportError:
        return f"{_endpoint_variable()} is set, but OpenTelemetry is not installed: {EXTRA}"
    return None


def open_spans(*, content: bool, warn: Callable[[str], None]) -> Spans:
    """The spans of this process, opened after the fork. ``warn`` is told once what keeps them back."""
    if not is_wanted() or missing_extra():
        return NO_SPANS
    from rlm_dist.otel.exporter import OtlpSpans  # noqa: PLC0415  # an optional dependency

    try:
        return OtlpSpans(content=content, warn=warn)
    except Exception as error:  # noqa: BLE001  # a bad OTEL_ variable must not stop a worker
        warn(f"{_endpoint_variable()} or another variable of OpenTelemetry is bad: {type(error).__name__}")
        return NO_SPANS


def trace_id_of(job_id: str) -> int:
    """The id of a job's trace."""
    return _hash(_TRACE_BYTES, job_id)


def job_span(job_id: str) -> int:
    """The id of the span of a job, the root of its trace."""
    return _hash(_SPAN_BYTES, job_id, "job")


def turn_span(job_id: str, turn: int) -> int:
    """The id of the span of a turn."""
    return _hash(_SPAN_BYTES, job_id, "turn", str(turn))


def cell_span(job_id: str, turn: int, code: str) -> int:
    """The id of the span of a code block; that of a block which a reply has twice is the same."""
    return _hash(_SPAN_BYTES, job_id, "cell", str(turn), code)


def traceparent(job_id: str, span_id: int) -> str:
    """What names a span of a job in a message."""
    return f"00-{trace_id_of(job_id):032x}-{span_id:016x}-01"


def parent_of(job_id: str, header: object) -> int:
    """The span that a message names; the job's if it names none, or one of another trace."""
    match = _TRACEPARENT.fullmatch(header) if isinstance(header, str) else None
    named = match is not None and int(match[1], 16) == trace_id_of(job_id)
    return int(match[2], 16) if match and named else job_span(job_id)


def _endpoint_variable() -> str:
    return next(name for name in _ENDPOINTS if os.environ.get(name))


def _hash(size: int, *parts: str) -> int:
    content = "\n".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=size).digest()) or 1  # 0 is no id
