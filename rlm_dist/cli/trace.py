"""``rlm-dist trace``: what one job did, turn by turn; as a page, also of each job of a batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.cli import options
from rlm_dist.cli.output import Output, money
from rlm_dist.cli.session import open_stores
from rlm_dist.cli.status import find, find_job
from rlm_dist.errors import InputError
from rlm_dist.operations.trace_text import calls, child_lines, cost_lines, trace_lines
from rlm_dist.operations.viewer.trace_page import MOST_CHILDREN, write_batch, write_job
from rlm_dist.schema import BatchRecord, JobRecord, ModelCosts
from rlm_dist.settings import load_settings
from rlm_dist.store import Store
from rlm_dist.store.trace import TracedEvent, read_trace


def trace(
    job: Annotated[
        str,
        typer.Argument(metavar="JOB", help="The id or the name of a job; with --html, also a batch's id."),
    ],
    as_json: options.Json = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write a page: a file for a job, a folder of files for a batch."),
    ] = None,
    no_content: Annotated[
        bool,
        typer.Option("--no-content", help="Leave queries, prompts, outputs and answers out of the page."),
    ] = False,
) -> None:
    """Show the trajectory of a job: messages, code, outputs, sub-calls, times and costs."""
    out = Output(as_json=as_json)
    if no_content and html is None:
        raise InputError(("--no-content is an option of pages: give --html PATH too",))
    with open_stores(load_settings()) as (store, payloads):
        if html is not None:
            written = _write(html, store, payloads, job, content=not no_content)
            out.result(
                {"id": job, "path": str(html), "jobs": written},
                lambda: [f"{calls(written, 'page')} written to {html}"],
            )
            return
        record = find_job(store, job)
        job = record.spec.id
        by_model = store.jobs.model_costs(job)
        events = list(read_trace(store.journals, job, payloads))
        children = store.children.of(job, MOST_CHILDREN)
        more = store.children.count(job) - len(children)
    document = {
        "id": job,
        "state": record.state,
        "query": record.spec.query,
        "costs": record.costs,
        "models": by_model,
        "parent_id": record.spec.parent_id,
        "children": children,
        "events": [
            {"at_ms": traced.at_ms, **traced.event.model_dump(exclude={"call_ids"})} for traced in events
        ],
    }
    out.result(document, lambda: _lines(record, events, by_model, child_lines(children, more)))


def _write(path: Path, store: Store, payloads: Payloads, name: str, *, content: bool) -> int:
    """Write the page of a job, or those of a batch and their index; return the number of jobs."""
    record = find(store, name)
    if isinstance(record, BatchRecord):
        return write_batch(path, store, payloads, record.id, content=content)
    write_job(path, store, payloads, record.spec.id, content=content)
    return 1


def _lines(
    record: JobRecord, events: list[TracedEvent], by_model: list[ModelCosts], children: Iterator[str]
) -> Iterator[str]:
    if record.spec.parent_id is not None:
        yield f"child of {record.spec.parent_id}, at depth {record.spec.depth}"
    yield from trace_lines(events)
    shown = list(children)
    if shown:
        yield from ("", "child jobs:", *shown)
    yield ""
    yield f"costs: {money(record.costs.total_cost)}" + (", with those of child jobs" if shown else "")
    yield from cost_lines(by_model)
