"""``rlm-dist status`` and ``cost``: the progress of a job or batch, and what it used."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.batch_view import batch_lines, brief_line, used
from rlm_dist.cli.limit_lines import limit_lines
from rlm_dist.cli.output import FAILED, NOT_ISOLATED, Output, money, table
from rlm_dist.cli.session import open_stores
from rlm_dist.errors import NotFound
from rlm_dist.operations.pace import Pace
from rlm_dist.operations.progress import ENDED_STATES, BatchView, ended, view
from rlm_dist.operations.trace_text import calls, cost_lines
from rlm_dist.schema import BatchRecord, Costs, JobRecord, ModelCosts
from rlm_dist.schema.limits import ScopeState
from rlm_dist.settings import load_settings
from rlm_dist.store import Audit, Store

_LIST_ROWS = 20
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
    """Show one job or batch, or list the newest of both."""
    out = Output(as_json=as_json)
    with open_stores(load_settings()) as (store, _):
        if id_ is None:
            batches, jobs = store.batches.newest(_LIST_ROWS), store.jobs.newest(_LIST_ROWS)
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
            scopes = _scopes(store, record)
            out.result({**job_document(record), "endpoints": scopes}, partial(job_lines, record, scopes))
        else:
            snapshot = view(store, record, pace)
            out.result(batch_document(record, snapshot), partial(batch_lines, record, snapshot))


def cost(
    id_: options.JobOrBatch,
    check: Annotated[
        bool, typer.Option("--check", help="Recompute the sums from the single charges.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show calls, tokens and money of a job or batch by role and model."""
    with open_stores(load_settings()) as (store, _):
        record = find(store, id_)
        is_batch = isinstance(record, BatchRecord)
        by_model = store.batches.model_costs(id_) if is_batch else store.jobs.model_costs(id_)
        audit = _audit(store, record) if check else None
    document = {"id": id_, "state": record.state, "costs": record.costs, "models": by_model}
    if audit is None:
        Output(as_json=as_json).result(document, lambda: _cost_lines(record.costs, by_model))
        return
    document["check"] = {
        "charges": audit.charges,
        "differences": [difference._asdict() for difference in audit.differences],
    }
    Output(as_json=as_json).result(
        document, lambda: [*_cost_lines(record.costs, by_model), *audit_lines(audit)]
    )
    if audit.differences:
        raise typer.Exit(FAILED)


def find(store: Store, id_: str) -> JobRecord | BatchRecord:
    """The job or batch with this id.

    Raises:
        NotFound: if there is neither.
    """
    for get in (store.jobs.get, store.batches.get):
        try:
            return get(id_)
        except NotFound:
            continue
    raise NotFound("job or batch", id_)


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


def _watch(store: Store, id_: str, pace: Pace, out: Output) -> None:
    """Show a job or batch until it has ended, or until Ctrl-C."""
    with suppress(KeyboardInterrupt), out.panel(every_s=_LINE_S) as show:
        while True:
            record = find(store, id_)
            if isinstance(record, JobRecord):
                show("\n".join(job_lines(record, _scopes(store, record))))
            else:
                snapshot = view(store, record, pace)
                show("\n".join(batch_lines(record, snapshot)) if out.live else brief_line(record, snapshot))
            if record.state.final if isinstance(record, JobRecord) else record.state in ENDED_STATES:
                return
            time.sleep(_LOOK_S)


def _isolations(store: Store, record: JobRecord | BatchRecord) -> set[str | None]:
    """How the job is isolated, or the first jobs of the batch."""
    if isinstance(record, JobRecord):
        return {record.isolation}
    first = store.jobs.records(store.batches.job_ids(record.id, 0, _LIST_ROWS))
    return {job.isolation for job in first if job}


def _scopes(store: Store, record: JobRecord) -> list[ScopeState]:
    """The endpoints and models that may hold the job up; none if it has ended."""
    return [] if record.state.final else store.limits.scopes()


def _cost_lines(costs: Costs, by_model: list[ModelCosts]) -> Iterator[str]:
    root, sub = money(costs.root_llm_cost), money(costs.sub_llm_cost)
    yield f"total {money(costs.total_cost)}: root {root}, sub {sub}"
    yield from cost_lines(by_model)
    yield (
        f"  {costs.cache_hits} answered from the store, {costs.failed_calls} failed, "
        f"{costs.truncated_calls} cut off at the output limit, "
        f"{costs.duplicate_paid_calls} paid twice, {costs.estimated_calls} with estimated tokens"
    )
    if costs.pending_calls:
        yield f"  {calls(costs.pending_calls)} still under way: their costs will be added"


def _audit(store: Store, record: JobRecord | BatchRecord) -> Audit:
    if isinstance(record, BatchRecord):
        return store.audits.batch(record.id, record.state)
    return store.audits.job(record.spec.id)


def audit_lines(audit: Audit) -> Iterator[str]:
    """The result of a check, as text."""
    if not audit.differences:
        yield f"  checked: {calls(audit.charges, 'charge')} add up to these sums"
    for ledger, field, total, recomputed in audit.differences:
        yield f"  wrong: {field} of {ledger} is {total:,}, but should be {recomputed:,}"


def _short(text: str, chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else f"{line[: chars - 1]}…"
