"""Removes blobs from a folder once no job uses them and their retention is over.

Redis does that itself, and object stores have rules for it. A blob is old if it was neither stored nor kept
for a whole retention time; a client that is about to submit a job with it has just kept it.
"""

from itertools import islice

import structlog

from rlm_dist.blobs.store import Blobs
from rlm_dist.errors import BlobError
from rlm_dist.store import JobStore

log = structlog.get_logger()

_AT_ONCE = 500


def sweep(blobs: Blobs, jobs: JobStore, *, retention_s: float) -> int:
    """Remove the old blobs that no job uses; return their number. One that cannot be removed is logged."""
    removed = 0
    old = blobs.old(retention_s)
    while hashes := list(islice(old, _AT_ONCE)):
        for sha256 in jobs.unused_blobs(hashes):
            try:
                blobs.delete(sha256)
            except BlobError as error:
                log.warning("blob_not_removed", error=str(error))
            else:
                removed += 1
    return removed
