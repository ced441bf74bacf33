"""Whether the sums in the ledgers are those of the single charges and reservations that they were made of."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import BatchState, JobState
from rlm_dist.store import keys
from rlm_dist.store.calls import reservation
from rlm_dist.store.connection import StorePart
from rlm_dist.store.ledger import recomputed

_AT_ONCE = 100
_CHECKED = ("spent_", "reserved_", "line:", "estimated_calls")


class Difference(NamedTuple):
    """A field of a ledger that says ``total`` where it should be ``recomputed``."""

    ledger: str
    field: str
    total: int
    recomputed: int


class Audit(NamedTuple):
    """What came of recomputing a ledger from ``charges`` charges."""

    charges: int
    differences: list[Difference]


class AuditStore(StorePart):
    """The part of the store that checks its own sums."""

    def job(self, job_id: str) -> Audit:
        """Recompute the ledger of a job, at any time of its life.

        Raises:
            NotFound: where there is no such job, or its retention is over.
        """
        audit, _ = self._audited([job_id])
        return audit

    def batch(self, batch_id: str, state: BatchState) -> Audit:
        """Recompute the ledgers of a batch that has ended and of all its jobs.

        Raises:
            InputError: where the batch has not ended: its sums move while its jobs are read.
            NotFound: where a job's retention is over.
        """
        if state not in (BatchState.COMPLETED, BatchState.CANCELLED):
            raise InputError((f"batch {batch_id} is {state}: its sums can be checked once it has ended",))
        jobs = self._reach(lambda: self._client.zrange(keys.batch(batch_id, "jobs"), 0, -1))
        found, sums = Audit(0, []), Counter[str]()
        for start in range(0, len(jobs), _AT_ONCE):
            audit, more = self._audited(jobs[start : start + _AT_ONCE])
            found = Audit(found.charges + audit.charges, found.differences + audit.differences)
            sums.update(more)
        ledger = self._reach(lambda: self._client.hgetall(keys.batch(batch_id, "ledger")))
        return Audit(found.charges, [*found.differences, *_differences(f"batch {batch_id}", ledger, sums)])

    def _audited(self, job_ids: Iterable[str]) -> tuple[Audit, Counter[str]]:
        """The audit of some jobs, each read in one moment, and what their ledgers should be in sum."""
        charges, differences, sums = 0, [], Counter[str]()
        for job_id in job_ids:
            state, ledger, calls, charged = self._read(job_id)
            if state is None:
                raise NotFound("job", job_id)
            own = recomputed(charged)
            if not JobState(state).final:
                own.update(_reserved(calls))
            differences += _differences(f"job {job_id}", ledger, own)
            charges += len(charged)
            sums.update(own)
        return Audit(charges, differences), sums

    def _read(self, job_id: str) -> tuple[str | None, dict[str, str], list[str], list[str]]:
        def read() -> tuple[str | None, dict[str, str], list[str], list[str]]:
            pipe = self._client.pipeline(transaction=True)
            pipe.hget(keys.job(job_id), "state")
            pipe.hgetall(keys.job(job_id, "ledger"))
            pipe.hvals(keys.job(job_id, "calls"))
            pipe.lrange(keys.job(job_id, "charges"), 0, -1)
            state, ledger, calls, charges = pipe.execute()
            return state, ledger, calls, charges

        return self._reach(read)


def _reserved(calls: Iterable[str]) -> Counter[str]:
    """What is set aside for the open ones of these calls."""
    sums: Counter[str] = Counter()
    for nanousd, tokens in filter(None, map(reservation, calls)):
        sums["reserved_nanousd"] += nanousd
        sums["reserved_tokens"] += tokens
    return sums


def _differences(name: str, ledger: Mapping[str, str], sums: Mapping[str, int]) -> list[Difference]:
    fields = sorted({field for field in [*ledger, *sums] if field.startswith(_CHECKED)})
    pairs = [(field, int(ledger.get(field, 0)), sums.get(field, 0)) for field in fields]
    return [Difference(name, field, total, own) for field, total, own in pairs if total != own]
