"""The trace of a job: its events as they are stored, read back, and shown as text.

Each stored payload is one event as a JSON object with its time, ``at_ms``, in ASCII, for a text may hold lone
surrogates; a long one is packed into the blob store by ``texts``. Events of 0.1.0 have no time of their own:
theirs is that of their stream id, given by Redis.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from rlm_dist.errors import BlobError
from rlm_dist.schema.events import (
    EVENT,
    Event,
    Marked,
)

_TEXTS = ("text", "code", "output", "error", "answer")  # the fields that can be large, in whatever event
_AT = "at_ms"
_HEAD_CHARS = 4000


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


class TracedEvent(NamedTuple):
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


def read_trace(store: EventLog, job_id: str, texts: Packer, *, after: str = "0") -> Iterator[TracedEvent]:
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
        yield TracedEvent(stream_id, at_ms, event)


def _heads(fields: dict[str, Any], why: str) -> dict[str, Any]:
    """The fields of an event with no more than the head of each text."""
    short = dict(fields)
    for name in _TEXTS:
        text = short.get(name)
        if isinstance(text, str) and len(text) > _HEAD_CHARS:
            short[name] = f"{text[:_HEAD_CHARS]}\n[the rest could not be stored: {why}]"
    return short
