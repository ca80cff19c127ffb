"""Spans and counters, with OpenTelemetry and without."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import timeit
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import telemetry
from gateway.budget import Budget
from gateway.errors import StoreBusyError
from gateway.telemetry import Counters
from gateway.telemetry.spans import TRACING
from tests.tracing import linked_ids, named, recorded_spans, trace_ids


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Spans that are recorded in memory."""
    with recorded_spans() as exporter:
        yield exporter


def _only(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exporter.get_finished_spans()
    return span


def test_importing_the_gateway_imports_no_opentelemetry() -> None:
    """A bot that does not use OpenTelemetry never loads it, nor what serves Prometheus."""
    code = "import sys, gateway.telemetry as t; t.Telemetry(t.TelemetryOptions(), t.Counters()).start()\n"
    code += "with t.span('x') as s: s.set_attribute('a', 1)\n"
    code += "sys.exit(any(name.startswith(('opentelemetry', 'prometheus')) for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_span_that_nobody_records_is_cheap() -> None:
    """Without a provider a span costs a few microseconds at most, in the best of several runs on a busy machine."""
    telemetry.refresh()

    def once() -> None:
        with telemetry.span("x"):
            pass

    assert not telemetry.tracing()
    assert min(timeit.repeat(once, number=20_000, repeat=7)) / 20_000 < 5e-6


def test_a_span_that_nobody_records_lets_errors_pass() -> None:
    """An error inside reaches the caller as it is."""
    with pytest.raises(StoreBusyError), telemetry.span("x"):
        raise StoreBusyError("busy")


def test_a_span_carries_the_conventions_names(exporter: InMemorySpanExporter) -> None:
    """A call to a store is recorded with the attributes that tools know, and what became known inside."""
    attributes = telemetry.store_attributes("postgres", "write", store="old", kind="trades", size=3)
    with telemetry.span("write trades", attributes) as running:
        running.set_attribute("rows", 3)
    span = _only(exporter)
    assert span.name == "write trades"
    assert span.kind is trace.SpanKind.CLIENT
    assert dict(span.attributes or {}) == {
        "db.system.name": "postgresql",
        "db.operation.name": "write",
        "db.collection.name": "trades",
        "db.operation.batch.size": 3,
        "gateway.store": "old",
        "rows": 3,
    }


def test_a_batch_of_one_is_no_batch() -> None:
    """The conventions want a batch size for two operations and more only."""
    assert "db.operation.batch.size" not in telemetry.store_attributes("sqlite", "write", store="old")
    assert "db.operation.batch.size" not in telemetry.batch_attributes("old", 1)


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
    telemetry.trace_with(rate=0.0)
    telemetry.divergence_span(
        "trades",
        ("a", 1),
        identity="1f",
        reason="older",
        fields=["price"],
        versions=(7, None),
        stores=("old", "new"),
    )
    span = _only(exporter)
    assert span.name == "gateway.divergence"
    assert dict(span.attributes or {}) == {
        "db.collection.name": "trades",
        "gateway.key": ("a", "1"),
        "gateway.divergence.id": "1f",
        "gateway.divergence.reason": "older",
        "gateway.divergence.fields": ("price",),
        "gateway.store.primary": "old",
        "gateway.store.shadow": "new",
        "gateway.version.primary": 7,
    }


def test_a_divergence_is_linked_to_the_writes(exporter: InMemorySpanExporter) -> None:
    """It is a trace of its own with a link to each write that is known, and none for text that is no traceparent."""
    with telemetry.inner("write"):
        written = telemetry.traceparent()
    links = ["", written, written, "00-zz", f"00-{0:032x}-{0:016x}-01"]
    telemetry.divergence_span(
        "trades", ("a",), identity="", reason="", fields=[], versions=(1, 1), stores=("a", "b"), links=links
    )
    (write,), (found,) = named(exporter, "write"), named(exporter, "gateway.divergence")
    assert linked_ids(found) == trace_ids([write])
    assert len(found.links) == 1
    assert trace_ids([found]) != trace_ids([write])


def test_a_traceparent_names_the_span_that_runs(exporter: InMemorySpanExporter) -> None:
    """What is handed to other processes is the W3C's text; outside any traced span it is empty."""
    assert telemetry.traceparent() == ""
    with telemetry.inner("x"):
        text = telemetry.traceparent()
    context = _only(exporter).context
    assert context is not None
    head, _, flags = text.rpartition("-")
    assert head == f"00-{context.trace_id:032x}-{context.span_id:016x}"
    assert int(flags, 16) & 1


def test_what_is_not_drawn_is_drawn_no_second_time(exporter: InMemorySpanExporter) -> None:
    """Inside a call that is not traced nothing is, and it has no traceparent."""
    telemetry.trace_with(rate=0.0)
    with telemetry.inner("call"):
        telemetry.trace_with(rate=1.0)
        with telemetry.span("inside"):
            assert telemetry.traceparent() == ""
            assert not telemetry.recording()
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("sampled", [True, False])
def test_a_call_inside_a_span_of_the_bot_follows_it(exporter: InMemorySpanExporter, sampled: bool) -> None:
    """Whatever the sample is, what the bot decided for its own span holds for the calls in it."""
    telemetry.trace_with(rate=0.0 if sampled else 1.0)
    flags = trace.TraceFlags(int(sampled))
    bots = trace.NonRecordingSpan(trace.SpanContext(5, 7, is_remote=False, trace_flags=flags))
    with trace.use_span(bots), telemetry.inner("call"):
        pass
    found = named(exporter, "call")
    assert trace_ids(found) == ({5} if sampled else set())
    assert all(span.parent is not None and span.parent.span_id == 7 for span in found)


def test_a_rate_is_a_share_of_the_calls(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many calls about as many are traced as were asked for (five standard deviations either way)."""
    monkeypatch.setattr(TRACING, "_budget", Budget(10_000))
    telemetry.trace_with(rate=0.1)
    for _ in range(2_000):
        with telemetry.inner("call"):
            pass
    assert abs(len(named(exporter, "call")) - 200) < 5 * 13.5


def test_a_burst_of_calls_is_traced_up_to_a_bound(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share is drawn of every call, but of no second more than so many; a share of 1 means every call."""
    now = [time.monotonic() + 100]
    monkeypatch.setattr("gateway.budget.time.monotonic", lambda: now[0])
    monkeypatch.setattr(TRACING, "_budget", Budget(5))
    for rate, second, expected in ((0.5, 1, 5), (0.5, 0, 5), (0.5, 2, 10), (1.0, 0, 110)):
        telemetry.trace_with(rate=rate)
        now[0] += second
        for _ in range(100):
            with telemetry.inner("call"):
                pass
        assert len(named(exporter, "call")) == expected


@pytest.mark.anyio
async def test_tasks_of_the_gateway_belong_to_no_span_of_the_bot(exporter: InMemorySpanExporter) -> None:
    """A bot may open its gateway inside a span: what tasks do later is no part of that, nor of any other trace."""

    async def work() -> None:
        with telemetry.span("poll"):
            pass
        with telemetry.background("replay"), telemetry.span("write trades"):
            pass

    with telemetry.inner("startup"):
        with telemetry.untraced():
            task = asyncio.get_running_loop().create_task(work())
        await task
    assert named(exporter, "poll") == []
    (startup,), (replay,) = named(exporter, "startup"), named(exporter, "replay")
    assert replay.parent is None
    assert trace_ids(named(exporter, "write trades")) == trace_ids([replay]) != trace_ids([startup])


def test_what_is_done_for_several_is_linked_to_each(exporter: InMemorySpanExporter) -> None:
    """A batch belongs to the first write's trace and is linked to the others'; it is traced whatever the sample."""
    traces = []
    for name in ("one", "two", "three"):
        with telemetry.inner(name):
            traces.append(telemetry.traceparent())
    telemetry.trace_with(rate=0.0)
    with telemetry.background("batch", {}, traces, within=True):
        pass
    with telemetry.background("nobody's"):
        pass
    (batch,) = named(exporter, "batch")
    first, *others = (trace_ids(named(exporter, name)) for name in ("one", "two", "three"))
    assert trace_ids([batch]) == first
    assert linked_ids(batch) == set.union(*others)
    assert named(exporter, "nobody's") == []


def test_switched_off_nothing_is_recorded(exporter: InMemorySpanExporter) -> None:
    """Not even divergences, though the bot has a provider."""
    telemetry.trace_with(off=True)
    with telemetry.inner("x"), telemetry.background("y"):
        assert telemetry.traceparent() == ""
    telemetry.divergence_span(
        "trades", (), identity="", reason="", fields=[], versions=(None, None), stores=("a", "b")
    )
    assert exporter.get_finished_spans() == ()


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
