"""``rlm-dist list``: batches and jobs, page by page."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from rlm_dist.cli import options
from rlm_dist.cli.batch_view import tags_text
from rlm_dist.cli.output import Output, duration, money, table
from rlm_dist.cli.session import open_stores
from rlm_dist.cli.status import find_batch
from rlm_dist.client.tags import parse_tags
from rlm_dist.errors import InputError
from rlm_dist.operations.progress import ended
from rlm_dist.schema import BatchRecord, BatchState, JobState
from rlm_dist.schema.lists import BatchPage, JobOrder, JobPage, JobRow
from rlm_dist.settings import load_settings

_MOST_ROWS = 10_000
State = TypeVar("State", bound=StrEnum)


class ListKind(StrEnum):
    """What is listed."""

    BATCHES = "batches"
    JOBS = "jobs"


def list_(
    kind: Annotated[
        ListKind | None, typer.Argument(metavar="[batches|jobs]", help="[default: batches]")
    ] = None,
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    batch: Annotated[str | None, typer.Option(metavar="ID", help="The jobs of this batch.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only with this tag; may be repeated.")
    ] = None,
    sort: Annotated[
        JobOrder | None, typer.Option(help="Order of a batch's jobs; any but index lists ended ones.")
    ] = None,
    descending: Annotated[bool, typer.Option("--descending", help="The largest first.")] = False,
    reason: Annotated[
        str | None, typer.Option(help="A batch's jobs that ended without an answer for this reason.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=_MOST_ROWS, help="Rows of a page.")] = 50,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Begin after an earlier page, which printed it.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List batches or jobs, the newest first; the jobs of a batch by line or in another order."""
    out = Output(as_json=as_json)
    tags = parse_tags(tag or ())
    kind = kind or (ListKind.JOBS if batch else ListKind.BATCHES)
    if batch is None and (sort or descending or reason):
        raise InputError(("--sort, --descending and --reason are for the jobs of a batch: add --batch",))
    if batch is not None and (tags or kind is ListKind.BATCHES):
        raise InputError(
            ("--batch lists the jobs of one batch, which share its tags: leave out batches and --tag",)
        )
    if reason is not None and (state or sort):
        raise InputError(("--reason: cannot be combined with --state or --sort",))
    page: BatchPage | JobPage
    with open_stores(load_settings()) as (store, _):
        if kind is ListKind.BATCHES:
            of = _state(BatchState, state)
            page = store.listings.batches(state=of, tags=tags, after=after, limit=limit)
            lines = batch_rows(page.rows)
        elif batch is None:
            page = store.listings.jobs(state=_state(JobState, state), tags=tags, after=after, limit=limit)
            lines = job_rows(page.rows)
        else:
            page = store.lists.page(
                find_batch(store, batch).id, state=_state(JobState, state), reason=reason,
                order=sort or JobOrder.INDEX, descending=descending, after=after, limit=limit,
            )  # fmt: skip
            lines = job_rows(page.rows)
    out.result(page, lambda: lines if page.rows else [f"no {kind}"])
    if page.next:
        out.note(f"there are more; continue with --after {page.next}")


def _state(states: type[State], name: str | None) -> State | None:
    """The state with this name.

    Raises:
        InputError: if there is none.
    """
    try:
        return None if name is None else states(name)
    except ValueError:
        raise InputError((f"--state: must be one of {', '.join(states)}",)) from None


def batch_rows(batches: tuple[BatchRecord, ...]) -> Iterator[str]:
    """Batches as a table."""
    head = ("BATCH", "STATE", "JOBS", "ENDED", "COST", "TAGS")
    rows = [
        (
            batch.id, str(batch.state), str(batch.total or "?"), str(ended(batch)),
            money(batch.costs.total_cost), tags_text(batch.tags) or "-",
        )
        for batch in batches
    ]  # fmt: skip
    return table([head, *rows])


def job_rows(jobs: tuple[JobRow, ...]) -> Iterator[str]:
    """Jobs as a table."""
    head = ("JOB", "NAME", "BATCH", "STATE", "REASON", "TURNS", "CALLS", "RAN", "COST", "TAGS")
    rows = [
        (
            job.id, job.custom_id[:40], job.batch_id or "-", str(job.state), job.reason or "-",
            str(job.turns), str(job.sub_calls), "-" if job.run_ms is None else duration(job.run_ms / 1000),
            money(job.costs.total_cost), tags_text(job.tags) or "-",
        )
        for job in jobs
    ]  # fmt: skip
    return table([head, *rows])
