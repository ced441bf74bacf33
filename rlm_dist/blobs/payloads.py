"""JSON texts of any length: short ones are stored where they are used, long ones in the blob store.

Format: a short text is stored as it is, a long one as ``{"blob": "<sha256>"}``. A text to be packed is always
a JSON object of another shape, so the two cannot be confused.
"""

import json
from pathlib import Path
from typing import NamedTuple

import redis

from rlm_dist.blobs.store import Blobs, open_blobs
from rlm_dist.store import Store

INLINE_CHARS = 64 * 1024
_MARK = '{"blob": "'


class Payloads:
    """Packs and unpacks the JSON texts of jobs."""

    def __init__(self, *, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    def pack(self, job_id: str, text: str) -> str:
        """Return what to store for ``text``; a blob is kept for as long as the job is kept.

        Raises:
            BlobError: the text cannot be stored.
            LimitExceeded: the job has no room for it.
        """
        if len(text) <= INLINE_CHARS:
            return text
        sha256 = self._store.connection.patiently(lambda: self._blobs.put_text(text))
        stored = self._store.connection.patiently(lambda: self._blobs.stored_bytes(sha256))
        self._store.jobs.use_blob(job_id, sha256, stored)
        return f'{_MARK}{sha256}"}}'

    @staticmethod
    def is_long(packed: str) -> bool:
        """Whether ``unpack`` will read from the blob store."""
        return packed.startswith(_MARK)

    def unpack(self, packed: str) -> str:
        """Return the text that ``pack`` was called with.

        Raises:
            BlobError: the blob is missing or damaged.
        """
        if not self.is_long(packed):
            return packed
        sha256 = json.loads(packed)["blob"]
        return self._store.connection.patiently(lambda: self._blobs.get_text(sha256))


class Storage(NamedTuple):
    """The store of one process, its blob store, and the payloads that use both."""

    store: Store
    blobs: Blobs
    payloads: Payloads


def open_storage(
    client: redis.Redis, *, blob_url: str | None, home: Path, retention_s: int, patience_s: float = 0.0
) -> Storage:
    """Open the store over this connection, which waits for Redis up to ``patience_s``, and the blob store.

    Raises:
        SettingsError: ``blob_url`` (``RLM_BLOB_URL``) cannot be used.
    """
    store = Store(client, retention_s=retention_s, patience_s=patience_s)
    blobs = open_blobs(blob_url, home=home, client=client, retention_s=retention_s)
    return Storage(store, blobs, Payloads(store=store, blobs=blobs))
