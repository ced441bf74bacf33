"""What a command works with: a client over the right Redis, and what is told of a cluster that is up.

``rlm-dist up`` holds ``<home>/up.lock`` while it runs (see ``local_cluster``) and tells of its cluster in
``<home>/up.json``, which counts only while the lock is held.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import ValidationError

from rlm_dist.blobs.payloads import Payloads, open_storage
from rlm_dist.cli.output import Output
from rlm_dist.client.client import Client
from rlm_dist.local.cluster import is_up, with_redis
from rlm_dist.schema import PromptFamily, Wire
from rlm_dist.settings import Settings
from rlm_dist.store import Store, connect


class ClusterRecord(Wire):
    """What ``rlm-dist up`` tells of its cluster: the prompts that suit the model of its workers."""

    prompts: PromptFamily


def tell(home: Path, presence: ClusterRecord) -> None:
    """Tell of the cluster that this process keeps for this home."""
    draft = home / "up.json.part"
    draft.write_text(presence.model_dump_json())
    draft.replace(home / "up.json")


def presence(home: Path) -> ClusterRecord | None:
    """What is told of the cluster that is up for this home; None where there is none."""
    if not is_up(home):
        return None
    try:
        return ClusterRecord.model_validate_json((home / "up.json").read_text())
    except (OSError, ValidationError):  # it is coming up right now
        return None


@contextmanager
def open_client(settings: Settings, out: Output, *, prompts: PromptFamily | None = None) -> Iterator[Client]:
    """A client that leaves the work to workers which others run, and says so where there are none.

    Raises:
        Unreachable: where Redis does not answer.
    """
    up = presence(settings.home) if settings.redis_url is None else None
    family = prompts or (up.prompts if up else settings.prompts)
    with with_redis(settings.model_copy(update={"prompts": family})) as resolved, Client(resolved) as client:
        if settings.redis_url is None and up is None:
            out.note("no workers run here now: rlm-dist up starts them")
        yield client


@contextmanager
def open_stores(settings: Settings) -> Iterator[tuple[Store, Payloads]]:
    """The store and the long texts of its jobs.

    Raises:
        Unreachable: where Redis does not answer.
    """
    with with_redis(settings) as resolved:
        assert resolved.redis_url is not None  # with_redis has seen to it
        with closing(connect(resolved.redis_url, client_name="rlm-cli")) as client:
            storage = open_storage(client, resolved)
            yield storage.store, storage.payloads
