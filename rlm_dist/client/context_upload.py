"""Uploads the contexts of a batch's jobs, a chunk at a time, before the jobs themselves are stored.

Invariant: of the contexts that are part of a batch file's lines, at most one chunk is in memory. A chunk is
bounded in jobs and in bytes (not counting the line that crosses the bound).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rlm_dist.blobs.store import Blobs
from rlm_dist.client.batch_item import BatchItem
from rlm_dist.contexts.encoding import Encoded, reading_files, store_context
from rlm_dist.contexts.named_files import ContextFile
from rlm_dist.schema import ContextRef

_CHUNK_JOBS = 200
_CHUNK_BYTES = 16 * 1024 * 1024


class StoredJob(NamedTuple):
    """A job whose context is stored, and its position in the batch, counted from 0."""

    position: int
    item: BatchItem
    context: ContextRef


class _UnstoredJob(NamedTuple):
    position: int
    item: BatchItem
    encoded: Encoded | None  # None if the context is in a separate file

    @property
    def file(self) -> ContextFile:
        assert self.item.context_file is not None
        return self.item.context_file


def upload_contexts(items: Iterable[tuple[int, BatchItem]], blobs: Blobs) -> Iterator[list[StoredJob]]:
    """Store the contexts of these jobs and yield the jobs in chunks, in order."""
    store_file = reading_files(lambda encoded: store_context(encoded, blobs))
    for chunk in _chunks(items):
        _store([job.encoded for job in chunk if job.encoded is not None], blobs)
        yield [
            StoredJob(job.position, job.item, job.encoded.ref if job.encoded else store_file(job.file))
            for job in chunk
        ]


def _chunks(items: Iterable[tuple[int, BatchItem]]) -> Iterator[list[_UnstoredJob]]:
    chunk: list[_UnstoredJob] = []
    size_bytes = 0
    for position, item in items:
        encoded = item.encode() if item.context_file is None else None
        chunk.append(_UnstoredJob(position, item, encoded))
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
