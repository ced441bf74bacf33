"""Writes the journal of one run of a job, or of one of its samples; an entry goes out with what rests on it.

Invariant: a root call is opened, and an outcome stored, in the same script that stores the entries before it,
or later. So an entry need not be stored at once, which would cost a trip to Redis. If a worker dies before
that, these steps are run again: nothing has followed from them yet. Nothing is paid for again: answers of
calls, outcomes of children and results of tools are stored when they arrive.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.errors import BlobError
from rlm_dist.root_worker.run_counts import RunCounts
from rlm_dist.store.journals import Entries, JournalStore
from rlm_dist.worker.failpoints import failpoint


class JournalWriter:
    """The journal of a job at ``epoch``; entries wait for ``sending`` or ``flush``, or go out ``at_once``."""

    def __init__(
        self,
        journals: JournalStore,
        payloads: Payloads,
        *,
        job_id: str,
        epoch: int,
        counts: RunCounts,
        at_once: bool = False,
    ) -> None:
        self._journals = journals
        self._payloads = payloads
        self._job_id = job_id
        self._epoch = epoch
        self._counts = counts
        self._at_once = at_once
        self._waiting: list[str] = []

    def read(self) -> Iterator[str]:
        """The stored entries, without those that are gone from the blob store: their steps are run again."""
        for packed in self._journals.read(self._job_id):
            with suppress(BlobError):
                yield self._payloads.unpack(packed)

    def write(self, entry: str) -> None:
        """Add an entry.

        Raises:
            Superseded: if another worker holds the job, or the job has ended.
            LimitExceeded: if the job has no room for it. Either may also be raised when it is sent.
        """
        failpoint("journal.write", self._job_id)
        try:
            packed = self._payloads.pack(self._job_id, entry)
        except BlobError:  # the journal must not fail its job
            packed = entry
        self._waiting.append(packed)
        if self._at_once:
            self.flush()

    @contextmanager
    def sending(self) -> Iterator[Entries]:
        """The entries that wait, which the block stores."""
        entries, self._waiting = Entries(self._waiting, self._counts.turns), []
        yield entries
        for _ in entries.texts:
            failpoint("journal.written", self._job_id)

    def flush(self) -> None:
        """Store the entries that wait. Raises as ``write``."""
        if self._waiting:
            with self.sending() as entries:
                self._journals.extend(self._job_id, self._epoch, entries)
