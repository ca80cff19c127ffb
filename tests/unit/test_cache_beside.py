"""What a process without a cache does about those of others, before it writes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest

from gateway.backend import Group, KeyRef, Step, Update, WriteBatch, WriteReceipt
from gateway.cache.affected import may_touch
from gateway.cache.authority import Authority
from gateway.cache.beside import Beside
from gateway.cache.keeper import boot_time, fence_for, pace_for
from gateway.cache.permit import Epoch, State
from gateway.dispatch import Gate, Store
from gateway.errors import SchemaError, StoreError, StoreUnavailableError
from gateway.records import POSITIONS, TRADES, KindSpec, Position, Trade
from gateway.records.caching import CACHE_EPOCHS
from gateway.records.row import Key, Row
from gateway.records.stamp import Stamper
from gateway.records.version import HybridClock
from gateway_memory.store import MemoryStore

NOW = datetime(2026, 3, 12, tzinfo=UTC)
STAMPER = Stamper()
PACE = pace_for(0.1, 0.1)


def position() -> Row:
    """Return a row of a kind that may be cached."""
    made = Position(condition_id="a", side="YES", entry_price=Decimal(1), opened_at=NOW)
    return STAMPER.stamp(POSITIONS, made)


def trade() -> Row:
    """Return a row of a kind that never is."""
    made = Trade(
        condition_id="a",
        market_name="m",
        side="YES",
        action="BUY",
        price=Decimal(1),
        amount=Decimal(1),
        timestamp=NOW,
    )
    return STAMPER.stamp(TRADES, made)


def update(*kinds: KindSpec) -> Update:
    """Return an update that reads a row of each kind."""
    return Update(STAMPER.tenant, tuple(KeyRef(kind, ("a",)) for kind in kinds), lambda _: ())


def test_which_steps_may_change_what_is_cached() -> None:
    """Rows by their kind; an update may write what it does not read, but for the gateway's own of its own rows."""
    touching: list[Step] = [
        position(),
        Group((trade(), position())),
        update(TRADES),
        update(),
    ]
    for step in touching:
        assert may_touch([trade(), step])
    assert not may_touch([trade(), Group((trade(),)), update(CACHE_EPOCHS)])


class Shelf:
    """A store in memory that can fail to be read."""

    def __init__(self) -> None:
        self.name = "shelf"
        self.gate: Gate | None = None
        self.failing: StoreError | None = None
        self._inner = MemoryStore("shelf", max_rows=100)

    async def get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Read, unless it fails."""
        if self.failing is not None:
            raise self.failing
        return await self._inner.gateway_get(kind, tenant, keys)

    async def write(self, batch: WriteBatch) -> WriteReceipt:
        """Write behind the gate, as a store does."""
        if self.gate is not None:
            await self.gate.before_write(batch)
        return await self._inner.gateway_write(batch)


async def opened(shelf: Shelf) -> Authority:
    """Have the row say that a cache is open; return who looks at it."""
    home = Authority(shelf, 0.1, HybridClock(), boot_time)
    await home.look()
    assert home.known is not None
    assert await home.change(home.known, Epoch(State.OPEN, "e", "i", 0.1, fence_for(0.1)), "test")
    return home


def state_of(home: Authority) -> Any:
    """Return what the row says."""
    assert home.known is not None
    return home.known.epoch.state


@pytest.mark.anyio
async def test_nothing_is_written_before_it_is_known_whether_there_is_a_cache() -> None:
    """What may be cached fails with what the store says, and everything else is written; then the row is closed."""
    shelf = Shelf()
    home = await opened(shelf)
    beside = Beside(cast("Store", shelf), PACE, HybridClock())
    shelf.failing = StoreUnavailableError("gone")
    with pytest.raises(StoreUnavailableError):
        await beside.settle()
    with pytest.raises(StoreUnavailableError) as failed:
        await shelf.write(WriteBatch((position(),)))
    assert "nothing was written" in failed.value.__notes__[0]
    with pytest.raises(StoreUnavailableError):
        await beside.before_purge(POSITIONS)
    await shelf.write(WriteBatch((trade(),)))
    await beside.before_purge(TRADES)
    shelf.failing = None
    await shelf.write(WriteBatch((position(),)))
    await home.look()
    assert state_of(home) is State.CLOSED
    await beside.close()
    assert shelf.gate is None


@pytest.mark.anyio
async def test_without_tables_there_is_no_cache_and_without_a_row_nobody_is_in_the_way() -> None:
    """Tables that are missing now may be made later, with a row; where there is none, the gate is gone."""
    shelf = Shelf()
    beside = Beside(cast("Store", shelf), PACE, HybridClock())
    shelf.failing = SchemaError("no such table")
    assert not await beside.settle()
    await shelf.write(WriteBatch((position(),)))
    assert shelf.gate is beside
    shelf.failing = None
    home = await opened(shelf)
    await shelf.write(WriteBatch((position(),)))
    await home.look()
    assert state_of(home) is State.CLOSED
    await beside.close()
    empty = Shelf()
    other = Beside(cast("Store", empty), PACE, HybridClock())
    assert not await other.settle()
    assert empty.gate is None
    await other.close()
