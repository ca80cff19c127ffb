"""What is measured, and what is said about it: sums, bounds, names, options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from gateway.errors import ConfigurationError, JournalFullError, QueueFullError, StoreBusyError
from gateway.telemetry import Counters, Exporter, Gauge, Meters, StoreCalls, checked_endpoint, parse_exporters
from gateway.telemetry.meters import PER_SECOND, Observed, Reading
from gateway.telemetry.names import COUNTED, METRICS, Sort, of_store, prometheus_name
from gateway.telemetry.otel import Instruments

LATENCY = METRICS["db.client.operation.duration"]


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    """A real reader of a bot's own meter provider, with the instruments of the gateways in `OBSERVED`."""
    yield (made := InMemoryMetricReader())
    made.shutdown()


def _read(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    assert data is not None
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}


def test_every_counter_goes_somewhere() -> None:
    """Whatever is counted belongs to one metric that exists, and no two counters share a series."""
    assert set(COUNTED) == set(Counters.__slots__)
    assert len(set(COUNTED.values())) == len(COUNTED)
    for name, attributes in COUNTED.values():
        metric = METRICS[name]
        assert metric.sort is Sort.COUNTER
        assert tuple(key for key, _ in attributes) == metric.attributes


def test_bounds_rise() -> None:
    """The bounds of a histogram are in order, and only histograms have any."""
    for metric in METRICS.values():
        assert bool(metric.bounds) == (metric.sort is Sort.HISTOGRAM)
        assert all(low < high for low, high in pairwise(metric.bounds))


def test_prometheus_knows_each_by_a_name_of_its_own() -> None:
    """Names follow the rules by which collectors translate them: units at the end, totals behind them."""
    names = {prometheus_name(metric) for metric in METRICS.values()}
    assert len(names) == len(METRICS)
    assert {
        "db_client_operation_duration_seconds",
        "gateway_operations_total",
        "gateway_mirror_up",
        "gateway_journal_age_seconds",
    } <= names


@given(st.lists(st.floats(0, 100, allow_nan=False)))
def test_a_histogram_counts_as_the_definition_says(values: list[float]) -> None:
    """Each value is in the first bucket whose bound it does not exceed, and the sum is that of all."""
    series = Meters().series(LATENCY.name, ())
    for value in values:
        series.add(value)
    expected = [0] * (len(LATENCY.bounds) + 1)
    for value in values:
        over = [at for at, bound in enumerate(LATENCY.bounds) if value <= bound]
        expected[over[0] if over else -1] += 1
    assert series.counts == expected
    assert series.total == pytest.approx(sum(values))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["count", "time", "close"])), max_size=40))
def test_no_sum_ever_falls(steps: list[tuple[int, str]]) -> None:
    """Whatever gateways do, and whichever of them close, counters and histograms of the process only grow."""
    observed, everything = Observed(), [Meters() for _ in range(4)]
    for meters in everything:
        observed.add(meters)
    counted = timed = 0
    for which, what in steps:
        meters = everything[which]
        is_open = meters in observed._open
        if what == "close":
            observed.remove(meters)
        elif what == "count":
            meters.counters.reads += 1
            counted += is_open
        else:
            meters.call("sqlite", "old", "get").ended(0.002)
            timed += is_open
        assert [one.value for one in observed.read(METRICS["gateway.reads"])] == [counted]
        assert sum(sum(one.counts) for one in observed.read(LATENCY)) == timed


def test_failed_calls_are_a_series_of_their_own() -> None:
    """The error's class tells them apart, and calls are counted beside the histogram."""
    meters = Meters()
    calls = StoreCalls(meters, "postgres", "old")
    calls.ended("write", 0.1)
    calls.failed("write", StoreBusyError("busy with secret 42"), 0.2)
    found = {dict(one.attributes).get("error.type"): one.value for one in meters.read("gateway.store.calls")}
    assert found == {None: 1, "StoreBusyError": 1}
    assert all("42" not in str(one) for one in meters.read("gateway.store.calls"))
    assert {dict(one.attributes)["db.system.name"] for one in meters.read(LATENCY.name)} == {"postgresql"}


def test_what_a_bound_refuses_is_counted() -> None:
    """Full queues and full journals are told apart, and no other failure is taken for one."""
    meters = Meters()
    for error in (QueueFullError("full"), JournalFullError("full", target="new"), StoreBusyError("busy")):
        meters.refused(error)
    assert (meters.counters.queue_refused, meters.counters.journal_refused) == (1, 1)


def test_gauges_are_those_of_open_gateways() -> None:
    """A gateway that was closed has no queue any more."""
    observed, meters = Observed(), Meters()
    meters.watch(
        lambda: [Gauge("gateway.lane.depth", of_store("old"), 7), Gauge("gateway.buffer.depth", (), 1)]
    )
    observed.add(meters)
    depth = METRICS["gateway.lane.depth"]
    assert observed.read(depth) == [Reading(of_store("old"), 7)]
    observed.remove(meters)
    assert observed.read(depth) == []


def test_a_meter_provider_reads_them(reader: InMemoryMetricReader) -> None:
    """The bot's own reader sees counters, gauges and histograms, with units, until the instruments are withdrawn."""
    observed, meters = Observed(), Meters(Counters(reads=2))
    observed.add(meters)
    meters.watch(lambda: [Gauge("gateway.lane.depth", of_store("old"), 7)])
    provider = MeterProvider([reader])
    instruments = Instruments(provider, observed)
    meters.counters.reads += 1
    meters.call("sqlite", "old", "get").ended(0.002)
    found = _read(reader)
    assert [point.value for point in found["gateway.reads"]] == [3]
    assert [point.value for point in found["gateway.lane.depth"]] == [7]
    (point,) = found[LATENCY.name]
    assert isinstance(point, HistogramDataPoint)
    assert (point.count, point.sum) == (1, 0.002)
    assert tuple(point.explicit_bounds) == LATENCY.bounds
    assert dict(point.attributes or {}) == {
        "db.system.name": "sqlite",
        "db.operation.name": "get",
        "gateway.store": "old",
    }
    instruments.withdraw()
    for _ in range(PER_SECOND):
        meters.call("sqlite", "old", "get").ended(0.002)
    assert [one.count for one in _read(reader)[LATENCY.name]] == [1]


def test_a_histogram_of_opentelemetry_gets_a_sample_and_a_counter_says_of_how_many(
    reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many values a second go into it; the counter beside it has all."""
    now = [100.0]
    monkeypatch.setattr("gateway.budget.time.monotonic", lambda: now[0])
    observed, meters = Observed(), Meters()
    observed.add(meters)
    instruments = Instruments(MeterProvider([reader]), observed)
    calls = meters.operation("insert_trade")
    for second in range(3):
        now[0] += second and 1
        for _ in range(2 * PER_SECOND):
            calls.ended(0.001)
    found = _read(reader)
    assert [point.count for point in found["gateway.operation.duration"]] == [3 * PER_SECOND]
    assert [point.value for point in found["gateway.operations"]] == [6 * PER_SECOND]
    instruments.withdraw()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("off", set()),
        ("auto", {Exporter.AUTO}),
        (" OTLP , prometheus,", {Exporter.OTLP, Exporter.PROMETHEUS}),
    ],
)
def test_exporters_are_a_list(text: str, expected: set[Exporter]) -> None:
    """Off stands alone, the others go together."""
    assert parse_exporters(text) == expected


@pytest.mark.parametrize("text", ["", "on", "off,otlp", "otlp;prometheus"])
def test_other_words_are_refused(text: str) -> None:
    """The sentence says what can be written."""
    with pytest.raises(ConfigurationError, match="off, or one or more of auto, otlp and prometheus"):
        parse_exporters(text)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://bot:hunter2@collector:4318", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("https://collector/?key=hunter2", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("collector:4318", "base URL"),
        ("grpc://collector", "base URL"),
        ("http://collector:hunter2", "base URL"),
        ("http://", "base URL"),
    ],
)
def test_an_endpoint_that_cannot_work_or_holds_a_secret_is_refused(url: str, why: str) -> None:
    """What is refused is not repeated, since it may hold a password."""
    with pytest.raises(ConfigurationError, match=why) as caught:
        checked_endpoint(url)
    assert "hunter2" not in str(caught.value)


def test_an_endpoint_is_a_base_url() -> None:
    """A path stays, a slash at its end does not."""
    assert checked_endpoint("https://collector.example.com/otel/") == "https://collector.example.com/otel"


def test_every_metric_is_documented_as_it_is() -> None:
    """docs/telemetry.md lists the metrics with sort, unit, attributes and meaning."""
    text = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z.]+)` \| (\w+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert [row for row in rows if row[0] in METRICS] == [
        (
            metric.name,
            metric.sort.value,
            metric.unit,
            ", ".join(f"`{name}`" for name in metric.attributes) or "-",
            metric.description,
        )
        for metric in METRICS.values()
    ]
