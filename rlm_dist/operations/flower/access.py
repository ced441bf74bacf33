"""What the pages read from: the store, in a bounded number of threads, and snapshots that pages share."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from rlm_dist.blobs.payloads import Payloads
from rlm_dist.errors import Unreachable
from rlm_dist.operations.pace import Pace
from rlm_dist.operations.progress import ENDED_STATES, BatchView, view
from rlm_dist.schema import BatchRecord
from rlm_dist.settings import Settings
from rlm_dist.store import Store

T = TypeVar("T")

_THREADS = 8
_MOST_WAITING = 64
_MOST_BATCHES = 64
_FRESH_S = 0.8


class Snapshots:
    """Snapshots of batches: at most one is taken each second, however many pages show it. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Pace, float, BatchView | None]] = OrderedDict()

    def of(self, record: BatchRecord) -> BatchView:
        """The progress of a batch; its rates are None the first time."""
        with self._lock:
            pace, taken, snapshot = self._kept.get(record.id, (Pace(), 0.0, None))
            is_fresh = time.monotonic() - taken < _FRESH_S or record.state in ENDED_STATES
            if snapshot is None or not is_fresh:
                snapshot = view(self._store, record, pace)
                self._kept[record.id] = (pace, time.monotonic(), snapshot)
            self._kept.move_to_end(record.id)
            while len(self._kept) > _MOST_BATCHES:
                self._kept.popitem(last=False)
            return snapshot


class PageAccess(NamedTuple):
    """What a page is made from; ``content`` says whether it may show what people wrote and models said."""

    store: Store
    payloads: Payloads
    snapshots: Snapshots
    settings: Settings
    content: bool


class PageThreads:
    """The threads in which pages are made, so that Flower's loop never waits for Redis."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="rlm-page")
        self._waiting = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread.

        Raises:
            Unreachable: if too many pages wait already.
        """
        if self._waiting >= _MOST_WAITING:
            raise Unreachable("Flower", "this page", "too many pages are being made; try again soon")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
