"""``rlm-dist top``: the batches and jobs that are running now."""

import time
from collections.abc import Iterator
from contextlib import suppress

from rlm_dist.cli import options
from rlm_dist.cli.batch_view import missing_lines
from rlm_dist.cli.limit_lines import limit_lines
from rlm_dist.cli.output import Output, between, duration, money, table, usd
from rlm_dist.cli.session import open_stores
from rlm_dist.errors import Unreachable
from rlm_dist.operations.progress import BatchProgress, Monitor, Overview, SlowJob, ended, without_answer
from rlm_dist.operations.trace_text import calls
from rlm_dist.schema import JobState, Role
from rlm_dist.settings import load_settings

_LOOK_S = 1.0


def top(as_json: options.Json = False) -> None:
    """Show what runs now, batches and jobs, until Ctrl-C; without a terminal, show it once."""
    out = Output(as_json=as_json)
    monitor = Monitor()
    with open_stores(load_settings()) as (store, _):
        if out.live and not as_json:
            with suppress(KeyboardInterrupt), out.panel() as show:
                while True:
                    try:
                        show("\n".join(top_lines(monitor.look(store))))
                    except Unreachable as error:
                        show(str(error))
                    time.sleep(_LOOK_S)
        overview = monitor.look(store)
        out.result(overview, lambda: top_lines(overview))


def top_lines(overview: Overview) -> Iterator[str]:
    """What runs now, as text."""
    yield (
        f"{calls(overview.running, 'job')} running, {calls(overview.calls_in_flight, 'call')} in flight, "
        f"root worker processes: {overview.workers[Role.ROOT]:,}, "
        f"sub workers: {overview.workers[Role.SUB]:,}"
    )
    if overview.running or overview.batches:
        yield from missing_lines(role for role, count in overview.workers.items() if not count)
    yield from limit_lines(overview.endpoints)
    if overview.batches:
        yield ""
        yield from table([_BATCH_HEAD, *map(_batch_row, overview.batches)])
    if overview.jobs:
        yield ""
        yield from table([_JOB_HEAD, *map(_job_row, overview.jobs)])


_BATCH_HEAD = (
    *("BATCH", "STATE", "JOBS", "ENDED", "NO ANSWER", "RUNNING", "CALLS", "CALLS/MIN", "TOKENS/MIN"),
    *("COST", "IN TOTAL", "LEFT"),
)
_JOB_HEAD = ("JOB", "NAME", "BATCH", "RUNS", "CALLS", "TOKENS", "WORKER")


def _batch_row(batch: BatchProgress) -> tuple[str, ...]:
    record, rates, projection = batch.record, batch.view.rates, batch.view.projection
    return (
        record.id,
        record.state,
        "?" if record.total is None else f"{record.total:,}",
        f"{ended(record):,}",
        f"{without_answer(record):,}",
        f"{record.counts[JobState.RUNNING]:,}",
        f"{record.calls_in_flight:,}",
        f"{rates.calls:,.0f}" if rates else "-",
        f"{rates.tokens:,.0f}" if rates else "-",
        money(record.costs.total_cost),
        between(projection.usd, usd) if projection.usd else "-",
        between(projection.left_s, duration) if projection.left_s else "-",
    )


def _job_row(job: SlowJob) -> tuple[str, ...]:
    return (
        job.job.job_id,
        job.custom_id[:30],
        job.job.batch_id or "-",
        duration(job.run_s),
        f"{job.job.calls_in_flight:,}",
        f"{job.job.tokens:,}",
        job.job.worker,
    )
