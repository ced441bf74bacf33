"""``rlm-dist delete``: remove a job or a batch, with everything that is stored for it."""

import sys
from typing import Annotated

import typer

from rlm_dist.cli import options
from rlm_dist.cli.client_session import open_client
from rlm_dist.cli.output import Output
from rlm_dist.cli.status import find
from rlm_dist.errors import InputError
from rlm_dist.schema import BatchRecord
from rlm_dist.settings import load_settings


def delete(
    id_: options.JobOrBatch,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.Json = False,
) -> None:
    """Remove a job or batch that has ended: answers, costs, trace, and contexts that no other job uses."""
    with open_client(load_settings(), Output(as_json=as_json), needs_workers=False) as client:
        record = find(client.store, id_)
        kind = "batch" if isinstance(record, BatchRecord) else "job"
        id_ = record.id if isinstance(record, BatchRecord) else record.spec.id  # it may be a name
        if not yes:
            if not sys.stdin.isatty():
                raise InputError((f"{kind} {id_}: deleting cannot be undone; --yes says that it is meant",))
            typer.confirm(f"Delete {kind} {id_}, with its answers and costs?", abort=True, err=True)
        blobs = (client.batch if kind == "batch" else client.job)(id_).delete()
    document = {"id": id_, "deleted": kind, "blobs": blobs}
    Output(as_json=as_json).result(document, lambda: [f"{id_}: deleted"])
