"""The two logs of a job: its trace (what happened, for people) and its journal (what a restart replays)."""

from collections.abc import Sequence
from typing import NamedTuple

from rlm_dist.store import keys
from rlm_dist.store.connection import MAX_BLOCK_MS, StorePart, fenced, new_token, within_budget


class Entries(NamedTuple):
    """Entries for the journal of a job, in order, and how many turns the job has begun by then."""

    texts: Sequence[str] = ()
    turns: int = 0

    @property
    def args(self) -> list[str | int]:
        """The arguments of a script that appends them."""
        return [self.turns, len(self.texts), *self.texts]


NO_ENTRIES = Entries()


class JournalStore(StorePart):
    """The part of the store for traces and journals."""

    def append_events(self, job_id: str, payloads: Sequence[str]) -> None:
        """Add events to the trace, in order; a long one that the job has no room for is left out."""
        if payloads:
            token = new_token()
            fenced(self._script("job_events", keys.job_keys(job_id), token, *payloads), job_id)

    def read_events(
        self, job_id: str, after: str = "0", block_ms: int | None = None
    ) -> list[tuple[str, str]]:
        """(stream id, payload) of the events after a stream id; waits for one for ``block_ms``."""
        key = keys.job(job_id, "trace")
        block = None if block_ms is None else min(block_ms, MAX_BLOCK_MS)
        streams = self._reach(lambda: self._client.xread({key: after}, block=block))
        return [(entry_id, fields["e"]) for _, entries in streams for entry_id, fields in entries]

    def last_event(self, job_id: str) -> str | None:
        """The stream id of the last event of a job; None if it has none."""
        entries = self._reach(lambda: self._client.xrevrange(keys.job(job_id, "trace"), count=1))
        return entries[0][0] if entries else None

    def append(self, job_id: str, epoch: int, entry: str, turns: int = 0) -> None:
        """Add an entry to the journal; an entry equal to the last one counts as its repeat.

        ``turns`` is how many turns the job has begun, for people who watch it. Raises as ``extend``.
        """
        self.extend(job_id, epoch, Entries((entry,), turns))

    def extend(self, job_id: str, epoch: int, entries: Entries) -> None:
        """Add entries to the journal; entries equal to the last ones count as their repeat.

        Raises:
            Superseded: if another worker holds the job, or the job has ended.
            LimitExceeded: if the job has no room for them.
        """
        reply = self._script("job_journal", keys.job_keys(job_id), epoch, *entries.args)
        within_budget(fenced(reply, job_id, epoch))

    def read(self, job_id: str) -> list[str]:
        """All entries of the journal, in order."""
        return list(self._reach(lambda: self._client.lrange(keys.job(job_id, "journal"), 0, -1)))
