"""Child jobs: jobs that the code of another job asked for.

A child is a job in every way but these: it is in no list of its batch and not among the newest jobs; its
costs and reservations count in the ledgers of all jobs above it, within whose limits it must stay; it ends
when a job above it ends; and what is stored for it lives as long as its top job.
"""

import json
from collections.abc import Sequence
from typing import Any

from rlm_dist.schema import JobSpec, JobState, Outcome
from rlm_dist.schema.lists import ChildRow
from rlm_dist.store import keys
from rlm_dist.store.calls import CallRefused, read_refusal
from rlm_dist.store.connection import StorePart, fenced
from rlm_dist.store.ledger import read_costs

_OPEN_AT_ONCE = 100
_FIELDS = ("id", "name", "state", "depth", "turns", "started_ms", "ended_ms")


class ChildStore(StorePart):
    """The part of the store for child jobs."""

    def open(self, parent_id: str, epoch: int, specs: Sequence[JobSpec]) -> list[JobState | CallRefused]:
        """Create those children that do not exist, and return the state of each.

        ``QUEUED`` means that its task is to be sent. Each new child counts as one sub-call in the
        ``max_sub_calls`` of every job above it; ``CallRefused`` says which limit allows no more. A child that
        ended without an answer before a job above it was retried is queued again.

        Raises:
            Superseded, Cancelled, Parked: if this epoch may not have children any more.
            NotFound: if the parent does not exist.
        """
        states: list[JobState | CallRefused] = []
        for start in range(0, len(specs), _OPEN_AT_ONCE):
            args: list[str | int] = [epoch]
            for spec in specs[start : start + _OPEN_AT_ONCE]:
                args += _open_args(spec)
            reply = fenced(self._script("job_children", keys.job_keys(parent_id), *args), parent_id, epoch)
            states += [
                read_refusal(text) if text.startswith("refused ") else JobState(text) for text in reply
            ]
        return states

    def outcomes(self, job_ids: Sequence[str]) -> list[Outcome | None]:
        """How these jobs ended; None for each that has not, or does not exist."""

        def read() -> list[str | None]:
            pipe = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hget(keys.job(job_id), "outcome")
            return list(pipe.execute())

        texts = self._reach(read) if job_ids else []
        return [Outcome.model_validate(json.loads(text)) if text else None for text in texts]

    def of(self, job_id: str, limit: int = 1000) -> list[ChildRow]:
        """The first ``limit`` children of a job, in the order of their creation."""
        key = keys.job(job_id, "children")
        ids: list[str] = self._reach(lambda: self._client.zrange(key, 0, limit - 1))

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            for child_id in ids:
                pipe.hmget(keys.job(child_id), _FIELDS)
                pipe.hgetall(keys.job(child_id, "ledger"))
            return list(pipe.execute())

        replies = self._reach(read) if ids else []
        pairs = zip(replies[::2], replies[1::2], strict=True)
        return [_row(fields, ledger) for fields, ledger in pairs if fields[0] is not None]

    def count(self, job_id: str) -> int:
        """How many children a job has."""
        return int(self._reach(lambda: self._client.zcard(keys.job(job_id, "children"))))


def _open_args(spec: JobSpec) -> list[str | int]:
    limits = (spec.limits.max_nanousd, spec.limits.max_tokens, spec.limits.max_sub_calls)
    return [
        spec.id,
        json.dumps(spec.model_dump()),
        keys.blob(spec.context.sha256),
        spec.depth,
        spec.custom_id,
        *("" if limit is None else limit for limit in limits),
    ]


def _row(fields: Sequence[str | None], ledger: dict[str, str]) -> ChildRow:
    job_id, name, state, depth, turns, started_ms, ended_ms = fields
    return ChildRow(
        id=job_id or "",
        custom_id=name or "",
        state=JobState(state or ""),
        depth=int(depth or 0),
        turns=int(turns or 0),
        costs=read_costs(ledger),
        started_ms=int(started_ms) if started_ms else None,
        ended_ms=int(ended_ms) if ended_ms else None,
    )
