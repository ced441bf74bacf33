"""``rlm-dist cancel``, ``pause``, ``resume``, ``finish`` and ``retry``."""

from collections.abc import Iterable
from typing import Annotated

import typer

from rlm_dist.broker.app import message_lists
from rlm_dist.cli import options
from rlm_dist.cli.output import Output
from rlm_dist.cli.session import open_client, open_stores
from rlm_dist.cli.status import find, find_batch
from rlm_dist.errors import InputError
from rlm_dist.operations.trace_text import calls
from rlm_dist.schema import BatchRecord, BatchState, JobState
from rlm_dist.settings import load_settings
from rlm_dist.store.batches import OWN_LIMITS


def cancel(id_: options.JobOrBatch, as_json: options.Json = False) -> None:
    """Cancel a job, or all jobs of a batch. Jobs that have ended stay as they are."""
    with open_stores(load_settings()) as (store, _):
        record = find(store, id_)
        if isinstance(record, BatchRecord):
            store.batches.cancel(record.id, message_lists)
            state: JobState | BatchState = store.batches.get(record.id).state
        else:
            id_ = record.spec.id
            store.jobs.cancel(id_)
            state = store.jobs.get(id_).state
        _write_state(state, id_, as_json=as_json)


def pause(batch: options.BatchId, as_json: options.Json = False) -> None:
    """Pause a batch: start no more of its jobs and sub-calls, and let calls under way finish."""
    with open_stores(load_settings()) as (store, _):
        store.batches.pause(find_batch(store, batch).id)
        _write_state(store.batches.get(batch).state, batch, as_json=as_json)


def resume(batch: options.BatchId, as_json: options.Json = False) -> None:
    """Resume a paused batch."""
    with open_stores(load_settings()) as (store, _):
        store.batches.resume(find_batch(store, batch).id)
        _write_state(store.batches.get(batch).state, batch, as_json=as_json)


def finish(
    batch: options.BatchId,
    stalled_after: Annotated[
        float, typer.Option(min=1, metavar="S", help="Seconds without an event or a settled sub-call.")
    ],
    as_json: options.Json = False,
) -> None:
    """Fail the running jobs of a batch that have made no progress for a while; leave the others running."""
    with open_stores(load_settings()) as (store, _):
        job_ids = store.jobs.end_stalled(find_batch(store, batch).id, stalled_after)
        document = {"id": batch, "state": store.batches.get(batch).state, "ended": job_ids}
    lines = [
        f"{batch}: {calls(len(job_ids), 'job')} ended as stalled",
        *(f"  {job_id}" for job_id in job_ids),
    ]
    Output(as_json=as_json).result(document, lambda: lines)


def retry(
    batch: options.BatchId,
    batch_max_usd: options.BatchMaxUsd = None,
    batch_max_tokens: options.BatchMaxTokens = None,
    raise_: Annotated[
        list[str] | None,
        typer.Option(
            "--raise",
            metavar="LIMIT=N",
            help="Include jobs that this limit of their own ended, with a higher one.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Rerun the jobs of a batch that have no answer; the calls they paid for are kept and still count."""
    out = Output(as_json=as_json)
    with open_client(load_settings(), out) as client:
        find_batch(client.store, batch)
        raised = _parse_limits(raise_ or ())
        job_count = client.retry(
            batch, batch_max_usd=batch_max_usd, batch_max_tokens=batch_max_tokens, raised=raised
        )
        state = client.store.batches.get(batch).state
        reasons = client.store.lists.reasons(batch)
    left_out = {reason: count for reason, count in reasons.items() if reason in OWN_LIMITS}
    document = {"id": batch, "state": state, "retried": job_count, "left_out": left_out}
    out.result(document, lambda: [f"{batch}: {calls(job_count, 'job')}"])
    for reason, count in left_out.items():
        out.note(f"{calls(count, 'job')} left out, ended by {reason}; to retry with more: --raise {reason}=…")


def _parse_limits(texts: Iterable[str]) -> dict[str, object]:
    """Limits written as ``name=number``.

    Raises:
        InputError: if one is not.
    """
    limits: dict[str, object] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            limits[name] = int(number) if number.isdecimal() else float(number)
        except ValueError:
            raise InputError((f"--raise: {name!r} must be LIMIT=NUMBER, as max_usd=0.5",)) from None
    return limits


def _write_state(state: JobState | BatchState, id_: str, *, as_json: bool) -> None:
    Output(as_json=as_json).result({"id": id_, "state": state}, lambda: [f"{id_}: {state}"])
