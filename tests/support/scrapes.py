"""Scrapes of metrics over HTTP, and the names of metrics in what reads them."""

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from tests.support.environment import PROJECT

RULES = PROJECT / "deploy" / "prometheus" / "rules.yml"
SCRAPE_CONFIG = PROJECT / "deploy" / "prometheus" / "prometheus.yml"
DASHBOARD = PROJECT / "deploy" / "grafana" / "rlm_dist.json"
# As long as Prometheus waits by default.
_TIMEOUT_S = 10.0
# Prometheus makes it itself, for each target.
OF_PROMETHEUS = frozenset({"up"})
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_NO_METRICS = re.compile(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|without|on|ignoring)\s*\([^)]*\)")
_NAME = re.compile(r"(?<![\w.$:])[A-Za-z_:][\w:]*\b(?!\s*\()")
_WORDS = frozenset({"and", "or", "unless", "sum", "min", "max", "count"})


class Scrape:
    """What a scrape returned."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """The value of a sample; None if it is not there."""
        return self._values.get((name, frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels, among others."""
        return sum(
            value
            for (sample, found), value in self._values.items()
            if sample == name and found >= labels.items()
        )

    def label_values(self) -> set[str]:
        """The values of all labels."""
        return {value for _, labels in self._values for _, value in labels}

    def names(self) -> set[str]:
        """The names that an expression may use, of metrics without a sample too."""
        found = set()
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", self.text, re.M):
            ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            found |= {name + end for end in ends}
        return found


def scrape(url: str) -> Scrape:
    """Scrape ``/metrics`` of a server."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=_TIMEOUT_S) as answer:
        return Scrape(answer.read().decode())


def metrics_in(expression: str) -> set[str]:
    """The names of metrics in an expression of PromQL."""
    return set(_NAME.findall(_NO_METRICS.sub(" ", _STRING.sub(" ", expression)))) - _WORDS


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def expressions() -> Iterator[str]:
    """All expressions of the dashboard and of the alert rules."""
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for group in YAML(typ="safe").load(RULES)["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
