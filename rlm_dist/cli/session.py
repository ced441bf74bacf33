"""What a command works with: a client or stores over the right Redis, and the record of a running cluster.

``rlm-dist up`` holds ``<home>/up.lock`` while it runs (see ``local.cluster``) and describes its cluster in
``<home>/up.json``, a ``ClusterRecord`` as JSON. The file is valid only while the lock is held.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import ValidationError

from rlm_dist.blobs.payloads import Payloads, open_storage
from rlm_dist.cli.batch_view import missing_lines
from rlm_dist.cli.output import NOT_ISOLATED, Output
from rlm_dist.client.client import Client
from rlm_dist.local.cluster import is_up, with_redis
from rlm_dist.local.folders import own_file
from rlm_dist.operations.progress import missing_workers
from rlm_dist.schema import PromptFamily, Wire
from rlm_dist.settings import Settings
from rlm_dist.store import Store, connect


class ClusterRecord(Wire):
    """What ``rlm-dist up`` records of its cluster.

    ``prompts`` is the prompt family that suits its workers' model; ``sandboxed`` is False if they run
    model-written code as a plain process.
    """

    prompts: PromptFamily
    sandboxed: bool = True


def announce(home: Path, record: ClusterRecord) -> None:
    """Write the record of the cluster that this process runs for this home."""
    draft = home / "up.json.part"
    with own_file(draft, "wb") as file:
        file.write(record.model_dump_json().encode())
    draft.replace(home / "up.json")


def presence(home: Path) -> ClusterRecord | None:
    """The record of the cluster that is up for this home; None if there is none."""
    if not is_up(home):
        return None
    try:
        return ClusterRecord.model_validate_json((home / "up.json").read_text())
    except (OSError, ValidationError):  # it is just starting
        return None


@contextmanager
def open_client(
    settings: Settings, out: Output, *, prompts: PromptFamily | None = None, needs_workers: bool = True
) -> Iterator[Client]:
    """A client that starts no workers of its own; it writes a note if the command needs some and has none.

    Raises:
        Unreachable: if Redis does not answer.
    """
    cluster = presence(settings.home) if settings.redis_url is None else None
    family = prompts or (cluster.prompts if cluster else None)
    with with_redis(settings.with_prompts(family)) as resolved, Client(resolved) as client:
        if settings.redis_url is None and cluster is None:
            out.note("no workers are running here; rlm-dist up starts them")
        elif needs_workers:
            note_missing_workers(client.store, out)
        if cluster is not None and not cluster.sandboxed:
            out.note(NOT_ISOLATED)
        elif cluster is None and settings.sandbox == "off":
            out.note(f"for workers with the settings of this command: {NOT_ISOLATED}")
        yield client


def note_missing_workers(store: Store, out: Output) -> None:
    """Write a note for each role of which no worker is alive."""
    for line in missing_lines(missing_workers(store)):
        out.note(line)


@contextmanager
def open_stores(settings: Settings) -> Iterator[tuple[Store, Payloads]]:
    """The store and the payloads of its jobs.

    Raises:
        Unreachable: if Redis does not answer.
    """
    with with_redis(settings) as resolved:
        assert resolved.redis_url is not None  # with_redis sets it
        with closing(connect(resolved.redis_url, client_name="rlm-cli")) as client:
            storage = open_storage(
                client,
                blob_url=resolved.blob_url,
                home=resolved.home,
                retention_s=resolved.retention_s,
            )
            yield storage.store, storage.payloads
