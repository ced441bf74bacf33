"""Puts the cluster's metrics into Flower's own ``/metrics``, which shows all of prometheus_client's registry.

Redis is read in a thread before Flower writes its answer, so that its loop never waits for Redis. Scrapes
within two seconds share what was read. If Redis does not answer in time, the scrape says so and has no other
of our metrics.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from flower.views.monitor import Metrics  # type: ignore[import-untyped]  # Flower ships no types
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

from rlm_dist.errors import RLMError
from rlm_dist.operations.metrics.cluster import ClusterNumbers, metrics_of

log = structlog.get_logger()

_FRESH_S = 2.0
_PATIENCE_S = 3.0  # well below the 10 s after which Prometheus gives a scrape up


class ClusterCollector:
    """Collects what ``refresh`` read last; ``read`` runs in a thread of this object, once at a time."""

    def __init__(self, read: Callable[[], ClusterNumbers], *, patience_s: float = _PATIENCE_S) -> None:
        self._read = read
        self._patience_s = patience_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._reading: asyncio.Future[None] | None = None
        self._numbers: ClusterNumbers | None = None
        self._read_at: float | None = None

    def describe(self) -> list[Metric]:
        """Nothing: the registry need not know the names before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        return iter(list(metrics_of(self._numbers)))

    async def refresh(self) -> None:
        """Read the numbers again, unless that was done just now; wait for Redis for a few seconds at most."""
        if self._read_at is not None and time.monotonic() - self._read_at < _FRESH_S:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().run_in_executor(self._thread, self._take)
        done, _ = await asyncio.wait([self._reading], timeout=self._patience_s)
        if not done:
            self._numbers = None

    def close(self) -> None:
        """Read no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _take(self) -> None:
        try:
            self._numbers = self._read()
        except RLMError:
            self._numbers = None
        except Exception as error:  # noqa: BLE001  # the edge of a thread; the scrape says that nothing was read
            log.warning("metrics_not_read", error=type(error).__name__)
            self._numbers = None
        self._read_at = time.monotonic()


class MetricsHandler(Metrics):  # type: ignore[misc]  # Flower ships no types
    """Flower's handler, with numbers that were read just before."""

    def initialize(self, collector: ClusterCollector) -> None:
        """Take the collector from the route."""
        super().initialize()
        self._collector = collector

    async def get(self) -> None:
        """Answer with all metrics of this process."""
        await self._collector.refresh()
        await super().get()


def add_metrics(flower: Any, read: Callable[[], ClusterNumbers]) -> None:
    """Let a Flower application show the cluster's metrics in its ``/metrics``."""
    collector = ClusterCollector(read)
    REGISTRY.register(collector)
    prefix = (flower.options.url_prefix or "").strip("/")
    path = f"/{prefix}/metrics" if prefix else "/metrics"
    flower.add_handlers(".*", [(path, MetricsHandler, {"collector": collector})])
