"""Real ticks, many of which share a timestamp, all survive."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import WriteBatch
from gateway.query import Query
from gateway.records import TICK_PRICES, TickPrice
from gateway.records.stamp import Stamper
from gateway_questdb.backend import QuestDbBackend
from tests.legacy import DATA

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def market() -> Path:
    """Return where the real ticks are; a test that asks is skipped where they are not."""
    found = DATA / "market"
    if not found.is_dir():
        pytest.skip(f"the real ticks are not there: {found}")
    return found


def ticks_of(trades: list[tuple[int, str, str, float, float]]) -> list[TickPrice]:
    """Return ticks of milliseconds, symbol, side, price and volume."""
    return [
        TickPrice(
            timestamp=EPOCH + timedelta(milliseconds=ms), symbol=symbol, side=side, price=price, volume=volume
        )
        for ms, symbol, side, price, volume in trades
    ]


async def survive(store: QuestDbBackend, stamper: Stamper, ticks: list[TickPrice], ties: int) -> None:
    """Check that all ticks come back, those of one instant too, and that writing them again adds none."""
    shared = sum(count for count in Counter(tick.timestamp for tick in ticks).values() if count > 1)
    assert shared >= ties, "the data do not show what they are here to show"
    rows = stamper.stamp_many(TICK_PRICES, ticks)
    for _ in range(2):
        await store.gateway_write(WriteBatch(rows))
    found = await store.gateway_query(Query(TICK_PRICES, stamper.tenant, limit=1_000_000))
    assert sorted(row.key for row in found) == sorted(row.key for row in rows)
    assert all(row.intact for row in found)


@pytest.mark.shared_data
@pytest.mark.anyio
async def test_all_ticks_of_a_real_market_survive(store: QuestDbBackend, stamper: Stamper) -> None:
    """12,477 ticks of XRP/ETH, thousands of which share their millisecond, are 12,477 ticks."""
    with gzip.open(market() / "XRP_ETH-trades.json.gz", "rt") as file:
        raw: list[Any] = json.load(file)
    trades = [(ms, "XRP/ETH", side, price, amount) for ms, _, _, side, price, amount, _ in raw]
    assert len(trades) == 12_477
    await survive(store, stamper, ticks_of(trades), ties=1000)


@pytest.mark.shared_data
@pytest.mark.anyio
async def test_all_ticks_of_another_market_survive(store: QuestDbBackend, stamper: Stamper) -> None:
    """1,001 ticks of ETH/USDT survive, too."""
    with (market() / "eth_usdt-trades.csv").open() as file:
        trades = [
            (int(row["timestamp"]), "ETH/USDT", row["side"], float(row["price"]), float(row["amount"]))
            for row in csv.DictReader(file)
        ]
    await survive(store, stamper, ticks_of(trades), ties=10)
