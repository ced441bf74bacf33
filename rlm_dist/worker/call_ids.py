"""Call ids: ``<digest>#<n>``, where the digest is of the job's id and the request, and n counts repeats.

Invariant: the same steps, run again after ``rewind``, get the same ids; so a call that was answered before
is not made again.
"""

import hashlib
import json
import threading
from collections import Counter

from rlm_dist.schema import CallRequest


class CallIds:
    """Gives each request of one job its call id; safe to use from several threads.

    ``part`` names a part of the job whose calls are not those of others, as a sample after the first.
    """

    def __init__(self, job_id: str, part: str = "") -> None:
        self._of = f"{job_id}\n{part}\n" if part else f"{job_id}\n"
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def name(self, request: CallRequest) -> str:
        """The id of this request; it counts how often the job has made the same request before."""
        # In ASCII: a query may contain lone surrogates, which pydantic's own JSON refuses. Whether other jobs
        # may share the answer is not part of the request's identity.
        identity = json.dumps(request.model_dump(exclude={"cache"}))
        return self.name_text(identity)

    def name_text(self, identity: str) -> str:
        """The id of the request that this text is."""
        digest, number = self.count(identity)
        return f"{digest}#{number}"

    def count(self, identity: str) -> tuple[str, int]:
        """The digest of the job and what it asks, in ASCII, and how often it has asked this, now included."""
        content = f"{self._of}{identity}".encode()
        digest = hashlib.blake2b(content, digest_size=12).hexdigest()
        with self._lock:
            self._counts[digest] += 1
            return digest, self._counts[digest]

    def rewind(self) -> None:
        """Restart the counts, before the same steps are run again."""
        with self._lock:
            self._counts.clear()


def part_of(sample: int) -> str:
    """The part of a job that a sample is; the first sample has the ids of a job without samples."""
    return f"sample {sample}" if sample else ""
