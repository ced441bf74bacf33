"""How many requests one process has under way; calls that wait start in the order of their jobs, in turns.

Used in the event loop of an ``LLM``, hence without locks.
"""

import asyncio

from rlm_dist.errors import CallError
from rlm_dist.llm.fair_queue import FairQueue


class Slots:
    """Room for so many requests at once; None: for any number."""

    def __init__(self, most: int | None) -> None:
        self._free = most
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._closed: CallError | None = None

    async def acquire(self, job_id: str) -> None:
        """Wait for room; ``release`` is to be called when the request has ended.

        Raises:
            CallError: what ``drop`` or ``close`` was given.
        """
        if self._closed is not None:
            raise self._closed
        if self._free is None:
            return
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.add(job_id, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release()  # it came too late
            raise
        finally:
            self._waiting.discard(job_id, turn)

    def release(self) -> None:
        """Give the room to the next call."""
        if self._free is None:
            return
        while self._waiting:
            turn = self._waiting.pop()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def drop(self, job_id: str, error: CallError) -> None:
        """Let the calls of a job that wait raise ``error``."""
        self._fail(self._waiting.of(job_id), error)

    def close(self, error: CallError) -> None:
        """Let every call raise ``error`` that waits or comes; those under way go on."""
        self._closed = error
        self._fail(list(self._waiting), error)

    @staticmethod
    def _fail(turns: list["asyncio.Future[None]"], error: CallError) -> None:
        for turn in turns:
            if not turn.done():
                turn.set_exception(error)
