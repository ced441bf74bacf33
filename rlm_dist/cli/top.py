"""``rlm-dist top``: the jobs that are running now."""

import time
from collections.abc import Iterator
from contextlib import suppress

from rlm_dist.cli import options
from rlm_dist.cli.limit_lines import limit_lines
from rlm_dist.cli.output import Output, duration, table
from rlm_dist.cli.session import open_stores
from rlm_dist.schema import Running
from rlm_dist.settings import load_settings
from rlm_dist.store import Store

_LOOK_S = 1.0
_ROWS = 30


def top(as_json: options.Json = False) -> None:
    """Show the running jobs, oldest first, until Ctrl-C; without a terminal, show them once."""
    out = Output(as_json=as_json)
    with open_stores(load_settings()) as (store, _):
        if out.live and not as_json:
            with suppress(KeyboardInterrupt), out.panel() as show:
                while True:
                    show("\n".join(_lines(store, store.jobs.running())))
                    time.sleep(_LOOK_S)
        jobs = store.jobs.running()
        out.result({"jobs": jobs, "endpoints": store.limits.scopes()}, lambda: _lines(store, jobs))


def _lines(store: Store, jobs: list[Running]) -> Iterator[str]:
    now_ms, oldest = store.connection.now_ms(), jobs[:_ROWS]
    yield (
        f"{len(jobs):,} jobs running, {sum(job.calls_in_flight for job in jobs):,} calls in flight, "
        f"{len(store.workers.live()):,} sub workers"
    )
    yield from limit_lines(store.limits.scopes())
    if not oldest:
        return
    records = store.jobs.records([job.job_id for job in oldest])
    names = [record.spec.custom_id if record else "-" for record in records]
    rows = [
        (
            job.job_id, name[:30], job.batch_id or "-", duration((now_ms - job.started_ms) / 1000),
            f"{job.calls_in_flight:,}", f"{job.tokens:,}", job.worker,
        )
        for name, job in zip(names, oldest, strict=True)
    ]  # fmt: skip
    yield from table([("JOB", "NAME", "BATCH", "RUNS", "CALLS", "TOKENS", "WORKER"), *rows])
