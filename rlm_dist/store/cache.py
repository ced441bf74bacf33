"""Results of calls that several jobs may share, and who is making such a call at the moment."""

from rlm_dist.schema.cache import CacheRole
from rlm_dist.store import keys
from rlm_dist.store.connection import StorePart


class CacheStore(StorePart):
    """The part of the store for cached results."""

    def take(self, digest: str, holder: str, lease_ms: int) -> str | CacheRole:
        """The cached result, or the caller's role. A leader makes the call; asking again renews its lease."""
        kind, result = self._script("cache_take", keys.cached(digest), holder, lease_ms)
        return result if kind == "hit" else CacheRole(kind)

    def leave(self, digest: str, holder: str, result: str, ttl_s: int) -> None:
        """End the call of a leader, and cache its result for ``ttl_s``; '' caches nothing."""
        self._script("cache_leave", keys.cached(digest), holder, result, ttl_s * 1000)
