"""Identical sub-calls of different jobs are made once: the result is shared, and so is the wait for it.

A call is identical to another by its endpoint, model, parameters and messages. One of those that ask makes
the call, under a lease; the others wait, in its process on a lock, elsewhere by asking the store now and
then. If it fails or dies, the next one makes the call. Failures are not kept, nor long answers.
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

_LOOK_S = 0.5
_MOST_CHARS = 65_536

Make = Callable[[], Awaitable[CallResult]]


class ResultCache(Protocol):
    """Where results are shared: at most one holder has leave to make a call that is not there."""

    def take(self, digest: str, holder: str, lease_ms: int, /) -> str | CacheRole:
        """The cached result; or whether the caller is to make the call, and to renew its leave in time."""

    def leave(self, digest: str, holder: str, result: str, ttl_s: int, /) -> None:
        """End a call that the holder had leave to make; an empty ``result`` is not kept."""


class SingleFlightCache:
    """The cache as one process sees it; used in the event loop of its ``LLM``."""

    def __init__(self, results: ResultCache, *, ttl_s: int, lease_ms: int = LEASE_MS) -> None:
        self._results = results
        self._ttl_s = ttl_s
        self._lease_ms = lease_ms
        self._holder = uuid.uuid4().hex
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="rlm-cache")
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def result(self, url: str, model: str, request: CallRequest, make: Make) -> CallResult:
        """The result that an identical call has had, or that of ``make``."""
        digest = _digest(url, model, request)
        lock = self._locks.setdefault(digest, asyncio.Lock())
        async with lock:
            while (found := await self._take(digest)) is CacheRole.FOLLOWER:
                await asyncio.sleep(random.uniform(_LOOK_S / 2, _LOOK_S))
            if found is CacheRole.LEADER:
                return await self._made(digest, make)
            known = CallResult.model_validate_json(found)
            return known.model_copy(
                update={"cached": True, "attempts": 0, "failed_attempts": (), "wasted": ()}
            )

    def close(self) -> None:
        """End the threads made here."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _take(self, digest: str) -> str | CacheRole:
        take = partial(self._results.take, digest, self._holder, self._lease_ms)
        return await asyncio.get_running_loop().run_in_executor(self._threads, take)

    async def _made(self, digest: str, make: Make) -> CallResult:
        kept = ""
        renewing = asyncio.create_task(self._renew(digest))
        try:
            result = await make()
            if result.completion is not None and len(result.completion.text) <= _MOST_CHARS:
                kept = result.model_dump_json()
        finally:
            renewing.cancel()
            leave = partial(self._results.leave, digest, self._holder, kept, self._ttl_s)
            left = asyncio.get_running_loop().run_in_executor(self._threads, leave)
            left.add_done_callback(_noted)
        # The next one of this process must find it. An aborted call does not wait: the loop may be ending.
        await asyncio.wait([left])
        return result

    async def _renew(self, digest: str) -> None:
        while True:
            await asyncio.sleep(self._lease_ms / 4000)
            try:
                await self._take(digest)
            except RLMError:
                continue  # Redis is away: the lease may lapse, and another may make the call too


def _noted(left: "asyncio.Future[None]") -> None:
    error = None if left.cancelled() else left.exception()
    if error is not None:
        log.warning("result_not_cached", error=type(error).__name__)


def _digest(url: str, model: str, request: CallRequest) -> str:
    content = [url, model, request.model_dump(exclude={"role", "model", "cache"})]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=20).hexdigest()
