"""Batches: opened, filled with jobs, sealed; completed when sealed and all jobs are final."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rlm_dist.errors import InputError, NotFound
from rlm_dist.schema import (
    NANO,
    BatchRecord,
    BatchState,
    Costs,
    EndedJob,
    JobLimits,
    JobSpec,
    JobState,
    ModelCosts,
)
from rlm_dist.store import keys
from rlm_dist.store.capacity import requests_by_job
from rlm_dist.store.connection import MAX_BLOCK_MS, StorePart
from rlm_dist.store.jobs import CANCELLED, JobStore
from rlm_dist.store.ledger import read_costs, read_model_costs
from rlm_dist.store.tree import levels_below

_AT_ONCE = 200
_MESSAGES_AT_ONCE = 1000
_ALL = 2**31
_MARKS = ("sealed", "paused", "cancelled", "pause_reason")
# Why a job ended that a limit of its own ended, and the limit's name in its spec.
OWN_LIMITS = {
    "max_iterations": "max_iterations",
    "max_usd": "max_nanousd",
    "max_tokens": "max_tokens",
    "max_sub_calls": "max_sub_calls",
    "max_seconds": "max_seconds",
}


class BatchTotals(NamedTuple):
    """How many batches are in each state, and how many of their jobs; ``unread`` batches are left out."""

    batches: Counter[BatchState]
    jobs: Counter[JobState]
    paused_by_endpoint: int
    unread: int


class BatchStore(StorePart):
    """The part of the store for batches."""

    def create(
        self,
        batch_id: str,
        digest: str,
        total: int | None = None,
        max_nanousd: int | None = None,
        max_tokens: int | None = None,
        webhook: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> bool:
        """Open a batch; False if it already exists, with the same digest of its content.

        Raises:
            InputError: if the id belongs to a batch with another content.
        """
        limits = ("" if value is None else value for value in (total, max_nanousd, max_tokens))
        args = (batch_id, digest, *limits, self._retention_ms, webhook or "", write_tags(tags))
        reply = self._script("batch_create", keys.batch_keys(batch_id), *args)
        if reply == -1:
            raise InputError((f"batch {batch_id} already exists, with another content",))
        return bool(reply)

    def set_budget(
        self,
        batch_id: str,
        max_nanousd: int | None = None,
        max_tokens: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Change the budgets and the tags of a batch; what is None, or no tag, stays as it is.

        Raises:
            NotFound: if the batch does not exist, or its retention is over.
        """
        limits = ("" if value is None else value for value in (max_nanousd, max_tokens))
        args = (*limits, write_tags(tags))
        if self._script("batch_budget", keys.batch_keys(batch_id), *args) == "NOT_FOUND":
            raise NotFound("batch", batch_id)

    def seal(self, batch_id: str) -> None:
        """Record that no more jobs will be added."""
        self._mark(batch_id, "sealed", "set")

    def pause(self, batch_id: str) -> None:
        """Start no more calls, and let those in flight end; its running jobs go back into the queue."""
        self._mark(batch_id, "paused", "set")

    def resume(self, batch_id: str) -> None:
        """End the pause. Its queued jobs become due to be sent, as their messages may have been consumed."""
        self._mark(batch_id, "paused", "clear")
        start = 0
        while ids := self.job_ids(batch_id, start, _AT_ONCE):
            for level in (ids, *levels_below(self._connection, ids)):
                due = dict.fromkeys(level, 0)
                self._reach(lambda due=due: self._client.zadd(keys.QUEUED, due, xx=True))  # type: ignore[misc]
            start += len(ids)

    def retry(self, batch_id: str, raised: Mapping[str, float] | None = None) -> list[str]:
        """Queue again its jobs that ended without an answer; return their ids, which the caller must send.

        A job that a limit of its own ended would end there again. It is left out, unless ``raised``, by the
        names of ``JobLimits``, has a higher one for it.

        Raises:
            NotFound: if the batch does not exist, or its retention is over.
        """
        self.get(batch_id)
        retried: list[str] = []
        start = 0
        while ids := self.job_ids(batch_id, start, _AT_ONCE):
            calls = self._retries(ids, raised or {})
            replies = self._scripts_at_once("job_retry", list(calls.values()))
            retried += [job_id for job_id, reply in zip(calls, replies, strict=True) if reply == 1]
            start += len(ids)
        return retried

    def _retries(
        self, job_ids: Sequence[str], raised: Mapping[str, float]
    ) -> dict[str, tuple[list[str], list[str | int]]]:
        """Keys and arguments of the script that retries these jobs, without those that would end again."""

        def read() -> list[tuple[str | None, str | None]]:
            pipe = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hmget(keys.job(job_id), "reason", "spec")
            return list(pipe.execute())

        calls: dict[str, tuple[list[str], list[str | int]]] = {}
        for job_id, (reason, spec) in zip(job_ids, self._reach(read), strict=True):
            args: list[str | int] | None = []
            if spec and reason in OWN_LIMITS:
                args = _raise_limit(JobSpec.model_validate(json.loads(spec)), OWN_LIMITS[reason], raised)
            if args is not None:
                calls[job_id] = keys.job_keys(job_id), args
        return calls

    def cancel(self, batch_id: str, lists_of: Callable[[str], Mapping[str, str]] | None = None) -> None:
        """Cancel all its jobs that have not ended; harmless if all have.

        ``lists_of`` returns the broker's Redis lists for the prefix of the jobs: the batch's messages are
        removed from them, as each would cost a worker a trip.
        """
        if self._mark(batch_id, "cancelled", "set") or self.get(batch_id).state is BatchState.CANCELLED:
            start = 0
            while ids := self.job_ids(batch_id, start, _AT_ONCE):
                args = (CANCELLED, self._retention_ms)
                self._scripts_at_once("job_cancel", [(keys.job_keys(job_id), args) for job_id in ids])
                start += len(ids)
            if lists_of is not None:
                self._drop_messages(batch_id, lists_of)

    def _drop_messages(self, batch_id: str, lists_of: Callable[[str], Mapping[str, str]]) -> None:
        """Remove the messages of its jobs from the broker's lists."""
        text = f'"batch": {json.dumps(batch_id)}'  # in the headers
        for job in JobStore(self._connection).records(self.job_ids(batch_id, 0, 1)):
            for key in lists_of(job.spec.broker_prefix).values() if job else ():
                before, page = 0, _MESSAGES_AT_ONCE
                while page == _MESSAGES_AT_ONCE:
                    page, dropped = self._script("messages_drop", [key], text, before, _MESSAGES_AT_ONCE)
                    before += page - dropped

    def delete(self, batch_id: str) -> list[str]:
        """Remove a batch that has ended, with its jobs; return the hashes of unused blobs.

        Raises:
            NotFound: if the batch does not exist, or its retention is over.
            InputError: if it has not ended.
        """
        record = self.get(batch_id)
        if any(not state.final and count for state, count in record.counts.items()) or not record.sealed:
            raise InputError((f"batch {batch_id} is {record.state}: cancel it first",))
        jobs, unused = JobStore(self._connection), list[str]()
        ids = self.job_ids(batch_id, 0, _ALL)
        for start in range(0, len(ids), _AT_ONCE):
            unused += jobs.delete_all(ids[start : start + _AT_ONCE], batch_id)

        def remove() -> None:
            pipe = self._client.pipeline()
            pipe.unlink(*(keys.batch(batch_id, part) for part in keys.BATCH_PARTS))
            pipe.zrem(keys.BATCHES, batch_id)
            pipe.zrem(keys.WEBHOOKS, keys.batch(batch_id))
            pipe.execute()

        self._reach(remove)
        return unused

    def _mark(self, batch_id: str, mark: str, change: str) -> bool:
        reply = self._script("batch_mark", keys.batch_keys(batch_id), mark, change)
        if reply == "NOT_FOUND":
            raise NotFound("batch", batch_id)
        return bool(reply)

    def get(self, batch_id: str) -> BatchRecord:
        """The batch in its present state.

        Raises:
            NotFound: if the batch does not exist, or its retention is over.
        """
        (record,) = self.records([batch_id])
        if record is None:
            raise NotFound("batch", batch_id)
        return record

    def records(self, batch_ids: Sequence[str]) -> list[BatchRecord | None]:
        """These batches in their present state; None for each that does not exist."""

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            pipe.time()
            pipe.hgetall(keys.REQUESTS)
            for batch_id in batch_ids:
                pipe.hgetall(keys.batch(batch_id))
                pipe.hgetall(keys.batch(batch_id, "ledger"))
            return list(pipe.execute())

        if not batch_ids:
            return []
        now, announced, *hashes = self._reach(read)
        requests = self._requests_by_batch(requests_by_job(announced, now))
        return [
            _record(batch_id, batch, ledger, requests[keys.batch(batch_id)]) if batch else None
            for batch_id, batch, ledger in zip(batch_ids, hashes[::2], hashes[1::2], strict=True)
        ]

    def newest(self, limit: int) -> list[BatchRecord]:
        """The last ``limit`` batches, the newest first."""
        ids: list[str] = self._reach(lambda: self._client.zrange(keys.BATCHES, 0, limit - 1, desc=True))
        return [record for record in self.records(ids) if record is not None]

    def totals(self, limit: int) -> BatchTotals:
        """The last ``limit`` batches together."""
        ids: list[str] = self._reach(lambda: self._client.zrange(keys.BATCHES, 0, limit - 1, desc=True))

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            pipe.zcard(keys.BATCHES)
            for batch_id in ids:
                pipe.hmget(keys.batch(batch_id), "created_ms", *_MARKS, *(f"n:{state}" for state in JobState))
            return list(pipe.execute())

        total, *rows = self._reach(read)
        states: Counter[BatchState] = Counter()
        jobs: Counter[JobState] = Counter()
        paused_by_endpoint = 0
        for created_ms, *fields in rows:
            if created_ms is None:  # its retention is over
                continue
            marks = {name: value for name, value in zip(_MARKS, fields, strict=False) if value is not None}
            counts = {state: int(n or 0) for state, n in zip(JobState, fields[len(_MARKS) :], strict=True)}
            state = _state(marks, counts)
            states[state] += 1
            jobs.update(counts)
            paused_by_endpoint += state is BatchState.PAUSED and "pause_reason" in marks
        return BatchTotals(states, jobs, paused_by_endpoint, max(0, total - len(ids)))

    def job_ids(self, batch_id: str, start: int, count: int) -> list[str]:
        """Ids of up to ``count`` jobs in submission order, from index ``start`` on."""
        key = keys.batch(batch_id, "jobs")
        return list(self._reach(lambda: self._client.zrange(key, start, start + count - 1)))

    def job_ids_at(self, batch_id: str, lines: Sequence[int]) -> list[str]:
        """Ids of the jobs at these lines, counted from 0, without those that were not submitted."""

        def read() -> list[list[str]]:
            pipe = self._client.pipeline(transaction=False)
            for line in lines:
                pipe.zrangebyscore(keys.batch(batch_id, "jobs"), line, line)
            return list(pipe.execute())

        return [job_id for ids in self._reach(read) for job_id in ids]

    def ended_jobs(
        self, batch_id: str, after: str = "0", block_ms: int | None = None
    ) -> list[tuple[str, str]]:
        """(stream id, job id) of the next jobs to end after a stream id; waits for one for ``block_ms``."""
        key = keys.batch(batch_id, "ended")
        block = None if block_ms is None else min(block_ms, MAX_BLOCK_MS)
        streams = self._reach(lambda: self._client.xread({key: after}, count=_AT_ONCE, block=block))
        return [(entry_id, fields["j"]) for _, entries in streams for entry_id, fields in entries]

    def last_ended(self, batch_id: str, limit: int) -> list[EndedJob]:
        """What the last ``limit`` jobs to end had used, the newest first."""
        key = keys.batch(batch_id, "ended")
        entries = self._reach(lambda: self._client.xrevrange(key, count=limit))
        return [
            EndedJob(
                job_id=fields["j"],
                run_s=int(fields["ms"]) / 1000 if fields["ms"] else None,
                nanousd=int(fields["n"]),
                tokens=int(fields["t"]),
                ended_ms=int(entry_id.partition("-")[0]),
            )
            for entry_id, fields in entries
        ]

    def costs(self, batch_id: str) -> Costs:
        """What all its jobs have used so far."""
        return read_costs(self._batch_ledger(batch_id))

    def model_costs(self, batch_id: str) -> list[ModelCosts]:
        """What all its jobs have used so far, by role and model."""
        return read_model_costs(self._batch_ledger(batch_id))

    def _requests_by_batch(self, requests: Mapping[str, int]) -> Counter[str]:
        """How many of the requests, by job id, each batch has, by its key; those of children too."""

        def read() -> list[str | None]:
            pipe = self._client.pipeline(transaction=False)
            for job_id in requests:
                pipe.hget(keys.job(job_id), "batch")
            return list(pipe.execute())

        counts: Counter[str] = Counter()
        for batch, count in zip(self._reach(read) if requests else (), requests.values(), strict=True):
            if batch is not None:
                counts[batch] += count
        return counts

    def _batch_ledger(self, batch_id: str) -> dict[str, str]:
        return dict(self._reach(lambda: self._client.hgetall(keys.batch(batch_id, "ledger"))))


def _raise_limit(spec: JobSpec, field: str, raised: Mapping[str, float]) -> list[str | int] | None:
    """The arguments that give a job a higher limit; None if there is no higher one."""
    if raised.get(field, 0) <= (getattr(spec.limits, field) or 0):
        return None
    limits = JobLimits.model_validate({**spec.limits.model_dump(), field: raised[field]})
    higher = spec.model_copy(update={"limits": limits})
    stored = (limits.max_nanousd, limits.max_tokens, limits.max_sub_calls)
    return [json.dumps(higher.model_dump()), *("" if limit is None else limit for limit in stored)]


def write_tags(tags: Mapping[str, str] | None) -> str:
    """Tags as a field of a hash; '' if there are none."""
    return json.dumps(dict(tags), sort_keys=True) if tags else ""


def read_tags(text: str | None) -> dict[str, str]:
    """The tags in a field of a hash."""
    return dict(json.loads(text)) if text else {}


def _record(batch_id: str, batch: Mapping[str, str], ledger: Mapping[str, str], requests: int) -> BatchRecord:
    counts = {state: int(batch.get(f"n:{state}", 0)) for state in JobState}
    jobs = sum(counts.values())
    return BatchRecord(
        id=batch_id,
        state=_state(batch, counts),
        counts=counts,
        total=int(batch["total"]) if "total" in batch else jobs if "sealed" in batch else None,
        sealed="sealed" in batch,
        created_ms=int(batch["created_ms"]),
        calls_in_flight=requests,
        calls_claimed=int(ledger.get("in_flight", 0)),
        webhook=batch.get("webhook_state", "waiting") if "webhook" in batch else None,
        pause_reason=batch.get("pause_reason"),
        max_usd=int(batch["max_nanousd"]) / NANO if "max_nanousd" in batch else None,
        max_tokens=int(batch["max_tokens"]) if "max_tokens" in batch else None,
        tags=read_tags(batch.get("tags")),
        costs=read_costs(ledger),
    )


def _state(batch: Mapping[str, str], counts: Mapping[JobState, int]) -> BatchState:
    if "cancelled" in batch:
        return BatchState.CANCELLED
    if "sealed" in batch and all(state.final for state, count in counts.items() if count):
        return BatchState.COMPLETED
    return BatchState.PAUSED if "paused" in batch else BatchState.RUNNING
