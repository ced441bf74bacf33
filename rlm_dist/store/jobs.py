"""Jobs: created once, taken up under a lease with an epoch, ended once.

Invariant: of all who ever held a job, only the one with the newest epoch can write its state.
"""

import json
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from rlm_dist.errors import NotFound
from rlm_dist.schema import Costs, ErrorInfo, JobRecord, JobSpec, JobState, ModelCosts, Outcome, Running
from rlm_dist.schema.events import JobEnded
from rlm_dist.store import keys
from rlm_dist.store.capacity import requests_by_job
from rlm_dist.store.connection import MAX_BLOCK_MS, StorePart, fenced
from rlm_dist.store.ledger import read_costs, read_model_costs

_CREATE_AT_ONCE = 200
MAX_RECOVERIES = 3


def _stored(value: JobSpec | Outcome | JobEnded) -> str:
    """Its JSON in ASCII: a query or answer may hold lone surrogates, which pydantic's own JSON refuses."""
    return json.dumps(value.model_dump())


CANCELLED = _stored(Outcome(state=JobState.CANCELLED))
_POISON = _stored(
    Outcome(
        state=JobState.FAILED,
        error=ErrorInfo(
            type="poison",
            message=f"its worker died in the middle of it more than {MAX_RECOVERIES} times; "
            "its journal is kept",
        ),
    )
)


class JobStore(StorePart):
    """The part of the store that knows jobs."""

    def create(self, specs: Sequence[JobSpec]) -> list[bool]:
        """Queue jobs, each atomically; False for one that was there already.

        Raises:
            NotFound: where a job's batch was not created before.
        """
        created: list[bool] = []
        for start in range(0, len(specs), _CREATE_AT_ONCE):
            piece = specs[start : start + _CREATE_AT_ONCE]
            calls = [(keys.job_keys(spec.id), self._create_args(spec)) for spec in piece]
            for spec, reply in zip(piece, self._scripts_at_once("job_create", calls), strict=True):
                if reply == "NOT_FOUND":
                    raise NotFound("batch", spec.batch_id or "")
                created.append(bool(reply))
        return created

    def _create_args(self, spec: JobSpec) -> list[str | int]:
        limits = (spec.limits.max_nanousd, spec.limits.max_tokens, spec.limits.max_sub_calls)
        return [
            spec.id,
            _stored(spec),
            keys.batch(spec.batch_id) if spec.batch_id else "",
            spec.index,
            keys.blob(spec.context.sha256),
            *("" if limit is None else limit for limit in limits),
            CANCELLED,
            self._retention_ms,
        ]

    def get(self, job_id: str) -> JobRecord:
        """The job as it stands.

        Raises:
            NotFound: where there is none, or its retention is over.
        """
        (record,) = self.records([job_id])
        if record is None:
            raise NotFound("job", job_id)
        return record

    def newest(self, limit: int) -> list[JobRecord]:
        """The newest jobs first."""
        ids: list[str] = self._reach(lambda: self._client.zrange(keys.JOBS, 0, limit - 1, desc=True))
        return [record for record in self.records(ids) if record is not None]

    def records(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        """These jobs as they stand, in one round trip; None for one that is not there (any more)."""

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
        now, announced, *found = self._reach(read)
        requests = requests_by_job(announced, now)
        return [
            _record(job, ledger, requests.get(job["id"], 0)) if job else None
            for job, ledger in zip(found[::2], found[1::2], strict=True)
        ]

    def running(self) -> list[Running]:
        """All jobs that a worker holds, those that have run longest first."""
        ids: list[str] = self._reach(lambda: self._client.zrange(keys.LEASES, 0, -1))

        def read() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            pipe.time()
            pipe.hgetall(keys.REQUESTS)
            for job_id in ids:
                pipe.hmget(keys.job(job_id), "state", "batch", "started_ms", "owner")
                pipe.hmget(keys.job(job_id, "ledger"), "spent_nanousd", "spent_tokens")
            return list(pipe.execute())

        if not ids:
            return []
        now, announced, *found = self._reach(read)
        requests = requests_by_job(announced, now)
        running = [
            _running(job_id, job, ledger, requests.get(job_id, 0))
            for job_id, job, ledger in zip(ids, found[::2], found[1::2], strict=True)
            if job[0] == JobState.RUNNING
        ]
        return sorted(running, key=lambda job: job.started_ms)

    def start(self, job_id: str, owner: str, lease_ms: int, isolation: str = "none") -> int | None:
        """Take up a queued job, or one whose holder let its lease lapse; returns the new epoch.

        ``isolation`` says how this worker holds model-written code.

        None where the job is final, cancelled, paused or held by a live lease. A job whose lease lapsed more
        than ``MAX_RECOVERIES`` times is ended as failed.
        """
        token = uuid.uuid4().hex
        args = (owner, lease_ms, token, CANCELLED, self._retention_ms, MAX_RECOVERIES, _POISON, isolation)
        return fenced(self._script("job_start", keys.job_keys(job_id), *args), job_id) or None

    def renew(
        self, job_id: str, epoch: int, lease_ms: int, stopped_ms: int = 0
    ) -> Literal["ok", "cancelled", "paused"]:
        """Keep a job that this worker holds, and hear whether it is to stop.

        For ``stopped_ms`` since the last time its clock stood still.

        Raises:
            Superseded: where another worker holds it, or it has ended.
        """
        reply = self._script("job_renew", keys.job_keys(job_id), epoch, lease_ms, stopped_ms)
        return "cancelled" if reply == "CANCELLED" else fenced(reply, job_id, epoch)

    def park(self, job_id: str, epoch: int) -> bool:
        """Give a job that this worker holds back to the queue; True where a message is to be sent for it."""
        return bool(fenced(self._script("job_park", keys.job_keys(job_id), epoch), job_id) == 1)

    def finish(self, job_id: str, epoch: int, outcome: Outcome) -> bool:
        """End a job; False where it had ended or another worker holds it."""
        args = (epoch, outcome.state, _stored(outcome), self._retention_ms)
        return bool(fenced(self._script("job_finish", keys.job_keys(job_id), *args), job_id))

    def end_stalled(self, batch_id: str, stalled_s: float) -> list[str]:
        """End the jobs of a batch as failed that run and have not moved for so long; returns their ids.

        Their workers write nothing more, and their calls under way are given up.
        """
        error = ErrorInfo(type="stalled", message=f"it did not move for {stalled_s:g} s, and was ended")
        outcome = Outcome(state=JobState.FAILED, error=error)
        event = JobEnded(state=outcome.state, answer=None, error=error, iterations=0)
        args = (int(stalled_s * 1000), _stored(outcome), self._retention_ms, _stored(event))
        ids = [job.job_id for job in self.running() if job.batch_id == batch_id]
        replies = self._scripts_at_once("job_stall", [(keys.job_keys(job_id), args) for job_id in ids])
        return [job_id for job_id, reply in zip(ids, replies, strict=True) if reply == 1]

    def cancel(self, job_id: str) -> JobState:
        """Cancel a job: at once where nobody runs it, else when its worker next renews; a final one stays."""
        reply = self._script("job_cancel", keys.job_keys(job_id), CANCELLED, self._retention_ms)
        return JobState(fenced(reply, job_id))

    def wait(self, job_id: str, timeout_s: float | None) -> JobRecord:
        """Block until the job is final, or the time is over; returns the job as it then stands."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            record = self.get(job_id)
            left_s = MAX_BLOCK_MS / 1000 if deadline is None else deadline - time.monotonic()
            if record.state.final or left_s <= 0:
                return record
            block_ms = max(1, min(MAX_BLOCK_MS, int(left_s * 1000)))
            done = {keys.job(job_id, "done"): "0"}
            self._reach(partial(self._client.xread, done, block=block_ms))

    def lapsed(self, limit: int) -> list[str]:
        """Running jobs whose lease has lapsed; each is told once, and from then on counts as waiting."""
        return list(self._script("lapsed", [keys.LEASES, keys.QUEUED], limit))

    def waiting(self, waiting_ms: int, limit: int) -> list[str]:
        """Jobs that wait for longer than ``waiting_ms``; each is told to one caller in that time."""
        return list(self._script("waiting", [keys.QUEUED], waiting_ms, limit))

    def use_blob(self, job_id: str, sha256: str) -> None:
        """Keep a stored text until the job has ended and its retention is over."""
        fenced(self._script("job_blob", keys.job_keys(job_id), keys.blob(sha256)), job_id)

    def note_divergence(self, job_id: str, epoch: int, cells: int) -> None:
        """Say how many cells of this run came out otherwise than the journal says.

        Raises:
            Superseded: where another worker holds the job, or it has ended.
        """
        fenced(self._script("job_diverged", keys.job_keys(job_id), epoch, cells), job_id, epoch)

    def note_cache_hits(self, job_id: str, n: int) -> None:
        """Count calls that were answered from the store."""
        fenced(self._script("job_count", keys.job_keys(job_id), uuid.uuid4().hex, "cache_hits", n), job_id)

    def costs(self, job_id: str) -> Costs:
        """What the job has used so far."""
        return read_costs(self._ledger(job_id))

    def model_costs(self, job_id: str) -> list[ModelCosts]:
        """What the job has used so far, by role and model."""
        return read_model_costs(self._ledger(job_id))

    def _ledger(self, job_id: str) -> dict[str, str]:
        return dict(self._reach(lambda: self._client.hgetall(keys.job(job_id, "ledger"))))


def _running(job_id: str, job: Sequence[str | None], ledger: Sequence[str | None], requests: int) -> Running:
    _, batch, started_ms, owner = job
    nanousd, tokens = (int(value or 0) for value in ledger)
    return Running(
        job_id=job_id,
        batch_id=batch.removeprefix(keys.batch("")) if batch else None,
        started_ms=int(started_ms or 0),
        worker=owner or "",
        calls_in_flight=requests,
        nanousd=nanousd,
        tokens=tokens,
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
        costs=read_costs(ledger),
    )
