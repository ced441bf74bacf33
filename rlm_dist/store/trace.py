"""The trace of a job: its events, stored and read back.

Each payload is one event as a JSON object with its time, ``at_ms``. It is in ASCII, as a text may hold lone
surrogates. A ``Packer`` puts a long payload into the blob store. Events of 0.1.0 have no ``at_ms``: their
time is that of their stream id, which Redis gave them.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from rlm_dist.errors import BlobError, LimitExceeded
from rlm_dist.schema.events import (
    EVENT,
    Event,
    Marked,
)

_TEXTS = ("text", "code", "output", "error", "answer")  # the fields that can be large, in any event
_AT = "at_ms"
_HEAD_CHARS = 4000
_NOT_STORED = "\n[the rest could not be stored: "


class EventLog(Protocol):
    """Where the payloads of a job's events are kept, in order."""

    def append_events(self, job_id: str, payloads: Sequence[str]) -> None:
        """Add payloads at the end."""

    def read_events(
        self, job_id: str, after: str = "0", block_ms: int | None = None
    ) -> list[tuple[str, str]]:
        """The (stream id, payload) pairs after a stream id."""


class Packer(Protocol):
    """Puts the long payloads of a job into the blob store."""

    def pack(self, job_id: str, text: str) -> str:
        """What to store in place of a text."""

    def unpack(self, packed: str) -> str:
        """The text that was packed."""


class TracedEvent(NamedTuple):
    """An event with its stream id and the time (Unix, milliseconds) at which it happened."""

    id: str
    at_ms: int
    event: Event


class TraceSink:
    """An ``Emit`` that buffers the events of one job until ``flush``; safe to call from several threads.

    ``now_ms`` returns the time to stamp an event with, in Unix milliseconds of the Redis server.
    """

    def __init__(self, store: EventLog, job_id: str, packer: Packer, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._job_id = job_id
        self._packer = packer
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._flush_lock = threading.Lock()  # payloads are stored in the order in which they were buffered
        self._buffer: list[str] = []

    def __call__(self, event: Event) -> None:
        payload = self._payload(event)
        with self._lock:
            self._buffer.append(payload)

    def flush(self) -> None:
        """Store the buffered events in order; if that fails, they stay for the next flush."""

        def store(payloads: Sequence[str]) -> bool:
            self._store.append_events(self._job_id, payloads)
            return True

        self.hand_over(store)

    def hand_over(self, store: Callable[[Sequence[str]], bool], last: Event | None = None) -> None:
        """Let ``store`` store the buffered events in order, and a ``last`` one.

        If it returns false or raises, those before the last one stay for the next flush.
        """
        with self._flush_lock:
            with self._lock:
                payloads, self._buffer = self._buffer, []
            is_stored = False
            try:
                is_stored = store(payloads if last is None else [*payloads, self._payload(last)])
            finally:
                if not is_stored:
                    with self._lock:
                        self._buffer = payloads + self._buffer

    def _payload(self, event: Event) -> str:
        fields = {**event.model_dump(), _AT: self._now_ms()}
        try:
            return self._packer.pack(self._job_id, json.dumps(fields))
        except (BlobError, LimitExceeded) as error:  # a trace must not fail its job
            return json.dumps(_heads(fields, error.detail if isinstance(error, BlobError) else str(error)))


def read_trace(store: EventLog, job_id: str, packer: Packer, *, after: str = "0") -> Iterator[TracedEvent]:
    """The events that a job has stored so far, in order, starting after a stream id.

    An event that is gone from the blob store is replaced by a mark that says so.
    """
    turn = 0
    for stream_id, payload in store.read_events(job_id, after):
        at_ms = int(stream_id.partition("-")[0])
        try:
            fields = json.loads(packer.unpack(payload))
            at_ms = fields.pop(_AT, at_ms)
            event = EVENT.validate_python(fields)
        except BlobError as error:
            event = Marked(turn=turn, kind="event_lost", detail=error.detail)
        turn = getattr(event, "turn", turn)
        yield TracedEvent(stream_id, at_ms, event)


def is_head(text: str) -> bool:
    """Whether this text of an event is only the head of what it was, as the rest could not be stored."""
    return text.startswith(_NOT_STORED, _HEAD_CHARS)


def _heads(fields: dict[str, Any], reason: str) -> dict[str, Any]:
    """The fields of an event, with only the head of each long text."""
    short = dict(fields)
    for name in _TEXTS:
        text = short.get(name)
        if isinstance(text, str) and len(text) > _HEAD_CHARS:
            short[name] = f"{text[:_HEAD_CHARS]}{_NOT_STORED}{reason}]"
    if len(short.get("call_ids", "")) > _HEAD_CHARS:
        short["call_ids"] = ""
    return short
