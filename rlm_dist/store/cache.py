"""Results of calls that other jobs may have too, and who is making such a call just now."""

from rlm_dist.schema.cache import CacheRole
from rlm_dist.store import keys
from rlm_dist.store.connection import StorePart


class CacheStore(StorePart):
    """The part of the store that knows cached results."""

    def take(self, digest: str, holder: str, lease_ms: int) -> str | CacheRole:
        """The cached result; or whether the caller is to make the call, which it is to renew in time."""
        told, result = self._script("cache_take", keys.cached(digest), holder, lease_ms)
        return result if told == "hit" else CacheRole(told)

    def leave(self, digest: str, holder: str, result: str, ttl_s: int) -> None:
        """End a call that the holder had leave to make, with what is to be kept of it: '' for nothing."""
        self._script("cache_leave", keys.cached(digest), holder, result, ttl_s * 1000)
