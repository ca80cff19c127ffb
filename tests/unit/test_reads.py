"""Coalesced reads by key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gateway.backend import WriteBatch
from gateway.errors import StoreUnavailableError
from gateway.reads import KeyReader
from gateway.records import POSITIONS, Position
from gateway.records.stamp import DEFAULT_TENANT, Stamper

pytestmark = pytest.mark.anyio
Open = Callable[[str], Awaitable[tuple[Any, Any]]]
STAMPER = Stamper()


async def filled(open_gated: Open, count: int) -> tuple[Any, list[int]]:
    """Return a store with positions, and the sizes of the reads it gets."""
    store, _ = await open_gated("a")
    rows = [
        STAMPER.stamp(
            POSITIONS,
            Position(condition_id=str(at), side="YES", entry_price=Decimal(1), opened_at=datetime.now(UTC)),
        )
        for at in range(count)
    ]
    await store.write(WriteBatch(rows))
    sizes: list[int] = []
    original = store.get

    async def counted(kind: Any, tenant: str, keys: Sequence[Any]) -> Any:
        sizes.append(len(keys))
        await asyncio.sleep(0)
        return await original(kind, tenant, keys)

    store.get = counted
    return store, sizes


async def test_reads_that_arrive_together_share_a_call(open_gated: Open) -> None:
    """The first read goes alone, those that came meanwhile go in one call, and each gets its own row."""
    store, sizes = await filled(open_gated, 40)
    reader = KeyReader(store)
    rows = await asyncio.gather(*(reader.get(POSITIONS, DEFAULT_TENANT, (str(at),)) for at in range(40)))
    assert [row is not None and row.key for row in rows] == [(str(at),) for at in range(40)]
    assert sizes == [1, 39]
    await reader.close()


async def test_the_same_key_is_asked_for_once(open_gated: Open) -> None:
    """Callers of one key share its row, and a missing key is None for all of them."""
    store, sizes = await filled(open_gated, 1)
    reader = KeyReader(store)
    rows = await asyncio.gather(
        *(reader.get(POSITIONS, DEFAULT_TENANT, (key,)) for key in ["0", "0", "0", "x", "x"])
    )
    assert [row is None for row in rows] == [False, False, False, True, True]
    assert sizes == [1, 2]
    await reader.close()


async def test_a_store_that_is_down_is_reported_to_every_caller(open_gated: Open) -> None:
    """Nobody gets None for an answer that could not be had, and the reader works again afterwards."""
    store, _ = await filled(open_gated, 1)
    answer = store.get

    async def down(*_: Any) -> Any:
        await asyncio.sleep(0)
        raise StoreUnavailableError("down")

    store.get = down
    reader = KeyReader(store)
    results = await asyncio.gather(
        *(reader.get(POSITIONS, DEFAULT_TENANT, ("0",)) for _ in range(5)), return_exceptions=True
    )
    assert [type(result) for result in results] == [StoreUnavailableError] * 5
    store.get = answer
    assert await reader.get(POSITIONS, DEFAULT_TENANT, ("0",)) is not None
    await reader.close()


async def test_a_cancelled_reader_does_not_disturb_the_others(open_gated: Open) -> None:
    """The first caller leaving does not take along those that wait behind it."""
    store, _ = await filled(open_gated, 10)
    reader = KeyReader(store)
    tasks = [asyncio.create_task(reader.get(POSITIONS, DEFAULT_TENANT, (str(at),))) for at in range(10)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[3].cancel()
    rows = await asyncio.gather(*(task for at, task in enumerate(tasks) if at not in {0, 3}))
    assert all(row is not None for row in rows)
    await reader.close()
