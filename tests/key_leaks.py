"""Keys that would stay in Redis for ever."""

from typing import Any

# Lists of names, which shed those that have expired; see ``rlm_dist.store.keys``.
_LASTING = {"rlm:jobs", "rlm:batches"}


def leaked_keys(client: Any) -> list[str]:
    """The keys under ``rlm:`` that have no TTL; to be asked once all jobs have ended."""
    names = set(client.scan_iter("rlm:*")) - _LASTING
    return sorted(name for name in names if client.ttl(name) == -1)
