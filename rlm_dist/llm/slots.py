"""Limits how many requests one process has in flight; the jobs of waiting calls take turns.

Used only in the event loop of an ``LLM``, so it needs no locks.
"""

import asyncio

from rlm_dist.errors import CallError
from rlm_dist.llm.fair_queue import FairQueue


class Slots:
    """``size`` slots, each for one request at a time; None: no limit."""

    def __init__(self, size: int | None) -> None:
        self._free = size
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._closed: CallError | None = None

    async def acquire(self, job_id: str) -> None:
        """Wait for a slot; call ``release`` when the request has ended.

        Raises:
            CallError: the error passed to ``drop`` or ``close``.
        """
        if self._closed is not None:
            raise self._closed
        if self._free is None:
            return
        if self._free:
            self._free -= 1
            return
        grant = asyncio.get_running_loop().create_future()
        self._waiting.add(job_id, grant)
        try:
            await grant
        except asyncio.CancelledError:
            if grant.done() and not grant.cancelled() and grant.exception() is None:
                self.release()  # the slot was granted just before the cancellation
            raise
        finally:
            self._waiting.discard(job_id, grant)

    def release(self) -> None:
        """Give the slot to the next call."""
        if self._free is None:
            return
        while self._waiting:
            grant = self._waiting.pop()
            if not grant.done():
                grant.set_result(None)
                return
        self._free += 1

    def drop(self, job_id: str, error: CallError) -> None:
        """Make the waiting calls of a job raise ``error``."""
        self._fail(self._waiting.of(job_id), error)

    def close(self, error: CallError) -> None:
        """Make every waiting and every later call raise ``error``; calls in flight go on."""
        self._closed = error
        self._fail(list(self._waiting), error)

    @staticmethod
    def _fail(grants: list["asyncio.Future[None]"], error: CallError) -> None:
        for grant in grants:
            if not grant.done():
                grant.set_exception(error)
