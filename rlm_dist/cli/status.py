"""``rlm-dist status`` and ``cost``: how far a job or batch is, and what it took."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.batch_view import (
    ENDED_STATES,
    BatchView,
    batch_lines,
    brief_line,
    ended,
    used,
    view,
)
from rlm_dist.cli.limit_lines import limit_lines
from rlm_dist.cli.output import FAILED, Output, money, table
from rlm_dist.cli.pace import Pace
from rlm_dist.cli.session import open_stores
from rlm_dist.errors import NotFound
from rlm_dist.operations.trace_text import calls, cost_lines
from rlm_dist.schema import BatchRecord, Costs, JobRecord, ModelCosts
from rlm_dist.schema.limits import ScopeState
from rlm_dist.settings import load_settings
from rlm_dist.store import Audit, Store

_LISTED = 20
_LOOK_S = 1.0
_SAID_S = 10.0  # where there is no terminal, and what is said stays


def status(
    id_: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A job or a batch. [default: the newest of both]")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep looking until it has ended.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show one job or batch, or the newest of both."""
    out = Output(as_json=as_json)
    with open_stores(load_settings()) as (store, _):
        if id_ is None:
            batches, jobs = store.batches.newest(_LISTED), store.jobs.newest(_LISTED)
            document = {
                "batches": [batch_document(batch) for batch in batches],
                "jobs": [job_document(job) for job in jobs],
            }
            out.result(document, lambda: list_lines(batches, jobs))
            return
        pace = Pace()
        if watch:
            _watch(store, id_, pace, out)
        found = find(store, id_)
        if isinstance(found, JobRecord):
            places = _places(store, found)
            out.result({**job_document(found), "endpoints": places}, partial(job_lines, found, places))
        else:
            seen = view(store, found, pace)
            out.result(batch_document(found, seen), partial(batch_lines, found, seen))


def cost(
    id_: options.JobOrBatch,
    check: Annotated[
        bool, typer.Option("--check", help="Recompute the sums from every single charge.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show calls, tokens and money of a job or batch by role and model."""
    with open_stores(load_settings()) as (store, _):
        found = find(store, id_)
        is_batch = isinstance(found, BatchRecord)
        by_model = store.batches.model_costs(id_) if is_batch else store.jobs.model_costs(id_)
        audit = _audit(store, found) if check else None
    document = {"id": id_, "state": found.state, "costs": found.costs, "models": by_model}
    if audit is None:
        Output(as_json=as_json).result(document, lambda: _cost_lines(found.costs, by_model))
        return
    document["check"] = {
        "charges": audit.charges,
        "differences": [difference._asdict() for difference in audit.differences],
    }
    Output(as_json=as_json).result(
        document, lambda: [*_cost_lines(found.costs, by_model), *audit_lines(audit)]
    )
    if audit.differences:
        raise typer.Exit(FAILED)


def find(store: Store, id_: str) -> JobRecord | BatchRecord:
    """The job or batch of this id.

    Raises:
        NotFound: where there is neither.
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


def batch_document(record: BatchRecord, seen: BatchView | None = None) -> dict[str, object]:
    """A batch as ``status --json`` shows it; more is told of one alone than in a list."""
    return {"kind": "batch", **record.model_dump(), **(seen.model_dump() if seen else {})}


def job_lines(record: JobRecord, places: Sequence[ScopeState] = ()) -> Iterator[str]:
    """A job as text, with what the workers believe of the endpoints."""
    within = f" of batch {record.spec.batch_id}" if record.spec.batch_id else ""
    yield f"job {record.spec.id}{within}: {record.state}" + (
        ", cancellation asked for" if record.cancel_requested and not record.state.final else ""
    )
    yield f"  query   {_short(record.spec.query, 100)}"
    if record.owner:
        again = f", started {record.epoch} times" if record.epoch > 1 else ""
        yield f"  worker  {record.owner}{again}"
    if record.diverged_cells:
        yield f"  replay  {calls(record.diverged_cells, 'code block')} came out otherwise when run again"
    if record.isolation:
        yield f"  sandbox {record.isolation}"
    if record.outcome and record.outcome.error:
        yield f"  error   {record.outcome.error.type}: {record.outcome.error.message}"
    yield f"  used    {used(record.costs)}; {money(record.costs.total_cost)}"
    for line in limit_lines(places):
        yield f"  model   {line}"


def list_lines(batches: list[BatchRecord], jobs: list[JobRecord]) -> Iterator[str]:
    """Batches and jobs as tables."""
    if not batches and not jobs:
        yield "nothing has been submitted yet"
        return
    if batches:
        head = ("BATCH", "STATE", "JOBS", "ENDED", "COST")
        rows = [
            (each.id, str(each.state), str(each.total or "?"), str(ended(each)), money(each.costs.total_cost))
            for each in batches
        ]
        yield from table([head, *rows])
    if batches and jobs:
        yield ""
    if jobs:
        head = ("JOB", "STATE", "BATCH", "COST", "QUERY")
        rows = [
            (
                each.spec.id,
                str(each.state),
                each.spec.batch_id or "-",
                money(each.costs.total_cost),
                _short(each.spec.query, 40),
            )
            for each in jobs
        ]
        yield from table([head, *rows])


def _watch(store: Store, id_: str, pace: Pace, out: Output) -> None:
    """Show a job or batch until it has ended, or Ctrl-C."""
    with suppress(KeyboardInterrupt), out.panel(every_s=_SAID_S) as show:
        while True:
            found = find(store, id_)
            if isinstance(found, JobRecord):
                show("\n".join(job_lines(found, _places(store, found))))
            else:
                seen = view(store, found, pace)
                show("\n".join(batch_lines(found, seen)) if out.live else brief_line(found, seen))
            if found.state.final if isinstance(found, JobRecord) else found.state in ENDED_STATES:
                return
            time.sleep(_LOOK_S)


def _places(store: Store, record: JobRecord) -> list[ScopeState]:
    """What holds a job up that has not ended."""
    return [] if record.state.final else store.limits.scopes()


def _cost_lines(costs: Costs, by_model: list[ModelCosts]) -> Iterator[str]:
    root, sub = money(costs.root_llm_cost), money(costs.sub_llm_cost)
    yield f"total {money(costs.total_cost)}: root {root}, sub {sub}"
    yield from cost_lines(by_model)
    yield (
        f"  {costs.cache_hits} answered from the store, {costs.failed_calls} failed, "
        f"{costs.duplicate_paid_calls} paid twice, {costs.estimated_calls} with estimated tokens"
    )


def _audit(store: Store, found: JobRecord | BatchRecord) -> Audit:
    if isinstance(found, BatchRecord):
        return store.audits.batch(found.id, found.state)
    return store.audits.job(found.spec.id)


def audit_lines(audit: Audit) -> Iterator[str]:
    """What came of a check, as text."""
    if not audit.differences:
        yield f"  checked: {calls(audit.charges, 'charge')} add up to these sums"
    for one in audit.differences:
        yield f"  wrong: {one.field} of {one.ledger} is {one.total:,}, and should be {one.recomputed:,}"


def _short(text: str, chars: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else f"{line[: chars - 1]}…"
