"""The dashboard and the alert rules under deploy/: well formed, and of metrics that we have."""

import json
import re
from collections.abc import Iterator
from itertools import combinations

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from ruamel.yaml import YAML

from rlm_dist.operations.metrics.cluster import FAMILIES as OF_CLUSTER
from rlm_dist.worker.metrics import FAMILIES as OF_WORKER
from rlm_dist.worker.metrics_port import SANDBOX
from tests.support.environment import PROJECT
from tests.support.scrapes import RULES, dashboard, expressions, metrics_in

OURS = {family.name for family in (*OF_CLUSTER, *OF_WORKER, SANDBOX)}
ROWS = ["Money and tokens", "Jobs", "Calls", "Endpoints", "Workers"]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        (
            'sum by (role) (rate(rlm_a_total{x="rlm_b", y=~"c{d"}[$__rate_interval])) > 0.1 * rlm_c',
            "a_total c",
        ),
        ("histogram_quantile(0.5, sum by (le, role) (rate(rlm_d_bucket[5m])))", "d_bucket"),
        ("sum(rlm_e) > 0 and on (x) rlm_f == 1e3 or rlm_g", "e f g"),
    ],
)
def test_the_names_in_an_expression_are_found(expression: str, names: str) -> None:
    assert metrics_in(expression) == {f"rlm_{name}" for name in names.split()}


def test_each_of_our_metrics_is_on_the_dashboard_or_in_a_rule_but_for_a_few() -> None:
    used = {name for expression in expressions() for name in metrics_in(expression)}
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert OURS - used == {"rlm_batches_unread", "rlm_endpoints_unread"}
    assert {name for name in used if name.startswith("rlm_")} <= OURS


def test_names_follow_the_rules_of_prometheus() -> None:
    assert len(OURS) == len(OF_CLUSTER) + len(OF_WORKER) + 1
    for metric in OF_WORKER:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert bool(metric.buckets) == (metric.kind == "histogram"), metric.name
    for family in (*OF_CLUSTER, *OF_WORKER, SANDBOX):
        assert re.fullmatch(r"rlm_[a-z0-9_]+", family.name)
        assert family.help.endswith(".")
        assert not {"job", "instance", "le"} & set(family.labels), "Prometheus and histograms use these"


def test_the_tables_of_the_documents_have_each_metric_with_its_kind_and_labels() -> None:
    text = (PROJECT / "docs" / "operations.md").read_text()
    shown = re.findall(r"^\| `(rlm_\w+)` \| (\w+) \| ([^|]*) \| .+ \|$", text, re.M)
    found = [(name, kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in shown]
    assert found == [
        *((family.name, "gauge", list(family.labels)) for family in OF_CLUSTER),
        *((family.name, family.kind, list(family.labels)) for family in OF_WORKER),
        (SANDBOX.name, "gauge", list(SANDBOX.labels)),
    ]


def test_the_dashboard_has_its_rows_and_a_variable_for_its_source() -> None:
    board = dashboard()
    assert board["title"]
    assert re.fullmatch(r"[\w-]{1,40}", board["uid"])
    assert isinstance(board["schemaVersion"], int)
    (variable,) = board["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    assert [panel["title"] for panel in board["panels"] if panel["type"] == "row"] == ROWS
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        source = {"type": "prometheus", "uid": f"${{{variable['name']}}}"}
        assert panel["datasource"] == source, panel["title"]
        assert panel["type"] in ("stat", "timeseries")
        assert panel["fieldConfig"]["defaults"]["unit"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters)) != [], panel["title"]
        assert all(target["datasource"] == source and target["expr"] for target in panel["targets"])


def test_the_dashboard_has_nothing_that_grafana_does_not_know() -> None:
    """What the models of Grafana's own SDK read comes back whole: they drop what is not in their schema."""
    register_default_plugins()
    board = dashboard()
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
    assert list(dropped(board, read)) == []
    misspelt = {**board, "panels": [{**board["panels"][1], "gridpos": {}}]}
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(misspelt)))
    assert list(dropped(misspelt, read)) == ["/panels/0/gridpos"]


def dropped(given: object, read: object, path: str = "") -> Iterator[str]:
    """The places in JSON that are not the same in what was read of it; further fields may have been added."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from dropped(value, read.get(key), f"{path}/{key}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for index, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from dropped(one, other, f"{path}/{index}")
    elif given != read:
        yield path


def test_the_panels_of_the_dashboard_have_their_places() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    for place in places:
        assert place["x"] + place["w"] <= 24
        assert min(place["x"], place["y"]) >= 0
        assert min(place["w"], place["h"]) > 0
    for one, other in combinations(places, 2):
        apart = [
            one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at]
            for at, size in (("x", "w"), ("y", "h"))
        ]
        assert any(apart), (one, other)


def test_each_alert_says_what_is_wrong_and_has_a_test() -> None:
    (group,) = YAML(typ="safe").load(RULES)["groups"]
    tested = (PROJECT / "tests/integration/deploy/alerts_test.yml").read_text()
    assert len(group["rules"]) >= 8
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}
        name = rule["alert"]
        assert f"alertname: {name}, " in tested, name
        assert f"""'{{alertname="{name}"}}'""" in tested, name
