"""Checks that the sums in the ledgers equal the charges and reservations that they were added up from."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import BatchState, JobState
from rlm_dist.store import keys
from rlm_dist.store.calls import reservation
from rlm_dist.store.connection import StorePart
from rlm_dist.store.ledger import recomputed

_AT_ONCE = 100
_CHECKED = ("spent_", "reserved_", "line:", "estimated_calls")


class Difference(NamedTuple):
    """A field of a ledger that holds ``total`` but should hold ``recomputed``."""

    ledger: str
    field: str
    total: int
    recomputed: int


class Audit(NamedTuple):
    """The result of recomputing ledgers from ``charges`` charges."""

    charges: int
    differences: list[Difference]


class AuditStore(StorePart):
    """The part of the store that checks its own sums."""

    def job(self, job_id: str) -> Audit:
        """Recompute the ledgers of a job and of the jobs below it, in any state.

        Raises:
            NotFound: if the job does not exist, or its retention is over.
        """
        audit, _ = self._audit_jobs([job_id])
        return audit

    def batch(self, batch_id: str, state: BatchState) -> Audit:
        """Recompute the ledgers of a batch that has ended and of all its jobs.

        Raises:
            InputError: if the batch has not ended, as its sums change while its jobs are read.
            NotFound: if a job's retention is over.
        """
        if state not in (BatchState.COMPLETED, BatchState.CANCELLED):
            raise InputError((f"batch {batch_id} is {state}: its sums can be checked once it has ended",))
        jobs = self._reach(lambda: self._client.zrange(keys.batch(batch_id, "jobs"), 0, -1))
        audit, sums = Audit(0, []), Counter[str]()
        for start in range(0, len(jobs), _AT_ONCE):
            page, page_sums = self._audit_jobs(jobs[start : start + _AT_ONCE])
            audit = Audit(audit.charges + page.charges, audit.differences + page.differences)
            sums.update(page_sums)
        ledger = self._reach(lambda: self._client.hgetall(keys.batch(batch_id, "ledger")))
        return Audit(audit.charges, [*audit.differences, *_differences(f"batch {batch_id}", ledger, sums)])

    def _audit_jobs(self, job_ids: Iterable[str]) -> tuple[Audit, Counter[str]]:
        """The audit of some jobs, each read in one transaction, and the sums of their recomputed ledgers."""
        count, differences, sums = 0, list[Difference](), Counter[str]()
        for job_id in job_ids:
            tree = self._read_tree(job_id)
            job_sums = _sums_below(job_id, tree, differences)
            count += sum(len(job.charges) for job in tree.values())
            sums.update(job_sums)
        return Audit(count, differences), sums

    def _read_tree(self, job_id: str) -> dict[str, "_AuditedJob"]:
        """A job and the jobs below it, all as they were at one moment."""
        ids = [job_id]
        while True:
            tree = dict(zip(ids, self._read(ids), strict=True))
            if tree[job_id].state is None:
                raise NotFound("job", job_id)
            found = [job_id, *(child for job in tree.values() for child in job.children)]
            if found == ids:
                return tree
            ids = found  # level by level, and again if one was created meanwhile

    def _read(self, job_ids: Sequence[str]) -> list["_AuditedJob"]:
        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=True)
            for job_id in job_ids:
                pipe.hget(keys.job(job_id), "state")
                pipe.hgetall(keys.job(job_id, "ledger"))
                pipe.hvals(keys.job(job_id, "calls"))
                pipe.lrange(keys.job(job_id, "charges"), 0, -1)
                pipe.zrange(keys.job(job_id, "children"), 0, -1)
            return list(pipe.execute())

        replies, n = self._reach(read), len(_AuditedJob._fields)
        return [_AuditedJob(*replies[start : start + n]) for start in range(0, len(replies), n)]


class _AuditedJob(NamedTuple):
    state: str | None
    ledger: dict[str, str]
    calls: list[str]
    charges: list[str]
    children: list[str]


def _sums_below(job_id: str, tree: Mapping[str, _AuditedJob], differences: list[Difference]) -> Counter[str]:
    """What the ledger of a job of this tree should hold; adds where it differs, the lowest jobs first."""
    job = tree[job_id]
    sums = recomputed(job.charges)
    if job.state is not None and not JobState(job.state).final:
        sums.update(_reserved(job.calls) + _kept(job.ledger))
    for child_id in job.children:
        sums.update(_sums_below(child_id, tree, differences))
    differences += _differences(f"job {job_id}", job.ledger, sums)
    return sums


def _reserved(calls: Iterable[str]) -> Counter[str]:
    """The sums that are reserved for those of these calls that are open."""
    sums: Counter[str] = Counter()
    for nanousd, tokens in filter(None, map(reservation, calls)):
        sums["reserved_nanousd"] += nanousd
        sums["reserved_tokens"] += tokens
    return sums


def _kept(ledger: Mapping[str, str]) -> Counter[str]:
    """What is kept for the job's next root call, which counts as reserved."""
    return Counter({f"reserved_{unit}": int(ledger.get(f"kept_{unit}", 0)) for unit in ("nanousd", "tokens")})


def _differences(name: str, ledger: Mapping[str, str], sums: Mapping[str, int]) -> list[Difference]:
    fields = sorted({field for field in [*ledger, *sums] if field.startswith(_CHECKED)})
    pairs = [(field, int(ledger.get(field, 0)), sums.get(field, 0)) for field in fields]
    return [Difference(name, field, total, expected) for field, total, expected in pairs if total != expected]
