"""The dashboard and the alert rules: they can be loaded, and whatever they ask for is really served."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry import Counters, Telemetry, TelemetryOptions, parse_exporters
from gateway.telemetry.names import METRICS, prometheus_name

CONTRIB = Path(__file__).parents[2] / "contrib"
DASHBOARD = CONTRIB / "grafana" / "storage-gateway.json"
RULES = CONTRIB / "prometheus" / "alerts.yml"
OUTSIDE = {"job", "instance", "le"}
"""Labels that Prometheus and its histograms add."""
VARIABLES = {"$job": ".*", "$__rate_interval": "5m"}


@pytest.fixture(scope="module")
def served() -> set[str]:
    """The samples' names that a process serves which has just begun: each metric is there from the start."""
    telemetry = Telemetry(TelemetryOptions(parse_exporters("prometheus"), port=0), Counters())
    telemetry.start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{telemetry.port}/metrics", timeout=10) as page:
            families = list(text_string_to_metric_families(str(page.read(), "utf-8")))
    finally:
        asyncio.run(telemetry.close())
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    return {f"{family.name}{suffix}" for family in families for suffix in suffixes[family.type]}


def _rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def _dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return loaded


def _queries() -> list[str]:
    dashboard = _dashboard()
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked += [one["expr"] for one in dashboard["annotations"]["list"] if "expr" in one]
    asked += [rule["expr"] for rule in _rules()]
    for name, value in VARIABLES.items():
        asked = [query.replace(name, value) for query in asked]
    return asked


def _selectors(query: str) -> list[promql_parser.VectorSelector]:
    """Return what a query asks for, each metric by itself."""
    found: list[promql_parser.VectorSelector] = []

    def visit(part: promql_parser.Expr) -> None:
        if isinstance(part, promql_parser.VectorSelector):
            found.append(part)

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


@pytest.mark.parametrize("query", sorted(set(_queries())))
def test_what_is_asked_for_is_served(query: str, served: set[str]) -> None:
    """Each query can be parsed, names metrics that exist, and only labels that they have."""
    labels = {
        name.replace(".", "_")
        for metric in METRICS.values()
        if re.search(rf"\b{prometheus_name(metric)}", query)
        for name in metric.attributes
    }
    selectors = _selectors(query)
    names = {part.name for part in selectors}
    assert names, query
    assert names <= served
    used = {matcher.name for part in selectors for matcher in part.matchers.matchers}
    used |= {
        label for listed in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r",\s*", listed)
    }
    assert used <= labels | OUTSIDE


def test_rules_say_what_to_do() -> None:
    """Each alert has a name of its own, a severity, a sentence, and advice; labels in sentences come from its query."""
    rules = _rules()
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
        texts = rule["annotations"]
        assert set(texts) == {"summary", "description"}
        for label in re.findall(r"\$labels\.(\w+)", "".join(texts.values())):
            assert label in rule["expr"], (rule["alert"], label)
        assert all(text.count("{{") == text.count("}}") for text in texts.values())


def test_the_dashboard_can_be_imported() -> None:
    """It has what Grafana asks for: ids, places that do not overlap, data sources by variable."""
    dashboard = _dashboard()
    assert dashboard["schemaVersion"] >= 39
    assert dashboard["uid"] == "storage-gateway"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not own & taken
        taken |= own
        if panel["type"] == "row":
            continue
        assert panel["type"] in {"timeseries", "stat"}
        assert panel["title"]
        assert panel["description"]
        targets = panel["targets"]
        assert len({target["refId"] for target in targets}) == len(targets)
        assert all(one["datasource"]["uid"] == "${datasource}" for one in (panel, *targets))
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert {"datasource", "job"} <= variables
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard)))
    assert used - {"__rate_interval"} <= variables


def test_every_metric_is_shown_or_watched(served: set[str]) -> None:
    """What is measured is looked at, apart from what is told in logs and in the gateway's health."""
    queries = "\n".join(_queries())
    unused = {
        name for name in served if name not in queries and not name.endswith(("_sum", "_count", "_bucket"))
    }
    assert unused <= {
        "gateway_batches_total",
        "gateway_reads_total",
        "gateway_write_failures_total",
        "gateway_mirror_failures_total",
        "gateway_alerts_failed_total",
        "gateway_cache_closed_seconds_total",
    }
