"""Shadow reads of what is written all the time: they come to an end, hide nothing, and hold up no comparison."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.backend import OpenContext, WriteBatch
from gateway.dispatch import Store, StoreSet
from gateway.divergences.log import DivergenceLog
from gateway.migration.control_file import ControlFile
from gateway.query import Query
from gateway.records import POSITIONS, KindSpec, Position
from gateway.records.row import Key, Row
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.shadow.awaited import Awaited
from gateway.shadow.reader import ShadowReader
from gateway.telemetry import Counters
from gateway_memory.plugin import MEMORY, MemorySettings

pytestmark = pytest.mark.anyio
NEWEST = Query(POSITIONS, DEFAULT_TENANT, limit=3, descending=True)


class Stores:
    """Two stores in memory, and rows for them."""

    def __init__(self, stores: StoreSet, directory: Path) -> None:
        self.old, self.new = stores["old"], stores["new"]
        self.log = DivergenceLog(ControlFile(directory / "control.db"))
        self.counters = Counters()
        self._stamper = Stamper()

    def reader(self, workers: int = 4) -> ShadowReader:
        """Return a shadow reader over a mirror that says it has caught up."""

        async def arrived(source: str, mirror: str, rows: Sequence[Awaited]) -> Sequence[bool]:
            assert source != mirror
            return [True] * len(rows)

        return ShadowReader(
            1.0,
            self.log,
            self.counters,
            timeout=60.0,
            workers=workers,
            delays=(0.0, 0.0, 0.0),
            caught_up=arrived,
        )

    def row(self, market: str, price: int = 1) -> Row:
        """Return a new version of a market's position."""
        opened = datetime(2026, 1, 1, tzinfo=UTC)
        position = Position(condition_id=market, side="YES", entry_price=Decimal(price), opened_at=opened)
        return self._stamper.stamp(POSITIONS, position)

    async def put(self, row: Row, *stores: Store) -> None:
        """Write a row into both stores, or into those given."""
        for store in stores or (self.old, self.new):
            await store.write(WriteBatch((row,)))


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Stores]:
    """Two stores in memory."""
    stores = StoreSet()
    for name in ("old", "new"):
        await stores.open(MEMORY, OpenContext(name, MemorySettings(), (POSITIONS,), tmp_path))
    made = Stores(stores, tmp_path)
    yield made
    await made.log.aclose()
    await stores.close()


async def test_what_never_stands_still_is_not_looked_into_for_ever(
    pair: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that is one write behind in every look, each time by another row, ends as lagging after a few looks."""
    shadow = pair.reader()
    held = [pair.row("m0")]
    await pair.put(held[0], pair.old)
    asked, looks = pair.new.query, 0

    async def query(query: Query) -> Sequence[Row]:
        nonlocal looks
        looks += 1
        rows = await asked(query)
        await pair.put(held[-1], pair.new)
        held.append(pair.row(f"m{looks}"))
        await pair.put(held[-1], pair.old)
        return rows

    monkeypatch.setattr(pair.new, "query", query)
    shadow.offer_query(pair.old, pair.new, NEWEST, await pair.old.query(NEWEST))
    async with asyncio.timeout(30):
        await shadow.drain()
    assert pair.counters.shadow_lagging == 1
    assert looks < 8
    await shadow.aclose()


async def test_a_lost_row_is_found_though_the_listing_has_moved_on(
    pair: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What differed in the bot's answer is looked at by key, even if newer rows took its place since."""
    shadow = pair.reader()
    for market in "bd":
        await pair.put(pair.row(market))
    await pair.put(pair.row("c"), pair.old)
    asked, looks = pair.new.query, 0

    async def query(query: Query) -> Sequence[Row]:
        nonlocal looks
        looks += 1
        rows = await asked(query)
        if looks == 1:
            for market in "efg":
                await pair.put(pair.row(market))
        return rows

    monkeypatch.setattr(pair.new, "query", query)
    shadow.offer_query(pair.old, pair.new, NEWEST, await pair.old.query(NEWEST))
    await shadow.drain()
    await pair.log.flush()
    assert [(one.key, one.subject) for one in pair.log.listed()] == [(("c",), "row")]
    await shadow.aclose()


async def test_what_is_looked_into_holds_up_no_comparison(
    pair: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While every turn for looking into differences is taken, reads are compared as ever."""
    shadow = pair.reader(workers=1)
    await pair.put(pair.row("lost"), pair.old)
    await pair.put(pair.row("fine"))
    asked, looked, go_on = pair.old.get, asyncio.Event(), asyncio.Event()

    async def get(kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        looked.set()
        await go_on.wait()
        return await asked(kind, tenant, keys)

    rows = {key: await asked(POSITIONS, DEFAULT_TENANT, [(key,)]) for key in ("lost", "fine")}
    monkeypatch.setattr(pair.old, "get", get)
    shadow.offer_keys(pair.old, pair.new, POSITIONS, DEFAULT_TENANT, [("lost",)], rows["lost"])
    await asyncio.wait_for(looked.wait(), 10)
    compared, matched = pair.new.get, asyncio.Event()

    async def get_there(kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        matched.set()
        return await compared(kind, tenant, keys)

    monkeypatch.setattr(pair.new, "get", get_there)
    shadow.offer_keys(pair.old, pair.new, POSITIONS, DEFAULT_TENANT, [("fine",)], rows["fine"])
    await asyncio.wait_for(matched.wait(), 10)
    go_on.set()
    await shadow.drain()
    assert (pair.counters.shadow_match, pair.counters.shadow_diverged) == (1, 1)
    await shadow.aclose()
