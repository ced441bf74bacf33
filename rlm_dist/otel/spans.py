"""What the processes of this package record of a job, and where it goes: nowhere without OpenTelemetry.

Nothing of a trace is stored. A job's trace id, and the ids of the spans that have children (the job, its
turns and its cells), are hashes of the job's id. So each process knows them without asking, a worker that
takes a job over goes on with the same trace, and stored jobs and call ids stay as they are. Only the cell
that asked for a sub-call is sent along, as a W3C ``traceparent`` in the header ``HEADER`` of the message.

A span is recorded when what it stands for has ended.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

HEADER = "rlm_traceparent"
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


def _hash(size: int, *parts: str) -> int:
    content = "\n".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=size).digest()) or 1  # 0 is no id
