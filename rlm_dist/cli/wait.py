"""``rlm-dist wait``: block until a job or a batch has ended, for scripts."""

from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.client_session import open_client
from rlm_dist.cli.output import CANCELLED, DONE, FAILED, NO_ANSWER, Output, exit_code
from rlm_dist.cli.status import find
from rlm_dist.schema import BatchRecord, BatchState, JobRecord, JobState
from rlm_dist.settings import load_settings


def wait(
    id_: options.JobOrBatch,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, metavar="S", help="Give up after this many seconds. [default: never]"),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Wait until a job or batch has ended. The exit code is 0 only if every job has its answer."""
    out = Output(as_json=as_json)
    with open_client(load_settings(), out) as client:
        record = find(client.store, id_)
        id_ = record.spec.id if isinstance(record, JobRecord) else record.id  # it may be a name
        handle = client.job(id_) if isinstance(record, JobRecord) else client.batch(id_)
        try:
            handle.wait(timeout)
        except TimeoutError as error:
            out.note(str(error))
        record = find(client.store, id_)
    document: dict[str, object] = {"id": id_, "state": record.state}
    if isinstance(record, BatchRecord):
        document["counts"] = record.counts
    out.result(document, lambda: [f"{id_}: {record.state}"])
    raise typer.Exit(_code(record))


def _code(record: JobRecord | BatchRecord) -> int:
    if isinstance(record, JobRecord):
        return exit_code(record.state)
    if record.state is BatchState.CANCELLED:
        return CANCELLED
    counts = record.counts
    if record.state is not BatchState.COMPLETED or counts.get(JobState.FAILED):
        return FAILED
    unanswered = counts.get(JobState.EXHAUSTED, 0) + counts.get(JobState.CANCELLED, 0)
    return NO_ANSWER if unanswered else DONE
