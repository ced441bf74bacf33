"""What ``RLM_HOME`` has if no Redis is configured: the embedded server, and whether a cluster is up.

If ``RLM_REDIS_URL`` is unset, the embedded server of ``RLM_HOME`` is used, and started if it does not run. A
cluster that ``rlm-dist up`` keeps for the same ``RLM_HOME`` holds ``<home>/up.lock``, which the kernel frees
when the cluster dies. Commands that only look load this module, and neither the broker nor a client.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlm_dist.errors import InputError
from rlm_dist.local.file_lock import is_free, locked
from rlm_dist.local.folders import own_folder
from rlm_dist.local.redis.server import server
from rlm_dist.settings import Settings


@contextmanager
def with_redis(settings: Settings) -> Iterator[Settings]:
    """Yield the settings with the addresses of Redis and the blob store; the server runs while this is open.

    Raises:
        Unreachable: if the embedded server cannot be started.
    """
    if settings.redis_url is not None:
        yield settings.model_copy(update={"blob_url": settings.blob_url or "redis"})
        return
    with server(settings.home) as url:
        blob_url = settings.blob_url or str(own_folder(settings.home / "blobs"))
        yield settings.model_copy(update={"redis_url": url, "blob_url": blob_url})


def is_up(home: Path) -> bool:
    """Whether ``rlm-dist up`` keeps a cluster for this home."""
    lock = home / "up.lock"
    return lock.exists() and not is_free(lock)


@contextmanager
def hold_up(home: Path) -> Iterator[None]:
    """Be the only cluster of this home while the context is open.

    Raises:
        InputError: if the home has a cluster already.
    """
    own_folder(home)
    try:
        with locked(home / "up.lock", timeout_s=0):
            yield
    except TimeoutError:
        raise InputError((f"RLM_HOME: a cluster is already up for {home}",)) from None
