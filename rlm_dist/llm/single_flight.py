"""Makes identical sub-calls of different jobs once: the callers share the result, and the wait for it.

Calls are identical if endpoint, model, parameters and messages are. One caller makes the call, under a
lease. The others wait: those in the same process on a lock, those elsewhere by polling the store. If the
call fails or its process dies, the next caller makes it. Failures and long answers are not stored.
"""

import asyncio
import hashlib
import json
import random
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from rlm_dist.errors import RLMError
from rlm_dist.schema import CallRequest, CallResult
from rlm_dist.schema.cache import CacheRole
from rlm_dist.schema.leases import LEASE_MS

log = structlog.get_logger()

_POLL_S = 0.5
_MAX_CHARS = 65_536

Make = Callable[[], Awaitable[CallResult]]


class ResultCache(Protocol):
    """Where results are shared: at most one holder has the lease to make a call without a stored result."""

    def take(self, digest: str, holder: str, lease_ms: int, /) -> str | CacheRole:
        """The cached result, or the caller's role; a leader has to make the call and to renew its lease."""

    def leave(self, digest: str, holder: str, result: str, ttl_s: int, /) -> None:
        """End a call for which the holder had the lease; an empty ``result`` is not stored."""


class SingleFlightCache:
    """The cache for one process; used in the event loop of its ``LLM``."""

    def __init__(
        self, results: ResultCache, *, ttl_s: int, lease_ms: int = LEASE_MS, keep_thoughts: bool = False
    ) -> None:
        """Answers with thoughts (``keep_thoughts``) and without them are stored separately."""
        self._results = results
        self._keep_thoughts = keep_thoughts
        self._ttl_s = ttl_s
        self._lease_ms = lease_ms
        self._holder = uuid.uuid4().hex
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="rlm-cache")
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def result(self, url: str, model: str, request: CallRequest, make: Make) -> CallResult:
        """The result of an identical call, or else that of ``make``."""
        digest = _digest(url, model, request, "whole" if self._keep_thoughts else "visible")
        lock = self._locks.setdefault(digest, asyncio.Lock())
        async with lock:
            while (reply := await self._take(digest)) is CacheRole.FOLLOWER:
                await asyncio.sleep(random.uniform(_POLL_S / 2, _POLL_S))
            if reply is CacheRole.LEADER:
                return await self._lead(digest, make)
            cached = CallResult.model_validate_json(reply)
            own = {"cached": True, "attempts": 0, "failed_attempts": (), "wasted": ()}
            return cached.model_copy(update={**own, "started_ms": 0, "waited_s": 0.0})

    def close(self) -> None:
        """End the threads made here."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _take(self, digest: str) -> str | CacheRole:
        take = partial(self._results.take, digest, self._holder, self._lease_ms)
        return await asyncio.get_running_loop().run_in_executor(self._threads, take)

    async def _lead(self, digest: str, make: Make) -> CallResult:
        to_store = ""
        renewal = asyncio.create_task(self._renew(digest))
        try:
            result = await make()
            if result.completion is not None and len(result.completion.text) <= _MAX_CHARS:
                to_store = result.model_dump_json()
        finally:
            renewal.cancel()
            leave = partial(self._results.leave, digest, self._holder, to_store, self._ttl_s)
            leaving = asyncio.get_running_loop().run_in_executor(self._threads, leave)
            leaving.add_done_callback(_log_error)
        # Wait, so that the next caller in this process finds the result. An aborted call does not wait: the
        # loop may be ending.
        await asyncio.wait([leaving])
        return result

    async def _renew(self, digest: str) -> None:
        while True:
            await asyncio.sleep(self._lease_ms / 4000)
            try:
                await self._take(digest)
            except RLMError:
                continue  # Redis is away: the lease may lapse, and another caller may make the call too


def _log_error(leaving: "asyncio.Future[None]") -> None:
    error = None if leaving.cancelled() else leaving.exception()
    if error is not None:
        log.warning("result_not_cached", error=type(error).__name__)


def _digest(url: str, model: str, request: CallRequest, text: str) -> str:
    content = [text, url, model, request.model_dump(exclude={"role", "model", "cache"})]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=20).hexdigest()
