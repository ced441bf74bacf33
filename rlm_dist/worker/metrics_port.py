"""The port on which a worker serves its metrics, if ``RLM_METRICS_PORT`` is set.

A worker is one process. It also counts what its jobs measure that run in processes of their own
(``metrics_pipe``).
"""

from typing import NamedTuple
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from rlm_dist.schema import Role
from rlm_dist.settings import Settings
from rlm_dist.worker.metrics import Unmeasured, WorkerMetrics
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
    """Serves a worker's metrics; does nothing if no port is set or it is in use."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self._settings = settings
        self._role = role
        self._registry = CollectorRegistry(auto_describe=False)
        self._server: WSGIServer | None = None

    def open(self, *fixed: Metric) -> Unmeasured:
        """Serve what the returned object counts, and metrics that do not change."""
        if not self._serve():
            return Unmeasured()
        for metric in fixed:
            self._registry.register(_Fixed(metric))
        return WorkerMetrics(self._registry, ModelNames())

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

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
