"""``rlm-dist cancel``, ``pause``, ``resume`` and ``retry``."""

from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.output import Output
from rlm_dist.cli.session import open_client, open_stores
from rlm_dist.cli.status import find
from rlm_dist.operations.trace_text import calls
from rlm_dist.schema import BatchRecord, BatchState, JobState
from rlm_dist.settings import load_settings


def cancel(id_: options.JobOrBatch, as_json: options.Json = False) -> None:
    """Cancel a job or all of a batch. What has ended stays as it is."""
    with open_stores(load_settings()) as (store, _):
        found = find(store, id_)
        if isinstance(found, BatchRecord):
            store.batches.cancel(id_)
        else:
            store.jobs.cancel(id_)
        _tell(find(store, id_).state, id_, as_json=as_json)


def pause(batch: options.BatchId, as_json: options.Json = False) -> None:
    """Keep a batch's waiting jobs and sub-calls from being started; calls under way come to their end."""
    with open_stores(load_settings()) as (store, _):
        store.batches.pause(batch)
        _tell(store.batches.get(batch).state, batch, as_json=as_json)


def resume(batch: options.BatchId, as_json: options.Json = False) -> None:
    """Let a paused batch go on."""
    with open_stores(load_settings()) as (store, _):
        store.batches.resume(batch)
        _tell(store.batches.get(batch).state, batch, as_json=as_json)


def finish(
    batch: options.BatchId,
    stalled_after: Annotated[
        float, typer.Option(min=1, metavar="S", help="Seconds without an event or a settled sub-call.")
    ],
    as_json: options.Json = False,
) -> None:
    """End a batch's running jobs as failed that have not moved for a while; the others go on."""
    with open_stores(load_settings()) as (store, _):
        ended = store.jobs.end_stalled(batch, stalled_after)
        document = {"id": batch, "state": store.batches.get(batch).state, "ended": ended}
    lines = [f"{batch}: {calls(len(ended), 'job')} ended as stalled", *(f"  {job_id}" for job_id in ended)]
    Output(as_json=as_json).result(document, lambda: lines)


def retry(
    batch: options.BatchId,
    batch_max_usd: options.BatchMaxUsd = None,
    batch_max_tokens: options.BatchMaxTokens = None,
    as_json: options.Json = False,
) -> None:
    """Run the jobs of a batch again that have no answer; what they paid for is kept, and counts."""
    out = Output(as_json=as_json)
    with open_client(load_settings(), out) as client:
        retried = client.retry(batch, batch_max_usd=batch_max_usd, batch_max_tokens=batch_max_tokens)
        state = client.store.batches.get(batch).state
        out.result({"id": batch, "state": state, "retried": retried}, lambda: [f"{batch}: {retried} jobs"])


def _tell(state: JobState | BatchState, id_: str, *, as_json: bool) -> None:
    Output(as_json=as_json).result({"id": id_, "state": state}, lambda: [f"{id_}: {state}"])
