"""The jobs of a batch on their way into the store: their contexts are stored first, many at a time.

Invariant: of all the contexts that come along in the lines of a file, no more than a chunk is in memory,
which is bounded in jobs and in bytes (but for the line that crosses the bound).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rlm_dist.blobs.store import Blobs
from rlm_dist.client.batch_item import BatchItem
from rlm_dist.contexts.encoding import Encoded, reading_files, store_context
from rlm_dist.schema import ContextRef

_CHUNK_JOBS = 200
_CHUNK_BYTES = 16 * 1024 * 1024


class StoredJob(NamedTuple):
    """A job whose context is stored, and its place in the batch."""

    place: int
    item: BatchItem
    context: ContextRef


class _UnstoredJob(NamedTuple):
    place: int
    item: BatchItem
    encoded: Encoded | None  # None where the context lies in a file of its own


def upload_contexts(items: Iterable[tuple[int, BatchItem]], blobs: Blobs) -> Iterator[list[StoredJob]]:
    """Store the contexts of these jobs and yield them in chunks, in order."""

    store_file = reading_files(lambda encoded: store_context(encoded, blobs))
    for chunk in _chunks(items):
        _store([waiting.encoded for waiting in chunk if waiting.encoded is not None], blobs)
        yield [
            StoredJob(place, item, encoded.ref if encoded else store_file(str(item.context_file)))
            for place, item, encoded in chunk
        ]


def _chunks(items: Iterable[tuple[int, BatchItem]]) -> Iterator[list[_UnstoredJob]]:
    chunk: list[_UnstoredJob] = []
    size_bytes = 0
    for place, item in items:
        encoded = item.encode() if item.context_file is None else None
        chunk.append(_UnstoredJob(place, item, encoded))
        size_bytes += encoded.ref.size_bytes if encoded else 0
        if len(chunk) == _CHUNK_JOBS or size_bytes >= _CHUNK_BYTES:
            yield chunk
            chunk, size_bytes = [], 0
    if chunk:
        yield chunk


def _store(contexts: Sequence[Encoded], blobs: Blobs) -> None:
    missing = blobs.missing(context.ref.sha256 for context in contexts)
    for context in contexts:
        if context.ref.sha256 in missing:
            store_context(context, blobs)
