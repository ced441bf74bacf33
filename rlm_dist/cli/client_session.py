"""A client over the right Redis, for the commands that submit jobs or wait for them."""

from collections.abc import Iterator
from contextlib import contextmanager

from rlm_dist.cli.output import NOT_ISOLATED, Output
from rlm_dist.cli.session import note_missing_workers, presence
from rlm_dist.client.client import Client
from rlm_dist.local.home import with_redis
from rlm_dist.schema import PromptFamily
from rlm_dist.settings import Settings


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
        if needs_workers and settings.redis_url is None and cluster is None:
            out.note("no workers are running here; rlm-dist up starts them")
        elif needs_workers:
            note_missing_workers(client.store, out)
        if cluster is not None and not cluster.sandboxed:
            out.note(NOT_ISOLATED)
        elif cluster is None and settings.sandbox == "off":
            out.note(f"for workers with the settings of this command: {NOT_ISOLATED}")
        yield client
