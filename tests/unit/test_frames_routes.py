"""Many rows at once along the routes: by column where a store can, with the same stamps everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway, bulk
from gateway.backend import BackendSpec, OpenContext, WriteBatch, WriteReceipt
from gateway.candles import Bar, Sample
from gateway.columns import ArrowTable, ColumnBatch
from gateway.errors import MirrorWriteError, StoreFullError
from gateway.hookspecs import hookimpl
from gateway.query import Query
from gateway.records import INDICATORS, TICK_PRICES, Candle, TickPrice
from gateway.records.row import Row
from tests.conformance.broken.columnar import Columnar

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, tzinfo=UTC)
SERIES = {"session_id": "s", "symbol": "BTC", "indicator_id": "RSI"}


class Watched(Columnar):
    """A store that notes which hooks were called, and fails when told to."""

    def __init__(self, context: OpenContext, calls: list[str], faults: dict[str, Exception]) -> None:
        super().__init__(context)
        self.calls = calls
        self.faults = faults

    def note(self, hook: str, kind: str) -> None:
        """Note a call, and fail if this one is to."""
        self.calls.append(f"{hook} {kind}")
        fault = self.faults.pop(f"{hook} {kind}", None)
        if fault is not None:
            raise fault

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Note it, and write."""
        step = batch.steps[0]
        self.note("rows", step.kind.name if isinstance(step, Row) else "group")
        return await super().gateway_write(batch)

    @hookimpl
    async def gateway_write_columns(self, batch: ColumnBatch) -> WriteReceipt:
        """Note it, and write."""
        self.note("columns", batch.kind.name)
        return await Columnar.gateway_write(self, WriteBatch(batch.rows()))

    @hookimpl
    async def gateway_read_columns(self, query: Query, fields: tuple[str, ...]) -> ArrowTable:
        """Note it, and read."""
        self.note("read", f"{len(fields)}")
        return await super().gateway_read_columns(query, fields)

    @hookimpl
    async def gateway_sample(self, request: Sample) -> Sequence[Bar]:
        """Note it, and sample."""
        self.note("sample", request.kind.name)
        return await super().gateway_sample(request)


class Plugin:
    """Brings the store under the name `columnar`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.faults: dict[str, Exception] = {}

    @hookimpl
    def gateway_backends(self) -> tuple[BackendSpec, ...]:
        """Return the backend."""

        async def opened(context: OpenContext) -> Watched:
            return Watched(context, self.calls, self.faults)

        return (BackendSpec("columnar", "columns", opened, capabilities=Watched.capabilities),)


@pytest.fixture
def plugin() -> Plugin:
    """The plugin that a test's gateways share."""
    return Plugin()


@pytest.fixture(params=["columnar", "columnar,memory", "memory,columnar"])
async def gateway(request: pytest.FixtureRequest, plugin: Plugin, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway on a store with columns, alone, or with a mirror, or as the mirror."""
    phase = "dual_write" if "," in request.param else "legacy"
    async with Gateway(
        request.param,
        plugins=[plugin],
        environ={},
        env_file=None,
        data_dir=tmp_path,
        phase=phase,
        mirror_mode="sync",
    ) as opened:
        yield opened


def ticks(count: int) -> dict[str, list[Any]]:
    """Return ticks by column."""
    return {
        "timestamp": [NOW + timedelta(seconds=number // 2) for number in range(count)],
        "symbol": ["BTC"] * count,
        "price": [float(number) for number in range(count)],
    }


async def rows_of(gateway: Gateway, store: str) -> Sequence[Row]:
    """Return all ticks of one store."""
    return await gateway.engine.stores[store].query(
        Query(TICK_PRICES, gateway.engine.stamper.tenant, limit=10**6)
    )


async def test_a_frame_reaches_every_store_with_the_same_stamps(gateway: Gateway, plugin: Plugin) -> None:
    """By column to the store that takes columns, by row to the other, and equal in both, stamps included."""
    assert await gateway.put_frame("tick_prices", ticks(500)) == 500
    assert plugin.calls == ["columns tick_prices"]
    held = [await rows_of(gateway, name) for name in gateway.engine.stores]
    assert all(rows == held[0] for rows in held)
    assert len({row.version for row in held[0]}) == len(held[0]) == 500
    assert all(row.intact for row in held[0])


async def test_a_large_frame_is_written_in_parts(
    gateway: Gateway, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step is larger than its bound, and every row is there."""
    monkeypatch.setattr(bulk, "WRITE_ROWS", 200)
    assert await gateway.put_frame("tick_prices", ticks(500)) == 500
    assert plugin.calls == ["columns tick_prices"] * 3
    assert [len(await rows_of(gateway, name)) for name in gateway.engine.stores] == [
        500 for _ in gateway.engine.stores
    ]


async def test_many_records_of_one_log_go_by_column(gateway: Gateway, plugin: Plugin) -> None:
    """`put_many` of a log is handed over by column; states, and few rows, are not."""
    frame = ticks(300)
    records = [
        TickPrice(timestamp=moment, symbol="BTC", price=price)
        for moment, price in zip(frame["timestamp"], frame["price"], strict=True)
    ]
    bars = [
        Candle(
            symbol="BTC", interval="1m", timestamp=NOW + timedelta(minutes=at), open=1, high=1, low=1, close=1
        )
        for at in range(100)
    ]
    await gateway.put_many(records)
    await gateway.put_many(bars)
    await gateway.put_many(records[:5])
    assert plugin.calls == ["columns tick_prices", "rows candles", "rows tick_prices"]


async def test_a_mirror_that_fails_is_reported(plugin: Plugin, tmp_path: Path) -> None:
    """The primary has the frame, the mirror has not, and the error says so."""
    async with Gateway(
        "memory,columnar",
        plugins=[plugin],
        environ={},
        env_file=None,
        data_dir=tmp_path,
        phase="dual_write",
        mirror_mode="sync",
    ) as gateway:
        plugin.faults["columns tick_prices"] = StoreFullError("no space left")
        with pytest.raises(MirrorWriteError, match="no space left"):
            await gateway.put_frame("tick_prices", ticks(100))
        assert [len(await rows_of(gateway, name)) for name in ("memory", "columnar")] == [100, 0]


async def test_a_share_of_the_keys_goes_its_own_way(plugin: Plugin, tmp_path: Path) -> None:
    """While a kind is cut over by shares, rows part by their keys, and both stores have them all."""
    async with Gateway(
        "memory,columnar", plugins=[plugin], environ={}, env_file=None, data_dir=tmp_path,
        phase="dual_write", cutover="tick_prices:40%", mirror_mode="sync",
    ) as gateway:  # fmt: skip
        await gateway.put_frame("tick_prices", ticks(300))
        memory, columnar = [await rows_of(gateway, name) for name in ("memory", "columnar")]
        assert memory == columnar
        assert len(memory) == 300


async def test_columns_are_read_in_pages(
    plugin: Plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the answer is, a read is bounded; columns that only paging needs are not in the answer."""
    monkeypatch.setattr(bulk, "READ_ROWS", 70)
    async with Gateway("columnar", plugins=[plugin], environ={}, env_file=None, data_dir=tmp_path) as gateway:
        await gateway.put_frame("tick_prices", ticks(300))
        del plugin.calls[:]
        for limit, expected in ((None, 300), (70, 70), (71, 71), (210, 210), (1000, 300)):
            table = await gateway.query_frame("tick_prices", columns=["price"], limit=limit)
            assert table.column("price").to_pylist() == [float(number) for number in range(expected)]
        assert plugin.calls[:2] == ["read 1", "read 3"]
        table = await gateway.query_frame("tick_prices", columns=["price"], limit=10)
        assert plugin.calls[-1] == "read 1"


async def test_reads_that_are_compared_go_by_row(plugin: Plugin, tmp_path: Path) -> None:
    """While a shadow is read, frames, candles and series are rows, so that they can be compared, and agree."""
    async with Gateway(
        "columnar,memory", plugins=[plugin], environ={}, env_file=None, data_dir=tmp_path,
        phase="shadow_read", shadow_sample=1.0, mirror_mode="sync",
    ) as gateway:  # fmt: skip
        await gateway.put_frame("tick_prices", ticks(300))
        del plugin.calls[:]
        assert len(await gateway.query_frame("tick_prices", limit=250)) == 250
        assert len(await gateway.get_candles("BTC", "1m")) == 3
        assert plugin.calls == []
        assert gateway._shadow is not None
        await gateway._shadow.drain()
        counted = gateway.counters.snapshot()
        assert counted["shadow_match"] >= 2
        assert counted["shadow_diverged"] == 0


async def test_candles_are_sampled_by_the_store_that_can(gateway: Gateway, plugin: Plugin) -> None:
    """The store's own bars and those made here of its ticks are the same."""
    await gateway.put_frame("tick_prices", ticks(600))
    await gateway.load_indicators("s", "BTC", "RSI")
    del plugin.calls[:]
    found = await gateway.get_candles("BTC", "1m", limit=2)
    assert [(bar.open, bar.close) for bar in found] == [(360.0, 479.0), (480.0, 599.0)]
    reader = gateway.plan.listing(TICK_PRICES).reader
    assert plugin.calls == (["sample tick_prices"] if reader == "columnar" else [])


async def test_an_overwrite_that_fails_changes_nothing(gateway: Gateway, plugin: Plugin) -> None:
    """Whether the values or the switch cannot be written, the former values stay, and a repetition succeeds."""
    old = [{"timestamp": NOW, "value": 1.0}]
    new = [{"timestamp": NOW, "value": 2.0}, {"timestamp": NOW + timedelta(1), "value": 3.0}]
    await gateway.save_indicators(old, mode="overwrite", **SERIES)
    primary = gateway.plan.listing(INDICATORS).primary
    for call in ("columns indicators", "rows indicator_series"):
        plugin.faults[call] = StoreFullError("no space left")
        with pytest.raises(StoreFullError if primary == "columnar" else MirrorWriteError):
            await gateway.save_indicators(new, mode="overwrite", **SERIES)
        found = [one.value for one in await gateway.load_indicators("s", "BTC", "RSI")]
        # The switch on a primary whose mirror failed counts: the primary has it.
        switched = primary != "columnar" and call == "rows indicator_series"
        assert found == ([2.0, 3.0] if switched else [1.0])
    assert await gateway.save_indicators(new, mode="overwrite", **SERIES) == 2
    assert [one.value for one in await gateway.load_indicators("s", "BTC", "RSI")] == [2.0, 3.0]
