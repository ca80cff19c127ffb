"""Spans and counters, with OpenTelemetry and without."""

from __future__ import annotations

import subprocess
import sys
import timeit
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import telemetry
from gateway.errors import StoreBusyError
from gateway.telemetry import Counters


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Spans that are recorded in memory, as a bot with OpenTelemetry would export them."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # The global provider can be set once a process, which would leak into every other test.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    telemetry.refresh()
    yield exporter
    provider.shutdown()
    monkeypatch.undo()
    telemetry.refresh()


def _only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def test_importing_the_gateway_imports_no_opentelemetry() -> None:
    """A bot that does not use OpenTelemetry never loads it."""
    code = "import sys, gateway.telemetry as t; t.observe(t.Counters())\n"
    code += "with t.span('x') as s: s.set_attribute('a', 1)\n"
    code += "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_span_that_nobody_records_is_cheap() -> None:
    """Without a provider a span costs about a microsecond at most, in the best of several runs."""
    telemetry.refresh()

    def once() -> None:
        with telemetry.span("x"):
            pass

    assert not telemetry.tracing()
    assert min(timeit.repeat(once, number=20_000, repeat=7)) / 20_000 < 2e-6


def test_a_span_that_nobody_records_lets_errors_pass() -> None:
    """An error inside reaches the caller as it is."""
    with pytest.raises(StoreBusyError), telemetry.span("x"):
        raise StoreBusyError("busy")


def test_a_span_carries_the_conventions_names(exporter: InMemorySpanExporter) -> None:
    """A call to a store is recorded with the attributes that tools know, and what became known inside."""
    attributes = telemetry.store_attributes("sqlite", "write", store="old", kind="trades", size=3)
    with telemetry.span("gateway.write", attributes) as running:
        running.set_attribute("rows", 3)
    span = _only(exporter)
    assert span.name == "gateway.write"
    assert span.kind is trace.SpanKind.CLIENT
    assert dict(span.attributes or {}) == {
        "db.system.name": "sqlite",
        "db.operation.name": "write",
        "db.collection.name": "trades",
        "db.operation.batch.size": 3,
        "gateway.store": "old",
        "rows": 3,
    }


def test_a_batch_of_one_is_no_batch() -> None:
    """The conventions want a batch size for two operations and more only."""
    assert "db.operation.batch.size" not in telemetry.store_attributes("sqlite", "write", store="old")


def test_our_own_errors_are_named_and_explained(exporter: InMemorySpanExporter) -> None:
    """A span that ends with an error of the gateway says which and what."""
    with pytest.raises(StoreBusyError), telemetry.span("x"):
        raise StoreBusyError("another writer holds it", backend="old")
    span = _only(exporter)
    assert (span.attributes or {})["error.type"] == "StoreBusyError"
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == "old: another writer holds it"


def test_a_drivers_message_is_not_recorded(exporter: InMemorySpanExporter) -> None:
    """The text of a foreign error may hold a password, so that only its type is recorded."""
    with pytest.raises(ValueError, match="hunter2"), telemetry.span("x"):
        raise ValueError("cannot connect with password hunter2")
    span = _only(exporter)
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert "hunter2" not in span.to_json()


def test_a_divergence_is_traced(exporter: InMemorySpanExporter) -> None:
    """A difference is a span with key, fields and versions, but no version where there is no row."""
    telemetry.divergence_span(
        "trades", ("a", 1), reason="older", fields=["price"], versions=(7, None), stores=("old", "new")
    )
    span = _only(exporter)
    assert span.name == "gateway.divergence"
    assert dict(span.attributes or {}) == {
        "db.collection.name": "trades",
        "gateway.key": ("a", "1"),
        "gateway.divergence.reason": "older",
        "gateway.divergence.fields": ("price",),
        "gateway.store.primary": "old",
        "gateway.store.shadow": "new",
        "gateway.version.primary": 7,
    }


def test_a_provider_set_later_is_found(exporter: InMemorySpanExporter) -> None:
    """Once a provider is there, looking again finds it."""
    assert telemetry.tracing()
    with telemetry.span("x"):
        pass
    assert _only(exporter).name == "x"


def test_a_snapshot_names_every_counter() -> None:
    """The snapshot has each counter under its own name."""
    counters = Counters(batches=2, shadow_match=1)
    counters.reads += 5
    snapshot = counters.snapshot()
    assert (snapshot["batches"], snapshot["shadow_match"], snapshot["reads"], snapshot["superseded"]) == (
        2,
        1,
        5,
        0,
    )
    assert set(snapshot) == set(Counters.__slots__)


def test_instruments_read_the_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric reader sees the sum over every gateway, which does not fall when one of them closes."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics_internal, "_METER_PROVIDER", provider)
    monkeypatch.setattr(telemetry, "_metrics", telemetry._Metrics())
    one, two = Counters(reads=2), Counters(reads=3)
    telemetry.observe(one)
    telemetry.observe(two)
    one.reads += 1
    assert _observed(reader, "gateway.reads") == 6
    telemetry.retire(one)
    telemetry.retire(one)
    two.reads += 1
    assert _observed(reader, "gateway.reads") == 7
    provider.shutdown()


def _observed(reader: InMemoryMetricReader, name: str) -> int | float:
    data = reader.get_metrics_data()
    assert data is not None
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    (metric,) = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
    (point,) = metric.data.data_points
    assert isinstance(point, NumberDataPoint)
    return point.value
