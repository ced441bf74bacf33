"""Call ids."""

import hashlib
import json
import threading
from collections import Counter

from rlm_dist.schema import CallRequest


class CallIds:
    """Gives each request of one job its call id; safe to use from several threads."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()

    def name(self, request: CallRequest) -> str:
        """The id of this request, counting how often it was asked before."""
        # In ASCII: a query may hold lone surrogates, which pydantic's own JSON refuses. Who else may have the
        # answer is no part of what is asked.
        asked = json.dumps(request.model_dump(exclude={"cache"}))
        content = f"{self._job_id}\n{asked}".encode()
        digest = hashlib.blake2b(content, digest_size=12).hexdigest()
        with self._lock:
            self._seen[digest] += 1
            return f"{digest}#{self._seen[digest]}"

    def rewind(self) -> None:
        """Count from the start again: the same steps are about to be run once more."""
        with self._lock:
            self._seen.clear()
