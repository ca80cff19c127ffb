"""Traces of a bot: what belongs together is one trace, or linked, across tasks and processes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import Gateway, SyncGateway
from gateway.divergences.divergence import refusal_of
from gateway.divergences.store import DivergenceStore
from gateway.divergences.traces import WriteTraces, traces_of
from gateway.errors import GatewayError
from gateway.migration.control_file import ControlFile
from gateway.records import TRADES
from gateway.records.stamp import DEFAULT_TENANT
from gateway.records.version import MAX_VERSION
from tests.children import children
from tests.tracing import bots_span, linked_ids, named, recorded_spans, trace_ids

pytestmark = pytest.mark.anyio
TRADE: dict[str, Any] = {
    "market_name": "BTC",
    "condition_id": "c",
    "action": "buy",
    "side": "YES",
    "price": 0.5,
    "amount": 1,
}

WRITER = """
import asyncio, json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from gateway import Gateway

trace.set_tracer_provider(TracerProvider())

async def main():
    stores, directory, pause = sys.argv[1:]
    async with Gateway(stores, data_dir=directory, environ={}, env_file=None) as gateway:
        if pause == "paused":
            gateway._mirrors.feed("old", "new").pause("it is left to another process")
        with trace.get_tracer("bot").start_as_current_span("decide") as span:
            ack = await gateway.insert_trade(**json.loads(sys.stdin.read()))
            print(json.dumps([ack.record_id, span.get_span_context().trace_id]))

asyncio.run(main())
"""


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Spans that are recorded in memory."""
    with recorded_spans() as exporter:
        yield exporter


def _gateway(stores: str, directory: Path, **settings: Any) -> Gateway:
    return Gateway(stores, data_dir=directory, environ={}, env_file=None, **settings)


def _pair(directory: Path) -> str:
    return f"old=sqlite:{directory / 'old.db'},new=sqlite:{directory / 'new.db'}"


def _written_elsewhere(directory: Path, pause: str) -> tuple[str, int]:
    """Let another process write a trade in a trace; return its id and the trace's."""
    with children() as start:
        child = start("-c", WRITER, _pair(directory), directory, pause)
        out, errors = child.communicate(json.dumps(TRADE), timeout=60)
    assert child.returncode == 0, errors
    record_id, trace_id = json.loads(out)
    return record_id, trace_id


def _parents(exporter: InMemorySpanExporter, span: ReadableSpan) -> list[str]:
    """Return the names of a span and of what it is in, outwards."""
    known = {one.context.span_id: one for one in exporter.get_finished_spans() if one.context is not None}
    names = [span.name]
    while span.parent is not None:
        span = known[span.parent.span_id]
        names.append(span.name)
    return names


async def test_a_call_its_batch_and_its_store_are_one_trace(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    """A call of a bot has its own span, within it that of the batch, and within that the call to the store."""
    async with _gateway("sqlite", tmp_path, telemetry_sample=1) as gateway:
        ack = await gateway.insert_trade(**TRADE)
        await gateway.get("trades", ack.record_id)
    (write,), (read,) = named(exporter, "write trades"), named(exporter, "get trades")
    assert _parents(exporter, write) == ["write trades", "gateway.batch", "gateway.insert_trade"]
    assert _parents(exporter, read) == ["get trades", "gateway.get"]
    assert dict(write.attributes or {}) == {
        "db.system.name": "sqlite",
        "db.operation.name": "write",
        "db.collection.name": "trades",
        "gateway.store": "sqlite",
    }


async def test_writes_that_share_a_batch_are_linked_to_it(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    """Of many at once, each finds its batch: as its trace's own, or as one that has a link to it."""
    async with _gateway("sqlite", tmp_path, telemetry_sample=1) as gateway:
        await asyncio.gather(*(gateway.insert_trade(**TRADE) for _ in range(20)))
    calls, batches = named(exporter, "gateway.insert_trade"), named(exporter, "gateway.batch")
    assert len(trace_ids(calls)) == 20 > len(batches)
    assert trace_ids(calls) == trace_ids(batches).union(*map(linked_ids, batches))


async def test_few_calls_are_traced_unless_more_are_asked_for(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    """At default settings about one call in a hundred is, so that 300 cost hardly anything."""
    async with _gateway("memory", tmp_path) as gateway:
        for _ in range(300):
            await gateway.insert_trade(**TRADE)
    assert len(named(exporter, "gateway.insert_trade")) < 20


async def test_switched_off_nothing_is_traced_and_calls_are_the_methods_themselves(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    """Off means that nothing stands between a bot and its calls."""
    async with _gateway("sqlite", tmp_path, telemetry="off", telemetry_sample=1) as gateway:
        await gateway.insert_trade(**TRADE)
        assert gateway.insert_trade.__func__ is Gateway.insert_trade  # type: ignore[attr-defined]
    assert exporter.get_finished_spans() == ()


async def test_a_closed_gateway_has_its_own_calls_again(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    """What was put around them goes with the closing, and comes back once, however often it is opened."""
    gateway = _gateway("sqlite", tmp_path, telemetry_sample=1)
    for _ in range(3):
        async with gateway:
            await gateway.insert_trade(**TRADE)
    assert gateway.insert_trade.__func__ is Gateway.insert_trade  # type: ignore[attr-defined]
    assert len(named(exporter, "gateway.insert_trade")) == 3


def test_calls_that_block_are_traced_inside_the_callers_span(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    """The loop's thread goes on with the trace of the thread that called."""
    with SyncGateway("sqlite", data_dir=tmp_path, environ={}, env_file=None) as gateway, bots_span("decide"):
        gateway.insert_trade(**TRADE)
    (decide,), (call,) = named(exporter, "decide"), named(exporter, "gateway.insert_trade")
    assert _parents(exporter, call) == ["gateway.insert_trade", "decide"]
    assert trace_ids(named(exporter, "write trades")) == trace_ids([decide])


async def test_a_failed_call_says_so(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    """The error's class is on the span of the call."""
    async with _gateway("sqlite", tmp_path, telemetry_sample=1) as gateway:
        with pytest.raises(GatewayError):
            await gateway.query("trades", limit=-1)
    (call,) = named(exporter, "gateway.query")
    assert (call.attributes or {})["error.type"] == "InvalidRecordError"


async def test_a_mirror_is_written_in_a_span_linked_to_the_write(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    """Nobody waits for the mirror, so its span is a trace of its own; a link leads to whose write it was."""
    async with _gateway(_pair(tmp_path), tmp_path, telemetry_sample=0) as gateway:
        with bots_span("decide"):
            await gateway.insert_trade(**TRADE)
        await gateway.update_daily_stats("2026-11-21", pnl_delta=1)
    (decide,) = named(exporter, "decide")
    feeds = [span for span in named(exporter, "gateway.mirror.feed") if linked_ids(span)]
    assert [linked_ids(span) for span in feeds] == [trace_ids([decide])]
    assert trace_ids(feeds) != trace_ids([decide])


async def test_a_replay_is_linked_to_a_write_of_another_process(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    """What a process left in the journal has the trace of its write with it."""
    _, trace_id = await asyncio.to_thread(_written_elsewhere, tmp_path, "paused")
    async with _gateway(_pair(tmp_path), tmp_path, telemetry_sample=0) as gateway:
        assert gateway._mirrors is not None
        assert await gateway._mirrors.drained("old", "new", MAX_VERSION, 20)
    assert {trace_id} in [linked_ids(span) for span in named(exporter, "gateway.mirror.replay")]


async def test_a_divergence_is_linked_to_the_write_of_another_process(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    """Long after a row was handed over and acknowledged, a difference leads back to the trace that made it."""
    record_id, trace_id = await asyncio.to_thread(_written_elsewhere, tmp_path, "fed")
    with sqlite3.connect(tmp_path / "new.db") as mirror:
        (table,) = mirror.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%trades'"
        ).fetchone()
        assert mirror.execute(f'DELETE FROM "{table}"').rowcount == 1  # noqa: S608 - a name from the database
    mirror.close()
    settings: dict[str, Any] = {"phase": "shadow_read", "shadow_sample": 1, "telemetry_sample": 0}
    async with _gateway(_pair(tmp_path), tmp_path, **settings) as gateway:
        with bots_span("look"):
            assert await gateway.get("trades", record_id) is not None
        assert gateway._shadow is not None
        await gateway._shadow.drain()
    (found,) = named(exporter, "gateway.divergence")
    (look,), (inquiry,) = named(exporter, "look"), named(exporter, "gateway.inquire")
    assert linked_ids(found) == {trace_id} | trace_ids([inquiry])
    control = ControlFile(tmp_path / "control.db")
    (kept,) = DivergenceStore(control).listed()
    assert (found.attributes or {})["gateway.divergence.id"] == kept.identity
    written = traces_of(control, kept)
    assert {store: int(trace.split("-")[1], 16) for store, trace in written.items()} == {"old": trace_id}
    assert linked_ids(inquiry) == trace_ids([look])
    assert linked_ids(named(exporter, "gateway.compare")[0]) == trace_ids([look])


async def test_why_a_mirror_refuses_a_row_is_in_no_span(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    """What a store says of a value may quote it; the list of divergences has it, and no trace does."""
    traces = WriteTraces(ControlFile(tmp_path / "control.db"))
    said = "value 'hunter2' is too long"
    found = refusal_of(TRADES, ("a",), 1, tenant=DEFAULT_TENANT, primary="old", mirror="new", reason=said)
    traces.report(found)
    await traces.aclose()
    assert said in found.reason
    (span,) = named(exporter, "gateway.divergence")
    assert (span.attributes or {})["gateway.divergence.reason"] == "refused by the mirror"
    assert "hunter2" not in span.to_json()


async def test_the_table_of_traces_is_bounded(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    """However much is traced, the control store keeps so many rows and no more."""
    async with _gateway(_pair(tmp_path), tmp_path, telemetry_sample=1) as gateway:
        traces = gateway.engine.lanes["old"].traced.__self__  # type: ignore[union-attr] # a bound method
        traces._kept = 10
        for _ in range(5):
            await asyncio.gather(*(gateway.insert_trade(**TRADE) for _ in range(10)))
            await traces._flush()
    with sqlite3.connect(tmp_path / "control.db") as control:
        assert control.execute("SELECT count(*) FROM write_traces").fetchone() == (10,)
    control.close()
    assert len(named(exporter, "gateway.insert_trade")) == 50
