"""One sum of the metrics of all processes of a root worker's pool.

Each process counts in its own memory and writes its numbers into a file of its slot, at most every two
seconds and when it ends; the main process adds up the files when it is scraped. A process that follows
another one in a slot counts on from its file, so a sum never falls. If a process is killed, what it has
counted since its last write is lost.

prometheus_client has a mode for several processes. It maps files into memory without reserving their blocks:
a process that counts on a full disk is killed by SIGBUS, and would take its job with it. A write that fails
here costs nothing but numbers.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from rlm_dist.worker.heartbeats import PeriodicThread
from rlm_dist.worker.metrics import BY_NAME, WorkerMetrics
from rlm_dist.worker.model_names import ModelNames

log = structlog.get_logger()

NAMES_FILE = "models"
_EVERY_S = 2.0
# A sample: the name of its metric, its own name, and its labels with their values.
_Key = tuple[str, str, tuple[tuple[str, str], ...]]
_Numbers = dict[_Key, float]


class SlotMetrics:
    """The metrics of the process in one slot, and the thread that writes them to the slot's file."""

    def __init__(self, folder: Path, slot: int) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self.metrics = WorkerMetrics(self._registry, ModelNames(folder / NAMES_FILE))
        self._path = folder / f"slot-{slot}.json"
        self._before = _read([self._path])
        self._written = -1
        self.write()  # a scrape then has the counters that begin at 0
        self._thread = PeriodicThread(self.write, period_s=_EVERY_S, name="metrics")

    def close(self) -> None:
        """Write for the last time."""
        self._thread.close()
        self.write()

    def write(self) -> None:
        """Write the numbers if they have changed; the file is always whole."""
        changes = self.metrics.changes
        if changes == self._written:
            return
        numbers = dict(self._before)
        for metric in self._registry.collect():
            for sample in metric.samples:
                key = metric.name, sample.name, tuple(sample.labels.items())
                numbers[key] = numbers.get(key, 0.0) + sample.value
        draft = self._path.with_suffix(".new")
        try:
            draft.write_text(json.dumps(list(numbers.items())))
            os.replace(draft, self._path)
        except OSError as error:
            log.warning("metrics_not_written", why=error.strerror)
            return
        self._written = changes


class SlotsCollector:
    """Adds up the files of a folder's slots when it is scraped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """All metrics of ``FAMILIES``, in their order; without samples if nothing was counted yet."""
        families = {
            _stem(name): Metric(_stem(name), family.help, family.kind) for name, family in BY_NAME.items()
        }
        for (metric, sample, labels), value in _read(sorted(self._folder.glob("slot-*.json"))).items():
            if metric in families:
                families[metric].add_sample(sample, dict(labels), value)
        yield from families.values()


def _stem(name: str) -> str:
    """A metric's name as prometheus_client has it: that of a counter without its end."""
    return name.removesuffix("_total")


def _read(paths: Iterable[Path]) -> _Numbers:
    """The sums of the numbers in these files."""
    numbers: _Numbers = {}
    for path in paths:
        try:
            stored = json.loads(path.read_text())
        except FileNotFoundError:
            continue
        for (metric, sample, labels), value in stored:
            key = metric, sample, tuple((name, text) for name, text in labels)
            numbers[key] = numbers.get(key, 0.0) + value
    return numbers
