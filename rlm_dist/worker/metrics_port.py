"""The port on which a worker serves its metrics, if ``RLM_METRICS_PORT`` is set.

A sub worker is one process. Of a root worker, the main process serves the sum over its pool's slots, which
are in a folder below ``RLM_HOME``; it is of this port of this host, and is emptied when the port is taken.
"""

import re
import shutil
import socket
from pathlib import Path
from typing import NamedTuple
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from rlm_dist.local.folders import own_folder
from rlm_dist.schema import Role
from rlm_dist.settings import Settings
from rlm_dist.worker.metrics import Unmeasured, WorkerMetrics
from rlm_dist.worker.metrics_slots import SlotMetrics, SlotsCollector
from rlm_dist.worker.model_names import ModelNames

log = structlog.get_logger()


class InfoMetric(NamedTuple):
    """A metric that is always 1, and whose labels say something."""

    name: str
    help: str
    labels: tuple[str, ...]

    def sample(self, *values: str) -> Metric:
        """The metric with these values of its labels."""
        gauge = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        gauge.add_metric(values, 1)
        return gauge


SANDBOX = InfoMetric(
    "rlm_sandbox_info",
    "The level of a root worker's sandbox, what RLM_SANDBOX asks for, and the weakest that is allowed.",
    ("level", "asked", "minimum"),
)


class _Fixed:
    """A collector of a metric that does not change."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        """The metric."""
        return [self._metric]


class MetricsPort:
    """Serves metrics from the main process of a worker; does nothing if no port is set or it is in use."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self._settings = settings
        self._role = role
        self._registry = CollectorRegistry(auto_describe=False)
        self._server: WSGIServer | None = None
        self._folder: Path | None = None
        self._slot: SlotMetrics | None = None

    def open(self) -> Unmeasured:
        """Serve what the returned object counts in this process."""
        if not self._serve():
            return Unmeasured()
        return WorkerMetrics(self._registry, ModelNames())

    def open_for_slots(self, sandbox: Metric) -> None:
        """Serve what the slots of the pool count, and the level of the sandbox."""
        if not self._serve():
            return
        assert self._server is not None
        home = own_folder(self._settings.home / "metrics")
        address = re.sub(r"[^\w.-]", "_", self._settings.metrics_address)
        folder = home / f"{socket.gethostname()}_{address}_{self._server.server_port}"
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = own_folder(folder)
        self._registry.register(SlotsCollector(self._folder))
        self._registry.register(_Fixed(sandbox))

    def of_slot(self, slot: int) -> Unmeasured:
        """In a process of the pool: what counts for this slot."""
        if self._server is not None:
            self._server.socket.close()  # the main process has it
        if self._folder is None:
            return Unmeasured()
        self._slot = SlotMetrics(self._folder, slot)
        return self._slot.metrics

    def close_slot(self) -> None:
        """In a process of the pool: write what was counted."""
        if self._slot is not None:
            self._slot.close()

    def close(self) -> None:
        """Stop serving, and remove the folder of the slots."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self) -> bool:
        port, address = self._settings.metrics_port, self._settings.metrics_address
        if port is None:
            return False
        try:
            self._server, _ = start_http_server(port, address, self._registry)
        except OSError as error:
            why = error.strerror or type(error).__name__
            log.error("metrics_not_served", address=address, port=port, why=f"{why}: RLM_METRICS_PORT")
            return False
        PlatformCollector(registry=self._registry)
        ProcessCollector(registry=self._registry)
        log.info("metrics_served", role=self._role.value, address=address, port=self._server.server_port)
        return True
