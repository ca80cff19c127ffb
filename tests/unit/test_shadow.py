"""Shadow reads: compared behind the bot's back, and never in its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import OpenContext, WriteBatch
from gateway.dispatch import Store, StoreSet
from gateway.divergences import Divergence, DivergenceLog
from gateway.hookspecs import BackendCall, hookimpl, new_manager
from gateway.migration.control_file import ControlFile
from gateway.query import Query
from gateway.records import POSITIONS, Position
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.shadow import ShadowReader
from gateway.telemetry import Counters
from gateway_memory.plugin import MEMORY, MemorySettings

pytestmark = pytest.mark.anyio

LISTING = Query(POSITIONS, DEFAULT_TENANT, limit=100)


class Gate:
    """A plugin that holds up, or acts before, every call to the store called `new`."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.before: Callable[[], object] | None = None
        self.calls = 0
        self.reached = asyncio.Event()

    @hookimpl
    def gateway_wrap(self, call: BackendCall) -> object:
        """Wrap the reads of one store."""
        return (
            self._pass() if call.backend == "new" and call.hook in {"gateway_get", "gateway_query"} else None
        )

    @asynccontextmanager
    async def _pass(self) -> AsyncIterator[None]:
        self.calls += 1
        self.reached.set()
        await self.open.wait()
        if self.before is not None:
            self.before()
        yield


class Bench:
    """Two stores in memory, a gate before the second, and a shadow reader over both."""

    def __init__(self, stores: StoreSet, gate: Gate, log: DivergenceLog) -> None:
        self.old, self.new = stores["old"], stores["new"]
        self.gate = gate
        self.log = log
        self.counters = Counters()
        self.stamper = Stamper()

    def reader(self, rate: float = 1.0, **options: Any) -> ShadowReader:
        """Return a shadow reader that looks again quickly."""
        settings: dict[str, Any] = {"timeout": 5.0, "delays": (0.0, 0.0, 0.01), "seed": 1, **options}
        return ShadowReader(rate, self.log, self.counters, **settings)

    def row(self, market: str = "m", price: int = 1) -> Row:
        """Return a new version of a market's position."""
        position = Position(
            condition_id=market,
            side="YES",
            entry_price=Decimal(price),
            opened_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        return self.stamper.stamp(POSITIONS, position)

    async def put(self, row: Row, *stores: Store) -> None:
        """Write a row into both stores, or into those given."""
        for store in stores or (self.old, self.new):
            await store.write(WriteBatch((row,)))

    async def offer(self, shadow: ShadowReader, *markets: str) -> None:
        """Read by key as a bot does, and offer the read for comparison."""
        keys = [(market,) for market in markets or ("m",)]
        rows = await self.old.get(POSITIONS, DEFAULT_TENANT, keys)
        shadow.offer_keys(self.old, self.new, POSITIONS, DEFAULT_TENANT, keys, rows)

    async def listed(self) -> tuple[Divergence, ...]:
        """Return the divergences found so far."""
        await self.log.flush()
        return self.log.listed()

    def outcomes(self) -> dict[str, int]:
        """Return how comparisons ended, as far as any ended so."""
        return {
            name: count
            for name, count in self.counters.snapshot().items()
            if name.startswith("shadow_") and count
        }


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Two stores in memory behind the product's own dispatch."""
    manager = new_manager()
    gate = Gate()
    manager.register(gate)
    stores = StoreSet(manager)
    for name in ("old", "new"):
        await stores.open(MEMORY, OpenContext(name, MemorySettings(), (POSITIONS,), tmp_path))
    log = DivergenceLog(ControlFile(tmp_path / "control.db"))
    yield Bench(stores, gate, log)
    gate.open.set()
    await log.aclose()
    await stores.close()


async def test_equal_stores_match(bench: Bench) -> None:
    """Reads by key, of what is there and what is not, and listings match where both stores hold the same."""
    shadow = bench.reader()
    await bench.put(bench.row())
    await bench.offer(shadow, "m", "nowhere")
    shadow.offer_query(bench.old, bench.new, LISTING, await bench.old.query(LISTING))
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_match": 2}
    assert await bench.listed() == ()


async def test_a_difference_that_stays_is_kept(bench: Bench) -> None:
    """A row that only one store has is diverged after the last look, and listed with stores and versions."""
    shadow = bench.reader()
    row = bench.row()
    await bench.put(row, bench.old)
    await bench.offer(shadow)
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_diverged": 1}
    (kept,) = await bench.listed()
    assert (kept.key, kept.primary, kept.shadow) == (("m",), "old", "new")
    assert kept.versions == (row.version, None)
    assert kept.reason == "missing on the right"


async def test_a_listing_that_differs_names_each_row(bench: Bench) -> None:
    """Each row that a listing lacks or holds in an older version is a divergence of its own."""
    shadow = bench.reader()
    for market in "abcd":
        await bench.put(bench.row(market))
    await bench.put(bench.row("b", price=2), bench.old)
    await bench.put(bench.row("e"), bench.old)
    shadow.offer_query(bench.old, bench.new, LISTING, await bench.old.query(LISTING))
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_diverged": 1}
    assert {one.key[0]: one.reason for one in await bench.listed()} == {
        "b": "older on the right",
        "e": "missing on the right",
    }


async def test_a_store_that_catches_up_was_lagging(bench: Bench) -> None:
    """When a further look finds both alike, the comparison ends as lagging and nothing is kept."""
    shadow = bench.reader(delays=(0.0,) * 50)
    row = bench.row()
    await bench.put(row, bench.old)
    tasks: list[asyncio.Future[None]] = []

    def catch_up() -> None:
        if bench.gate.calls == 3:
            tasks.append(asyncio.ensure_future(bench.put(row, bench.new)))

    bench.gate.before = catch_up
    await bench.offer(shadow)
    await shadow.aclose()
    await asyncio.gather(*tasks)
    assert len(tasks) == 1
    assert bench.outcomes() == {"shadow_lagging": 1}
    assert await bench.listed() == ()


async def test_a_key_written_all_the_time_does_not_diverge(bench: Bench) -> None:
    """Stores that follow each other under constant writes are not reported for never being equal."""
    shadow = bench.reader(delays=(0.0,) * 3)
    held = [bench.row()]
    await bench.put(held[0])
    memory = bench.old

    async def advance() -> None:
        held.append(bench.row(price=len(held) + 1))
        await bench.put(held[-2], bench.new)
        await bench.put(held[-1], memory)

    writes: list[asyncio.Future[None]] = []
    bench.gate.before = lambda: writes.append(asyncio.ensure_future(advance()))
    await advance()
    await bench.offer(shadow)
    await shadow.aclose()
    await asyncio.gather(*writes)
    assert len(held) > 3
    assert "shadow_diverged" not in bench.outcomes()
    assert await bench.listed() == ()


async def test_the_caller_never_waits(bench: Bench) -> None:
    """Offering returns at once though the shadow store hangs, drops what finds no room, and counts it."""
    shadow = bench.reader(capacity=3, workers=1)
    await bench.put(bench.row())
    bench.gate.open.clear()
    await bench.offer(shadow)
    await asyncio.wait_for(bench.gate.reached.wait(), 5)
    for _ in range(10):
        await bench.offer(shadow)
    assert bench.outcomes() == {"shadow_dropped": 7}
    bench.gate.open.set()
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_dropped": 7, "shadow_match": 4}


async def test_rows_that_wait_are_bounded_too(bench: Bench) -> None:
    """Large listings cannot take more memory than small reads, and room comes back once they are compared."""
    shadow = bench.reader(row_capacity=5)
    for market in "abcdefgh":
        await bench.put(bench.row(market))
    rows = await bench.old.query(LISTING)
    shadow.offer_query(bench.old, bench.new, LISTING, rows)
    assert bench.outcomes() == {"shadow_dropped": 1}
    for _ in range(3):
        await bench.offer(shadow, "a", "b", "c", "d", "e")
        await shadow.drain()
    assert bench.outcomes() == {"shadow_dropped": 1, "shadow_match": 3}
    await shadow.aclose()


async def test_a_shadow_that_is_slow_times_out(bench: Bench) -> None:
    """No answer in time is its own outcome, and no divergence."""
    shadow = bench.reader(timeout=0.02)
    bench.gate.open.clear()
    await bench.put(bench.row(), bench.old)
    await bench.offer(shadow)
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_timed_out": 1}
    assert await bench.listed() == ()


async def test_a_shadow_that_is_down_fails(bench: Bench) -> None:
    """A store that cannot answer is its own outcome, no divergence, and later comparisons go on."""
    shadow = bench.reader()
    await bench.put(bench.row())

    def fall() -> None:
        raise RuntimeError("the store fell over")

    bench.gate.before = fall
    await bench.offer(shadow)
    await shadow.drain()
    assert bench.outcomes() == {"shadow_failed": 1}
    bench.gate.before = None
    await bench.offer(shadow)
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_failed": 1, "shadow_match": 1}


async def test_what_the_caller_does_with_its_list_does_not_matter(bench: Bench) -> None:
    """The comparison keeps what the bot was given, even if the bot empties the list at once."""
    shadow = bench.reader()
    await bench.put(bench.row())
    rows = list(await bench.old.query(LISTING))
    shadow.offer_query(bench.old, bench.new, LISTING, rows)
    rows.clear()
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_match": 1}


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0, 0), (0.2, 150, 250), (1.0, 1000, 1000)])
async def test_the_rate_is_the_share_that_is_compared(bench: Bench, rate: float, low: int, high: int) -> None:
    """Of 1,000 reads the given share is compared: none, about a fifth, or all."""
    shadow = bench.reader(rate)
    await bench.put(bench.row())
    for _ in range(1000):
        await bench.offer(shadow)
    await shadow.aclose()
    compared = bench.outcomes().get("shadow_match", 0)
    assert low <= compared <= high
    assert set(bench.outcomes()) <= {"shadow_match"}


async def test_closing_has_a_deadline(bench: Bench) -> None:
    """A shadow that hangs does not hold up the end; what was not compared is counted."""
    shadow = bench.reader(workers=1)
    bench.gate.open.clear()
    for _ in range(4):
        await bench.offer(shadow)
    await asyncio.wait_for(bench.gate.reached.wait(), 5)
    await shadow.aclose(deadline=0.01)
    assert bench.outcomes() == {"shadow_dropped": 4}
    await bench.offer(shadow)
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_dropped": 4}


async def test_what_the_caller_got_may_be_older_than_both(bench: Bench) -> None:
    """A descending page matches row for row; one that only the caller saw otherwise was lagging."""
    shadow = bench.reader()
    for market in "abcdef":
        await bench.put(bench.row(market))
    query = Query(POSITIONS, DEFAULT_TENANT, limit=4, descending=True)
    rows = await bench.old.query(query)
    assert [row.key[0] for row in rows] == ["f", "e", "d", "c"]
    shadow.offer_query(bench.old, bench.new, query, rows)
    shadow.offer_query(bench.old, bench.new, query, list(reversed(rows)))
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_match": 1, "shadow_lagging": 1}


async def test_a_listing_in_another_order_diverges(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that gives the right rows in the wrong order is found out, once for the listing."""
    shadow = bench.reader()
    for market in "abc":
        await bench.put(bench.row(market))
    right = bench.new.query

    async def backwards(query: Query) -> list[Row]:
        return list(reversed(await right(query)))

    monkeypatch.setattr(bench.new, "query", backwards)
    shadow.offer_query(bench.old, bench.new, LISTING, await bench.old.query(LISTING))
    await shadow.aclose()
    assert bench.outcomes() == {"shadow_diverged": 1}
    assert [one.reason for one in await bench.listed()] == ["listed in another order"]


async def test_a_new_difference_keeps_the_comparison_going(bench: Bench) -> None:
    """When one row catches up while another goes missing, the look after that finds the other: diverged."""
    shadow = bench.reader(delays=(0.0,) * 3)
    first, second = bench.row("first"), bench.row("second")
    await bench.put(first, bench.old)
    writes: list[asyncio.Future[None]] = []

    async def swap() -> None:
        await bench.put(first, bench.new)
        await bench.put(second, bench.old)

    def once() -> None:
        if bench.gate.calls == 2:
            writes.append(asyncio.ensure_future(swap()))

    bench.gate.before = once
    shadow.offer_query(bench.old, bench.new, LISTING, await bench.old.query(LISTING))
    await shadow.aclose()
    await asyncio.gather(*writes)
    assert len(writes) == 1
    assert bench.outcomes() == {"shadow_diverged": 1}
    assert [one.key for one in await bench.listed()] == [("second",)]
