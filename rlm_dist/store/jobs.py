"""Jobs: created once, taken up under a lease with an epoch, ended once.

Invariant: of all workers that ever held a job, only the one with the newest epoch can write its state.
"""

import json
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from rlm_dist.errors import InputError, NotFound, Superseded
from rlm_dist.schema import Costs, ErrorInfo, JobRecord, JobSpec, JobState, ModelCosts, Outcome, Running
from rlm_dist.schema.events import JobEnded
from rlm_dist.store import keys
from rlm_dist.store.capacity import requests_by_job
from rlm_dist.store.connection import MAX_BLOCK_MS, StorePart, fenced, within_budget
from rlm_dist.store.journals import NO_ENTRIES, Entries
from rlm_dist.store.ledger import read_costs, read_model_costs
from rlm_dist.store.tree import levels_below

_CREATE_AT_ONCE = 200
_ALONE = -2  # what the script returns
_REFUSED_BLOB_TTL_MS = 600_000  # a client that is about to submit a job with it soon keeps it
MAX_RECOVERIES = 3
# A job with which this number of workers died runs in a process of its own: the next death is then its own
# doing, and takes no other job along.
ALONE_AFTER = 2
MUST_BE_ALONE = -1  # what ``JobStore.take_up`` returns of such a job


def _to_json(value: JobSpec | Outcome | JobEnded) -> str:
    """JSON in ASCII: a query or answer may hold lone surrogates, which pydantic's own JSON refuses."""
    return json.dumps(value.model_dump())


CANCELLED = _to_json(Outcome(state=JobState.CANCELLED))
_POISON = _to_json(
    Outcome(
        state=JobState.FAILED,
        error=ErrorInfo(
            type="poison",
            message=f"its worker died during the job more than {MAX_RECOVERIES} times; its journal is kept",
        ),
    )
)


RenewalReply = Literal["ok", "cancelled", "paused", "superseded"]
_RENEWALS: dict[str, RenewalReply] = {
    "ok": "ok",
    "paused": "paused",
    "CANCELLED": "cancelled",
    "SUPERSEDED": "superseded",
    "NOT_FOUND": "superseded",
}


class Renewal(NamedTuple):
    """A lease to renew; its clock stood still for ``stopped_ms`` since the last time."""

    job_id: str
    epoch: int
    stopped_ms: int = 0


class TakenJob(NamedTuple):
    """A job that this worker has just taken up, and the time at which it did, in Unix milliseconds.

    ``has_journal`` says that an earlier run wrote something down. ``shares_budget`` says that its batch or a
    job above it has a budget of money or tokens.
    """

    record: JobRecord
    now_ms: int
    has_journal: bool
    shares_budget: bool


class JobEnd(NamedTuple):
    """What was stored of a job when it ended, as in ``JobRecord``."""

    ended_ms: int
    since_ms: int
    costs: Costs


class JobStore(StorePart):
    """The part of the store for jobs."""

    def create(self, specs: Sequence[JobSpec]) -> list[bool]:
        """Queue jobs, each atomically; False for each that already exists.

        Raises:
            NotFound: if a job's batch does not exist.
        """
        created: list[bool] = []
        for start in range(0, len(specs), _CREATE_AT_ONCE):
            page = specs[start : start + _CREATE_AT_ONCE]
            calls = [(keys.job_keys(spec.id), self._create_args(spec)) for spec in page]
            for spec, reply in zip(page, self._scripts_at_once("job_create", calls), strict=True):
                if reply == "NOT_FOUND":
                    raise NotFound("batch", spec.batch_id or "")
                created.append(bool(reply))
        return created

    def _create_args(self, spec: JobSpec) -> list[str | int]:
        limits = (spec.limits.max_nanousd, spec.limits.max_tokens, spec.limits.max_sub_calls)
        return [
            spec.id,
            _to_json(spec),
            keys.batch(spec.batch_id) if spec.batch_id else "",
            spec.index,
            keys.blob(spec.context.sha256),
            *("" if limit is None else limit for limit in limits),
            CANCELLED,
            self._retention_ms,
            spec.custom_id,
            json.dumps(spec.tags, sort_keys=True) if spec.tags else "",
            *(keys.blob(file.context.sha256) for file in (spec.session.added if spec.session else ())),
        ]

    def get(self, job_id: str) -> JobRecord:
        """The job in its present state.

        Raises:
            NotFound: if the job does not exist, or its retention is over.
        """
        (record,) = self.records([job_id])
        if record is None:
            raise NotFound("job", job_id)
        return record

    def newest(self, limit: int) -> list[JobRecord]:
        """The last ``limit`` jobs, the newest first."""
        ids: list[str] = self._reach(lambda: self._client.zrange(keys.JOBS, 0, limit - 1, desc=True))
        return [record for record in self.records(ids) if record is not None]

    def records(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        """These jobs in their present state, in one round trip; None for each that does not exist."""

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            pipe.time()
            pipe.hgetall(keys.REQUESTS)
            for job_id in job_ids:
                pipe.hgetall(keys.job(job_id))
                pipe.hgetall(keys.job(job_id, "ledger"))
            return list(pipe.execute())

        if not job_ids:
            return []
        now, announced, *hashes = self._reach(read)
        requests = requests_by_job(announced, now)
        return [
            _record(job, ledger, requests.get(job["id"], 0)) if job else None
            for job, ledger in zip(hashes[::2], hashes[1::2], strict=True)
        ]

    def states(self, job_ids: Sequence[str]) -> list[JobState | None]:
        """The states of these jobs, in one round trip; None for each that does not exist."""

        def read() -> list[str | None]:
            pipe = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hget(keys.job(job_id), "state")
            return list(pipe.execute())

        return [JobState(state) if state else None for state in self._reach(read)] if job_ids else []

    def running(self) -> list[Running]:
        """All jobs that a worker holds, in the order of their start."""
        ids: list[str] = self._reach(lambda: self._client.zrange(keys.LEASES, 0, -1))

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            pipe.time()
            pipe.hgetall(keys.REQUESTS)
            for job_id in ids:
                pipe.hmget(keys.job(job_id), "state", "batch", "started_ms", "owner", "parent")
                pipe.hmget(keys.job(job_id, "ledger"), "spent_nanousd", "spent_tokens")
            return list(pipe.execute())

        if not ids:
            return []
        now, announced, *fields = self._reach(read)
        requests = requests_by_job(announced, now)
        jobs = [
            _running(job_id, job, ledger, requests.get(job_id, 0))
            for job_id, job, ledger in zip(ids, fields[::2], fields[1::2], strict=True)
            if job[0] == JobState.RUNNING
        ]
        return sorted(jobs, key=lambda job: job.started_ms)

    def take_up(
        self,
        job_id: str,
        owner: str,
        lease_ms: int,
        isolation: str = "none",
        max_bytes: int | None = None,
        *,
        shared: bool = False,
    ) -> TakenJob | int | None:
        """Take up a queued job, or one whose holder let its lease lapse, under a new epoch.

        Returns None if the job is final, paused or held under a live lease, and 0 if this ended it: it was
        cancelled, or its lease lapsed more than ``MAX_RECOVERIES`` times and it failed. ``isolation`` names
        the way in which this worker confines model-written code, ``max_bytes`` is how much the job may store
        from now on. ``shared`` says that this process runs other jobs too: returns ``MUST_BE_ALONE``, and
        changes nothing, if ``ALONE_AFTER`` workers have died with the job.
        """
        token = uuid.uuid4().hex
        most = "" if max_bytes is None else max_bytes
        args = (
            owner,
            lease_ms,
            token,
            CANCELLED,
            self._retention_ms,
            MAX_RECOVERIES,
            _POISON,
            isolation,
            most,
            ALONE_AFTER if shared else "",
        )
        reply = fenced(self._script("job_start", keys.job_keys(job_id), *args), job_id)
        if isinstance(reply, int):
            return MUST_BE_ALONE if reply == _ALONE else max(0, reply) if reply else None
        now_ms, entries, shares_budget, job, ledger = reply
        record = _record(_pairs(job), _pairs(ledger), 0)
        return TakenJob(record, now_ms, entries > 0, shares_budget == 1)

    def renew(self, job_id: str, epoch: int, lease_ms: int, stopped_ms: int = 0) -> RenewalReply:
        """Renew the lease of a job that this worker holds; the reply says whether the job must stop.

        ``stopped_ms`` is how long its clock stood still since the last renewal.

        Raises:
            Superseded: if another worker holds the job, or the job has ended.
        """
        (reply,) = self.renew_all([Renewal(job_id, epoch, stopped_ms)], lease_ms)
        if reply == "superseded":
            raise Superseded(job_id, epoch)
        return reply

    def renew_all(self, renewals: Sequence[Renewal], lease_ms: int) -> list[RenewalReply]:
        """Renew the leases of jobs in one round trip; ``superseded`` also stands for a job that is gone."""
        calls = [
            (keys.job_keys(renewal.job_id), (renewal.epoch, lease_ms, renewal.stopped_ms))
            for renewal in renewals
        ]
        return [_RENEWALS[reply] for reply in self._scripts_at_once("job_renew", calls)]

    def park(self, job_id: str, epoch: int) -> bool:
        """Give a job that this worker holds back to the queue; True if a message is to be sent for it."""
        return bool(fenced(self._script("job_park", keys.job_keys(job_id), epoch), job_id) == 1)

    def end(
        self,
        job_id: str,
        epoch: int,
        outcome: Outcome,
        *,
        entries: Entries = NO_ENTRIES,
        events: Sequence[str] = (),
        after_calls: bool = False,
    ) -> JobEnd | int:
        """End a job, and before append the last ``entries`` of its journal and ``events`` of its trace.

        Entries that the job has no room for are left out. Returns 0 if the job had ended already, or another
        worker holds it. If it is to end ``after_calls`` and some are in flight, it does not end, and no other
        call is begun: returns how many are in flight.

        Raises:
            Cancelled: if the outcome has an answer, but the job or one above it was cancelled. The answer may
                rest on calls and child jobs that the cancel has ended.
        """
        how = (outcome.iterations, outcome.reason, "1" if after_calls else "")
        args = (epoch, outcome.state, _to_json(outcome), self._retention_ms, *how, *entries.args, *events)
        reply = fenced(self._script("job_finish", keys.job_keys(job_id), *args), job_id)
        if isinstance(reply, int):
            return reply
        ended_ms, since_ms, ledger = reply
        return JobEnd(int(ended_ms), int(since_ms), read_costs(_pairs(ledger)))

    def end_stalled(self, batch_id: str, stalled_s: float) -> list[str]:
        """End as failed the running jobs of a batch without progress for ``stalled_s``; return their ids.

        Their workers can write nothing more, and their calls under way are given up.
        """
        error = ErrorInfo(type="stalled", message=f"it was ended after {stalled_s:g} s without progress")
        outcome = Outcome(state=JobState.FAILED, error=error)
        event = JobEnded(state=outcome.state, answer=None, error=error, iterations=0)
        args = (int(stalled_s * 1000), _to_json(outcome), self._retention_ms, _to_json(event))
        ids = [job.job_id for job in self.running() if job.batch_id == batch_id]
        replies = self._scripts_at_once("job_stall", [(keys.job_keys(job_id), args) for job_id in ids])
        return [job_id for job_id, reply in zip(ids, replies, strict=True) if reply == 1]

    def keep(self, job_ids: Sequence[str]) -> None:
        """Restart the retention of those of these jobs that have ended.

        Raises:
            NotFound: if one does not exist, or its retention is over.
        """
        calls = [(keys.job_keys(job_id), (self._retention_ms,)) for job_id in job_ids]
        for job_id, reply in zip(job_ids, self._scripts_at_once("job_keep", calls), strict=True):
            fenced(reply, job_id)

    def cancel(self, job_id: str) -> JobState:
        """Cancel a job: now if nobody runs it, else at its worker's next renewal. A final job stays as is.

        The jobs below it are cancelled too.
        """
        args = (CANCELLED, self._retention_ms)
        state = JobState(fenced(self._script("job_cancel", keys.job_keys(job_id), *args), job_id))
        if not state.final:  # else those below it have ended with it
            for level in levels_below(self._connection, [job_id]):
                self._scripts_at_once("job_cancel", [(keys.job_keys(child), args) for child in level])
        return state

    def wait(self, job_id: str, timeout_s: float | None) -> JobRecord:
        """Block until the job is final or ``timeout_s`` is over; return the job in its state at that time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            record = self.get(job_id)
            remaining_s = MAX_BLOCK_MS / 1000 if deadline is None else deadline - time.monotonic()
            if record.state.final or remaining_s <= 0:
                return record
            block_ms = max(1, min(MAX_BLOCK_MS, int(remaining_s * 1000)))
            cursors = {keys.job(job_id, "done"): "0"}
            self._reach(partial(self._client.xread, cursors, block=block_ms))

    def lapsed(self, limit: int) -> list[str]:
        """Running jobs whose lease has lapsed; each is returned once, and counts as waiting from then on."""
        return list(self._script("lapsed", [keys.LEASES, keys.QUEUED], limit))

    def waiting(self, waiting_ms: int, limit: int) -> list[str]:
        """Jobs that have waited longer than ``waiting_ms``; in that time each is returned to one caller."""
        return list(self._script("waiting", [keys.QUEUED], waiting_ms, limit))

    def use_blob(self, job_id: str, sha256: str, stored_bytes: int) -> None:
        """Keep a blob until the job has ended and its retention is over.

        Raises:
            LimitExceeded: if the job has no room for it; a blob that no other job uses then expires soon.
        """
        args = (keys.blob(sha256), stored_bytes, _REFUSED_BLOB_TTL_MS)
        within_budget(fenced(self._script("job_blob", keys.job_keys(job_id), *args), job_id))

    def delete(self, job_id: str) -> list[str]:
        """Remove a job that has ended, and the jobs below it; return the hashes of unused blobs.

        Raises:
            NotFound: if the job does not exist, or its retention is over.
            InputError: if it has not ended, belongs to a batch, or is a child.
        """
        return self.delete_all([job_id])

    def delete_all(self, job_ids: Sequence[str], batch_id: str | None = None) -> list[str]:
        """Remove jobs, all of the batch if one is named; otherwise like ``delete``."""
        parent = "" if batch_id is None else keys.batch(batch_id)
        replies = self._scripts_at_once("job_delete", [(keys.job_keys(id_), (parent,)) for id_ in job_ids])
        unused: list[str] = []
        for job_id, reply in zip(job_ids, replies, strict=True):
            if reply == "NOT_FOUND" and batch_id is not None:
                continue  # its retention was over before that of its batch
            code, *values = fenced(reply, job_id)
            if code == 0:
                raise InputError((f"job {job_id} is {values[0]}: cancel it first",))
            if code == 2:
                owner = values[0].removeprefix(keys.batch(""))
                raise InputError((f"job {job_id} belongs to batch {owner}: delete that",))
            if code == 3:
                owner = values[0].removeprefix(keys.job(""))
                raise InputError((f"job {job_id} is a child of job {owner}: delete that",))
            unused += [blob.removeprefix(keys.blob("")) for blob in values]
        return unused

    def unused_blobs(self, hashes: Sequence[str]) -> list[str]:
        """Those of these blobs that no job uses, neither one in progress nor one that is still kept."""

        def read() -> list[int]:
            pipe = self._client.pipeline(transaction=False)
            for sha256 in hashes:
                pipe.exists(f"{keys.blob(sha256)}:jobs", f"{keys.blob(sha256)}:users")
            return list(pipe.execute())

        uses = self._reach(read) if hashes else []
        return [sha256 for sha256, count in zip(hashes, uses, strict=True) if not count]

    def note_divergence(self, job_id: str, epoch: int, cells: int) -> None:
        """Record how many cells of this run differed from the journal.

        Raises:
            Superseded: if another worker holds the job, or the job has ended.
        """
        fenced(self._script("job_diverged", keys.job_keys(job_id), epoch, cells), job_id, epoch)

    def note_cache_hits(self, job_id: str, n: int) -> None:
        """Count calls that were answered from the store."""
        fenced(self._script("job_count", keys.job_keys(job_id), uuid.uuid4().hex, "cache_hits", n), job_id)

    def costs(self, job_id: str) -> Costs:
        """The costs of the job so far."""
        return read_costs(self._ledger(job_id))

    def model_costs(self, job_id: str) -> list[ModelCosts]:
        """The costs of the job so far, by role and model."""
        return read_model_costs(self._ledger(job_id))

    def _ledger(self, job_id: str) -> dict[str, str]:
        return dict(self._reach(lambda: self._client.hgetall(keys.job(job_id, "ledger"))))


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    """A hash in the reply of a script."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _running(job_id: str, job: Sequence[str | None], ledger: Sequence[str | None], requests: int) -> Running:
    _, batch, started_ms, owner, parent = job
    nanousd, tokens = (int(value or 0) for value in ledger)
    return Running(
        job_id=job_id,
        batch_id=batch.removeprefix(keys.batch("")) if batch else None,
        started_ms=int(started_ms or 0),
        worker=owner or "",
        calls_in_flight=requests,
        nanousd=nanousd,
        tokens=tokens,
        parent_id=parent.removeprefix(keys.job("")) if parent else None,
    )


def _record(job: dict[str, str], ledger: dict[str, str], requests: int) -> JobRecord:
    return JobRecord(
        spec=JobSpec.model_validate(json.loads(job["spec"])),
        state=JobState(job["state"]),
        epoch=int(job["epoch"]),
        owner=job.get("owner"),
        isolation=job.get("isolation"),
        outcome=Outcome.model_validate(json.loads(job["outcome"])) if "outcome" in job else None,
        queued_ms=int(job["queued_ms"]),
        started_ms=int(job["started_ms"]) if "started_ms" in job else None,
        since_ms=int(job["since_ms"]) if "since_ms" in job else None,
        ran_ms=int(job.get("ran_ms", 0)),
        ended_ms=int(job["ended_ms"]) if "ended_ms" in job else None,
        cancel_requested="cancel" in job,
        calls_in_flight=requests,
        calls_claimed=int(ledger.get("in_flight", 0)),
        diverged_cells=int(job.get("diverged", 0)),
        recovered=job.get("recovered_epoch") == job["epoch"],
        costs=read_costs(ledger),
    )
