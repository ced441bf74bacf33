"""``rlm-dist trace``: what one job did, turn by turn."""

from collections.abc import Iterator
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.output import Output, money
from rlm_dist.cli.session import open_stores
from rlm_dist.cli.status import find_job
from rlm_dist.operations.trace_text import cost_lines, trace_lines
from rlm_dist.schema import Costs, ModelCosts
from rlm_dist.settings import load_settings
from rlm_dist.store.trace import TracedEvent, read_trace


def trace(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The id or the name of a job.")],
    as_json: options.Json = False,
) -> None:
    """Show the trajectory of a job: messages, code, outputs, sub-calls, times and costs."""
    with open_stores(load_settings()) as (store, payloads):
        record = find_job(store, job)
        job = record.spec.id
        by_model = store.jobs.model_costs(job)
        events = list(read_trace(store.journals, job, payloads))
    document = {
        "id": job,
        "state": record.state,
        "query": record.spec.query,
        "costs": record.costs,
        "models": by_model,
        "events": [{"at_ms": traced.at_ms, **traced.event.model_dump()} for traced in events],
    }
    Output(as_json=as_json).result(document, lambda: _lines(events, record.costs, by_model))


def _lines(events: list[TracedEvent], costs: Costs, by_model: list[ModelCosts]) -> Iterator[str]:
    yield from trace_lines(events)
    yield ""
    yield f"costs: {money(costs.total_cost)}"
    yield from cost_lines(by_model)
