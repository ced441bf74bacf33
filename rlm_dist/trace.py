"""The trace of a job: its events as they are stored, read back, and shown as text.

Each stored payload is one event as a JSON object with its time, ``at_ms``, in ASCII, for a text may hold lone
surrogates; a long one is packed into the blob store by ``texts``. Events of 0.1.0 have no time of their own:
theirs is that of their stream id, given by Redis.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from rlm_dist.errors import BlobError
from rlm_dist.events import (
    EVENT,
    CellRan,
    Event,
    JobEnded,
    JobStarted,
    Marked,
    MessageAdded,
    RootReplied,
    SubCallsAnswered,
)
from rlm_dist.models import ContextInfo, ModelCosts, Usage

_TEXTS = ("text", "code", "output", "error", "answer")  # the fields that can be large, in whatever event
_AT = "at_ms"
_HEAD_CHARS = 4000
_SEEN_MESSAGE_CHARS = 500  # a later user message mostly repeats the output above it


class EventLog(Protocol):
    """Where the payloads of a job's events are kept, in order."""

    def append_events(self, job_id: str, payloads: Sequence[str]) -> None:
        """Add payloads at the end."""

    def read_events(
        self, job_id: str, after: str = "0", block_ms: int | None = None
    ) -> list[tuple[str, str]]:
        """The (stream id, payload) pairs after a stream id."""


class Packer(Protocol):
    """Puts long texts of a job into the blob store."""

    def pack(self, job_id: str, text: str) -> str:
        """What to store for a text."""

    def unpack(self, packed: str) -> str:
        """The text that was packed."""


class Traced(NamedTuple):
    """An event with its stream id and the time (Unix, milliseconds) at which it happened."""

    id: str
    at_ms: int
    event: Event


class TraceSink:
    """An ``Emit`` that keeps the events of one job until ``flush``; safe to call from several threads.

    ``now_ms`` tells the time that events are given, Unix milliseconds of the Redis server.
    """

    def __init__(self, store: EventLog, job_id: str, texts: Packer, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._job_id = job_id
        self._texts = texts
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._flushing = threading.Lock()  # what was kept first is stored first
        self._kept: list[str] = []

    def __call__(self, event: Event) -> None:
        fields = {**event.model_dump(), _AT: self._now_ms()}
        try:
            payload = self._texts.pack(self._job_id, json.dumps(fields))
        except BlobError as error:  # a trace must not fail the job that it tells of
            payload = json.dumps(_heads(fields, error.detail))
        with self._lock:
            self._kept.append(payload)

    def flush(self) -> None:
        """Store what is kept, in order; where that fails it is kept for the next time."""
        with self._flushing:
            with self._lock:
                kept, self._kept = self._kept, []
            try:
                self._store.append_events(self._job_id, kept)
            except BaseException:
                with self._lock:
                    self._kept = kept + self._kept
                raise


def read_trace(store: EventLog, job_id: str, texts: Packer, *, after: str = "0") -> Iterator[Traced]:
    """The events that a job has stored up to now, in order, from after a stream id.

    In place of an event that is gone from the blob store there is a mark which says so.
    """
    turn = 0
    for stream_id, payload in store.read_events(job_id, after):
        at_ms = int(stream_id.partition("-")[0])
        try:
            fields = json.loads(texts.unpack(payload))
            at_ms = fields.pop(_AT, at_ms)
            event = EVENT.validate_python(fields)
        except BlobError as error:
            event = Marked(turn=turn, kind="event_lost", detail=error.detail)
        turn = getattr(event, "turn", turn)
        yield Traced(stream_id, at_ms, event)


def _heads(fields: dict[str, Any], why: str) -> dict[str, Any]:
    """The fields of an event with no more than the head of each text."""
    short = dict(fields)
    for name in _TEXTS:
        text = short.get(name)
        if isinstance(text, str) and len(text) > _HEAD_CHARS:
            short[name] = f"{text[:_HEAD_CHARS]}\n[the rest could not be stored: {why}]"
    return short


def trace_lines(trace: Iterable[Traced]) -> Iterator[str]:
    """A trace as lines of plain text, turn by turn, with the seconds since its first event."""
    start_ms: int | None = None
    turn: int | None = None
    for traced in trace:
        event = traced.event
        start_ms = traced.at_ms if start_ms is None else start_ms
        event_turn = getattr(event, "turn", None)
        if event_turn is not None and event_turn != turn:
            turn = event_turn
            yield ""
            yield f"── turn {turn}  (+{(traced.at_ms - start_ms) / 1000:.1f} s)"
        yield from event_lines(event)


def event_lines(event: Event) -> Iterator[str]:
    """One event as lines of plain text."""
    match event:
        case JobStarted():
            yield from _started(event)
        case MessageAdded():
            yield from _message(event)
        case RootReplied():
            yield f"  reply of {event.model}: {tokens(event.usage)}, {event.seconds:.1f} s" + _suffix(
                f"finish reason {event.finish_reason}" if event.finish_reason != "stop" else "",
                "from the journal" if event.replayed else "",
            )
        case CellRan():
            yield from _cell(event)
        case SubCallsAnswered():
            yield f"  {calls(event.calls)} answered in {event.seconds:.1f} s" + _suffix(
                f"{event.failed} failed" if event.failed else "",
                f"{event.from_store} were answered before" if event.from_store else "",
            )
        case Marked():
            yield f"  ! {event.kind}" + (f": {event.detail}" if event.detail else "")
        case JobEnded():
            yield from _ended(event)


def cost_lines(costs: Sequence[ModelCosts]) -> Iterator[str]:
    """What each model was used for, one line each; an unknown price is said to be unknown."""
    for line in costs:
        money = "price unknown" if line.cost is None else f"${line.cost:.6f}"
        yield (
            f"  {line.role} {line.model}: {calls(line.calls, 'call')}, {line.input_tokens:,} tokens in "
            f"({line.cached_tokens:,} cached), {line.output_tokens:,} out, {money}"
        )


def calls(count: int, noun: str = "sub-call") -> str:
    """A count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def tokens(usage: Usage) -> str:
    """Tokens in few words, with a mark where they are our own estimate."""
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    about = "about " if usage.estimated else ""
    return f"{about}{usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out"


def context_text(info: ContextInfo) -> str:
    """What a context is, in few words."""
    if info.kind == "str":
        return f"text of {info.chars:,} characters"
    noun = {"list": "list", "dict": "dict", "json": "JSON value"}[info.kind]
    items = "" if info.kind == "json" else f" of {info.items:,} items,"
    return f"{noun}{items} {info.chars:,} characters"


def _started(event: JobStarted) -> Iterator[str]:
    again = f", taken up for the {event.epoch}. time" if event.epoch > 1 else ""
    yield f"job {event.job_id} on {event.worker}{again}"
    yield f"  model {event.model}, sub model {event.sub_model}, prompts {event.prompts}"
    yield f"  sandbox: {event.isolation}; context: {context_text(event.context)}"


def _message(event: MessageAdded) -> Iterator[str]:
    text = event.text
    if event.role == "user" and event.turn > 0 and len(text) > _SEEN_MESSAGE_CHARS:
        text = f"{text[:_SEEN_MESSAGE_CHARS]} [… {len(text) - _SEEN_MESSAGE_CHARS:,} more characters]"
    yield f"  {event.role}: ({len(event.text):,} characters)"
    yield from _indented(text)


def _cell(event: CellRan) -> Iterator[str]:
    yield f"  code block {event.block}: {event.seconds:.1f} s" + _suffix(
        calls(event.calls) if event.calls else "",
        f"{event.failed_calls} failed" if event.failed_calls else "",
        "run again for the journal" if event.replayed else "",
        "the REPL was restarted" if event.state_lost else "",
    )
    yield from _indented(event.code, "    > ")
    yield from _indented(event.output)
    if event.error:
        yield from _indented(event.error, "    ! ")


def _ended(event: JobEnded) -> Iterator[str]:
    yield ""
    yield f"{event.state} after {calls(event.iterations, 'turn')}"
    if event.error:
        yield f"  {event.error.type}: {event.error.message}"
    if event.answer is not None:
        yield from _indented(event.answer, "  ")


def _suffix(*parts: str) -> str:
    return "".join(f", {part}" for part in parts if part)


def _indented(text: str, prefix: str = "    ") -> Iterator[str]:
    for line in text.splitlines():
        yield prefix + line
