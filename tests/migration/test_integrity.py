"""Reading a kind from end to end, and checking rows against their own digests."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import WriteBatch
from gateway.errors import StoreBusyError, StoreCorruptError, StoreFullError
from gateway.migration import integrity
from gateway.migration.integrity import check_integrity, pages, patiently
from gateway.records import TRADES
from gateway.records.stamp import DEFAULT_TENANT

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("backend", ["json", "memory", "sqlite"])
async def test_every_row_is_read_once(opened: Any, history: Any, backend: str) -> None:
    """Pages cover all rows, tombstones included, once and in order, whatever the page size."""
    store = await opened(backend, "store")
    rows = [history.trade(number) for number in range(50)]
    await history.put([*rows, history.gone(rows[7])], store)
    for size in (1, 7, 50, 1_000):
        read = [row.key async for page in pages(store, TRADES, DEFAULT_TENANT, size=size) for row in page]
        assert read == [row.key for row in rows]


@pytest.mark.parametrize("backend", ["json", "memory", "sqlite"])
async def test_a_sound_store_is_sound(opened: Any, history: Any, backend: str) -> None:
    """Rows that no one touched all give their digest."""
    store = await opened(backend, "store")
    await history.put([history.trade(number) for number in range(20)], store)
    report = await check_integrity(store, TRADES, DEFAULT_TENANT, page=6)
    assert (report.rows, report.damaged, report.ok) == (20, (), True)


async def test_damaged_rows_are_named_and_bounded(
    tmp_path: Path, opened: Any, history: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row changed behind the gateway's back is found; beyond the bound they are counted."""
    monkeypatch.setattr(integrity, "_REPORTED", 2)
    store = await opened("sqlite", "store")
    await history.put([history.trade(number) for number in range(20)], store)
    (path,) = (tmp_path / "store").glob("*.db")
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE trades SET side = 'NO' WHERE record_id IN ('trade-000003', 'trade-000012', 'trade-000013')"
    )
    connection.commit()
    connection.close()
    seen: list[int] = []
    report = await check_integrity(store, TRADES, DEFAULT_TENANT, page=8, on_page=seen.append)
    assert [row.shown_key for row in report.damaged] == [("trade-000003",), ("trade-000012",)]
    assert (report.rows, report.more, report.ok) == (20, 1, False)
    assert seen == [8, 16, 20]


async def test_a_row_without_a_place_stops_the_reading(opened: Any, history: Any) -> None:
    """A row whose time is gone would end the listing early; that is an error and not a short result."""
    store = await opened("sqlite", "store")
    rows = [history.trade(number) for number in range(5)]
    await history.put(rows, store)
    await store.write(WriteBatch((history.stamper.tombstone(TRADES, rows[0].key),)))
    with pytest.raises(StoreCorruptError, match="no place in the listing"):
        _ = [page async for page in pages(store, TRADES, DEFAULT_TENANT, size=1)]


async def test_patience_is_for_what_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy store is asked again, a full one is not, and a store that stays busy is an error in the end."""
    monkeypatch.setattr(integrity, "_PATIENCE", (0.0, 0.0))
    calls = 0

    async def busy_until(third: int) -> str:
        nonlocal calls
        calls += 1
        if calls < third:
            raise StoreBusyError("another writer holds it")
        return "done"

    assert await patiently(lambda: busy_until(3)) == "done"
    calls = 0
    with pytest.raises(StoreBusyError):
        await patiently(lambda: busy_until(4))
    assert calls == 3

    async def full() -> None:
        nonlocal calls
        calls += 1
        raise StoreFullError("no space")

    with pytest.raises(StoreFullError):
        await patiently(full)
    assert calls == 4
