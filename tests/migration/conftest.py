"""Real stores for copies and verifications."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

import gateway_json.plugin
import gateway_memory.plugin
import gateway_postgres.plugin
import gateway_sqlite.plugin
from gateway.backend import OpenContext, WriteBatch
from gateway.dispatch import Store, open_store
from gateway.query import Query
from gateway.records import POSITIONS, TRADES, KindSpec, Position, Row, Trade
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.stamp import DEFAULT_TENANT, Stamper

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLUGINS: dict[str, ModuleType] = {
    "json": gateway_json.plugin,
    "memory": gateway_memory.plugin,
    "postgres": gateway_postgres.plugin,
    "sqlite": gateway_sqlite.plugin,
}
Opener = Callable[[str, str], Awaitable[Store]]


class History:
    """Makes rows of a bot's past, and puts them into stores."""

    def __init__(self) -> None:
        self.stamper = Stamper()

    def trade(self, number: int, *, price: str = "0.5") -> Row:
        """Return a trade; seven of them share a second."""
        # Several trades share a moment, since paging must not lose one of them.
        record = Trade(
            record_id=f"trade-{number:06}",
            timestamp=T0 + timedelta(seconds=number // 7),
            market_name="BTC",
            action="buy",
            side="YES",
            price=Decimal(price),
            amount=Decimal(number + 1),
        )
        return self.stamper.stamp(TRADES, record)

    def position(self, number: int, *, price: str = "0.5") -> Row:
        """Return a position."""
        record = Position(condition_id=f"m{number:05}", side="YES", entry_price=Decimal(price), opened_at=T0)
        return self.stamper.stamp(POSITIONS, record)

    def gone(self, row: Row) -> Row:
        """Return the tombstone that deletes a row."""
        moment = row.values[row.kind.index(row.kind.time_field)] if row.kind.time_field else None
        return self.stamper.tombstone(row.kind, row.key, moment)

    async def put(self, rows: list[Row], *stores: Store) -> None:
        """Write rows into stores, one after the other."""
        for store in stores:
            await store.write(WriteBatch(tuple(rows)))


async def content(store: Store, kind: KindSpec) -> dict[object, tuple[int, int, bool]]:
    """Return everything a store holds of a kind: version, digest and deletion by key, tombstones included."""
    rows = await store.query(Query(kind, DEFAULT_TENANT, limit=1_000_000, include_deleted=True))
    return {row.key: (*row.stamp, row.deleted) for row in rows}


@pytest.fixture
def contents() -> Callable[[Store, KindSpec], Awaitable[dict[object, tuple[int, int, bool]]]]:
    """How to look at everything a store holds."""
    return content


@pytest.fixture
def history() -> History:
    """Rows of a bot's past."""
    return History()


@pytest.fixture
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens stores under names, each in a directory of its own, and closes them all at the end."""
    stores: list[Store] = []

    async def opening(backend: str, name: str) -> Store:
        spec, *_ = PLUGINS[backend].gateway_backends()
        settings = spec.settings()
        if backend == "postgres":
            settings = spec.settings(url=request.getfixturevalue("prepared_database").app_url)
        context = OpenContext(name, settings, BUILTIN_KINDS, tmp_path / name)
        stores.append(await open_store(spec, context))
        return stores[-1]

    yield opening
    for store in stores:
        await store.close()
