"""``rlm-dist cost``: what a job or batch used, or what all of them used by tag."""

from collections.abc import Iterator
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.output import FAILED, Output, money, table
from rlm_dist.cli.session import open_stores
from rlm_dist.cli.status import find
from rlm_dist.errors import InputError
from rlm_dist.operations.plots import check_plot, plot_costs
from rlm_dist.operations.trace_text import calls, cost_lines
from rlm_dist.schema import BatchRecord, Costs, JobRecord, ModelCosts
from rlm_dist.schema.lists import TagCosts
from rlm_dist.settings import load_settings
from rlm_dist.store import Audit, Store

_MOST_DRAWN = 200_000


def cost(
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="The id of a job or of a batch.")] = None,
    by: Annotated[
        str | None, typer.Option(metavar="tag[:NAME]", help="All batches and single jobs, by their tags.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Recompute the sums from the single charges.")
    ] = False,
    plot: options.Plot = None,
    as_json: options.Json = False,
) -> None:
    """Show calls, tokens and money of a job or batch by role and model, or of all of them by tag."""
    if (id_ is None) == (by is None) or (check and by is not None):
        raise InputError(("cost: give the id of a job or batch, with or without --check, or --by tag alone",))
    if plot is not None:
        check_plot(plot)
    if id_ is None and plot is not None:
        raise InputError(("--plot draws one job or batch: give its id, and not --by",))
    if id_ is None:
        _by_tag(by or "", Output(as_json=as_json))
        return
    with open_stores(load_settings()) as (store, _):
        record = find(store, id_)
        if isinstance(record, BatchRecord):
            id_, by_model = record.id, store.batches.model_costs(record.id)
        else:
            id_, by_model = record.spec.id, store.jobs.model_costs(record.spec.id)
        audit = _audit(store, record) if check else None
        if plot is not None:
            ended = store.batches.last_ended(id_, _MOST_DRAWN) if isinstance(record, BatchRecord) else []
            plot_costs(plot, f"{id_}: {money(record.costs.total_cost)}", by_model, ended)
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


def _by_tag(by: str, out: Output) -> None:
    word, colon, tag = by.partition(":")
    if word != "tag" or (colon and not tag):
        raise InputError(("--by: must be tag, or tag:NAME for one tag",))
    with open_stores(load_settings()) as (store, _):
        rows = store.listings.costs_by_tag(tag or None)
    out.result({"by": by, "rows": rows}, lambda: list(tag_lines(rows)))


def tag_lines(rows: list[TagCosts]) -> Iterator[str]:
    """Costs by tag as a table."""
    if not rows:
        yield "nothing has a tag, or nothing has been submitted yet"
        return
    head = ("TAG", "VALUE", "BATCHES", "SINGLE JOBS", "CALLS", "TOKENS", "COST")
    yield from table([head, *map(_tag_row, rows)])


def _tag_row(row: TagCosts) -> tuple[str, ...]:
    costs = row.costs
    return (
        row.tag,
        "(none)" if row.value is None else row.value,
        f"{row.batches:,}",
        f"{row.single_jobs:,}",
        f"{costs.root_llm_calls + costs.sub_llm_calls:,}",
        f"{costs.root_llm_tokens + costs.sub_llm_tokens:,}",
        money(costs.total_cost),
    )


def _cost_lines(costs: Costs, by_model: list[ModelCosts]) -> Iterator[str]:
    root, sub = money(costs.root_llm_cost), money(costs.sub_llm_cost)
    yield f"total {money(costs.total_cost)}: root {root}, sub {sub}"
    yield from cost_lines(by_model)
    yield (
        f"  {costs.cache_hits} answered from the store, {costs.failed_calls} failed, "
        f"{costs.truncated_calls} cut off at the output limit, "
        f"{costs.duplicate_paid_calls} paid twice, {costs.estimated_calls} with estimated tokens"
    )
    if costs.tool_calls:
        yield f"  {calls(costs.tool_calls, 'call')} of tools"
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
