"""``rlm-dist status``: the progress of a job or batch."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.batch_view import batch_lines, brief_line, tags_text, used
from rlm_dist.cli.limit_lines import limit_lines
from rlm_dist.cli.output import NOT_ISOLATED, Output, money, table
from rlm_dist.cli.session import note_missing_workers, open_stores
from rlm_dist.errors import InputError, NotFound, Unreachable
from rlm_dist.one_line import one_line
from rlm_dist.operations.pace import Pace
from rlm_dist.operations.progress import ENDED_STATES, BatchView, ended, view
from rlm_dist.operations.trace_text import calls
from rlm_dist.schema import BatchRecord, BatchState, JobRecord, JobState
from rlm_dist.schema.limits import ScopeState
from rlm_dist.settings import load_settings
from rlm_dist.store import Store

_LIST_ROWS = 20
_SHOWN_NAMES = 10
_LOOK_S = 1.0
_LINE_S = 10.0  # between two lines of progress if there is no terminal


def status(
    id_: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="A job or a batch. [default: list the newest of both]"),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it until it has ended.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show one job or batch, or list the newest, running ones first; --watch alone shows the newest one."""
    out = Output(as_json=as_json)
    with open_stores(load_settings()) as (store, _):
        if id_ is None and watch:
            id_ = _newest(store)
        if id_ is None:
            batches, jobs = _running_first(store)
            document = {
                "batches": [batch_document(batch) for batch in batches],
                "jobs": [job_document(job) for job in jobs],
            }
            out.result(document, lambda: list_lines(batches, jobs))
            return
        pace = Pace()
        if watch:
            _watch(store, id_, pace, out)
        record = find(store, id_)
        if "none" in _isolations(store, record):
            out.note(NOT_ISOLATED)
        if isinstance(record, JobRecord):
            if not record.state.final:
                note_missing_workers(store, out)
            scopes = _scopes(store, record)
            out.result({**job_document(record), "endpoints": scopes}, partial(job_lines, record, scopes))
        else:
            snapshot = view(store, record, pace)
            out.result(batch_document(record, snapshot), partial(batch_lines, record, snapshot))


def find(store: Store, id_: str) -> JobRecord | BatchRecord:
    """The job or batch with this id, or the job with this name; ``BATCH/NAME`` is a job of one batch.

    Raises:
        NotFound: if there is none.
        InputError: if several jobs have the name.
    """
    for get in (store.jobs.get, store.batches.get):
        try:
            return get(id_)
        except NotFound:
            continue
    job = _named_job(store, id_)
    if job is None:
        raise NotFound("job or batch", id_)
    return job


def _named_job(store: Store, name: str) -> JobRecord | None:
    """The job with this name, in whatever batch, or the one named by ``BATCH/NAME``."""
    batch, slash, within = name.partition("/")
    found = store.lists.named(within, [batch]) if slash else []
    found = found or store.lists.named(name)
    if len(found) > 1:
        shown = ", ".join(one_line(f"{batch_id}/{name}") for batch_id, _ in found[:_SHOWN_NAMES])
        more = ", …" if len(found) > _SHOWN_NAMES else ""
        raise InputError((f"{one_line(name)}: several batches have a job of this name: {shown}{more}",))
    return store.jobs.get(found[0][1]) if found else None


def find_batch(store: Store, id_: str) -> BatchRecord:
    """The batch with this id.

    Raises:
        InputError: if it is the id or the name of a job.
        NotFound: if there is no such batch.
    """
    try:
        return store.batches.get(id_)
    except NotFound:
        (job,) = store.jobs.records([id_])
        job = job or _named_job(store, id_)
        if job is None:
            raise
        within = f" of batch {job.spec.batch_id}" if job.spec.batch_id else ""
        raise InputError((f"{id_} is a job{within}, not a batch",)) from None


def find_job(store: Store, id_: str) -> JobRecord:
    """The job with this id.

    Raises:
        InputError: if it is the id of a batch.
        NotFound: if there is no such job.
    """
    try:
        return store.jobs.get(id_)
    except NotFound:
        (batch,) = store.batches.records([id_])
        if batch is None:
            job = _named_job(store, id_)
            if job is None:
                raise
            return job
        raise InputError(
            (f"{id_} is a batch, not a job; rlm-dist list --batch {id_} lists its jobs",)
        ) from None


def job_document(record: JobRecord) -> dict[str, object]:
    """A job as ``status --json`` shows it."""
    outcome = record.outcome
    return {
        "kind": "job",
        "id": record.spec.id,
        "custom_id": record.spec.custom_id,
        "batch_id": record.spec.batch_id,
        "state": record.state,
        "cancel_requested": record.cancel_requested,
        "worker": record.owner,
        "times_started": record.epoch,
        "diverged_cells": record.diverged_cells,
        "isolation": record.isolation,
        "iterations": outcome.iterations if outcome else None,
        "error": outcome.error if outcome else None,
        "queued_ms": record.queued_ms,
        "started_ms": record.started_ms,
        "ended_ms": record.ended_ms,
        "calls_in_flight": record.calls_in_flight,
        "tags": record.spec.tags,
        "costs": record.costs,
    }


def batch_document(record: BatchRecord, snapshot: BatchView | None = None) -> dict[str, object]:
    """A batch as ``status --json`` shows it; a list has no snapshots."""
    return {"kind": "batch", **record.model_dump(), **(snapshot.model_dump() if snapshot else {})}


def job_lines(record: JobRecord, scopes: Sequence[ScopeState] = ()) -> Iterator[str]:
    """A job as text, with the workers' current view of the endpoints."""
    within = f" of batch {record.spec.batch_id}" if record.spec.batch_id else ""
    yield f"job {record.spec.id}{within}: {record.state}" + (
        ", cancellation requested" if record.cancel_requested and not record.state.final else ""
    )
    yield f"  query   {_short(record.spec.query, 100)}"
    if record.owner:
        starts = f", started {record.epoch} times" if record.epoch > 1 else ""
        yield f"  worker  {record.owner}{starts}"
    if record.diverged_cells:
        yield f"  replay  {calls(record.diverged_cells, 'code block')} gave a different result when run again"
    if record.spec.tags:
        yield f"  tags    {tags_text(record.spec.tags)}"
    if record.isolation:
        yield f"  sandbox {record.isolation}"
    if record.outcome and record.outcome.error:
        yield f"  error   {record.outcome.error.type}: {record.outcome.error.message}"
    yield f"  used    {used(record.costs)}; {money(record.costs.total_cost)}"
    for line in limit_lines(scopes):
        yield f"  model   {line}"


def list_lines(batches: list[BatchRecord], jobs: list[JobRecord]) -> Iterator[str]:
    """Batches and jobs as tables."""
    if not batches and not jobs:
        yield "nothing has been submitted yet"
        return
    if batches:
        head = ("BATCH", "STATE", "JOBS", "ENDED", "COST")
        rows = [
            (
                batch.id,
                str(batch.state),
                str(batch.total or "?"),
                str(ended(batch)),
                money(batch.costs.total_cost),
            )
            for batch in batches
        ]
        yield from table([head, *rows])
    if batches and jobs:
        yield ""
    if jobs:
        head = ("JOB", "STATE", "BATCH", "COST", "QUERY")
        rows = [
            (
                job.spec.id,
                str(job.state),
                job.spec.batch_id or "-",
                money(job.costs.total_cost),
                _short(job.spec.query, 40),
            )
            for job in jobs
        ]
        yield from table([head, *rows])


def _newest(store: Store) -> str | None:
    """The id of the batch or single job that was submitted last."""
    jobs = [job for job in store.jobs.newest(_LIST_ROWS) if job.spec.batch_id is None][:1]
    times = {job.spec.id: job.queued_ms for job in jobs}
    times |= {batch.id: batch.created_ms for batch in store.batches.newest(1)}
    return max(times, key=lambda id_: times[id_], default=None)


def _running_first(store: Store) -> tuple[list[BatchRecord], list[JobRecord]]:
    """The newest batches and jobs, and all that run, which come first."""
    batches = sorted(
        store.batches.newest(_LIST_ROWS), key=lambda batch: batch.state is not BatchState.RUNNING
    )
    running = [job.job_id for job in store.jobs.running()[-_LIST_ROWS:]]
    jobs = {job.spec.id: job for job in store.jobs.records(running[::-1]) if job}
    jobs |= {job.spec.id: job for job in store.jobs.newest(_LIST_ROWS)}
    by_state = sorted(jobs.values(), key=lambda job: job.state is not JobState.RUNNING)
    return batches, by_state[:_LIST_ROWS]


def _watch(store: Store, id_: str, pace: Pace, out: Output) -> None:
    """Show a job or batch until it has ended, or until Ctrl-C."""
    with suppress(KeyboardInterrupt), out.panel(every_s=_LINE_S) as show:
        while True:
            try:
                record = find(store, id_)
                show(_progress(store, record, pace, live=out.live))
            except Unreachable as error:  # it may be starting again
                show(str(error))
            else:
                if record.state.final if isinstance(record, JobRecord) else record.state in ENDED_STATES:
                    return
            time.sleep(_LOOK_S)


def _progress(store: Store, record: JobRecord | BatchRecord, pace: Pace, *, live: bool) -> str:
    """What a watch shows: all of it on a terminal, else a line for a batch."""
    if isinstance(record, JobRecord):
        return "\n".join(job_lines(record, _scopes(store, record)))
    snapshot = view(store, record, pace)
    return "\n".join(batch_lines(record, snapshot)) if live else brief_line(record, snapshot)


def _isolations(store: Store, record: JobRecord | BatchRecord) -> set[str | None]:
    """How the job is isolated, or the first jobs of the batch."""
    if isinstance(record, JobRecord):
        return {record.isolation}
    first = store.jobs.records(store.batches.job_ids(record.id, 0, _LIST_ROWS))
    return {job.isolation for job in first if job}


def _scopes(store: Store, record: JobRecord) -> list[ScopeState]:
    """The endpoints and models that may hold the job up; none if it has ended."""
    return [] if record.state.final else store.limits.scopes()


def _short(text: str, chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else f"{line[: chars - 1]}…"
