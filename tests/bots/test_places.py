"""Kinds that live in different stores, by configuration alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from gateway import Gateway
from gateway.backend import RangeDigest
from gateway.query import ReadRange
from gateway.records import POSITIONS, TICK_PRICES, TRADES, KindSpec, TickPrice
from tests.bots.conftest import opened

pytestmark = pytest.mark.anyio
START = datetime(2026, 3, 12, 11, tzinfo=UTC)


async def _digests(gateway: Gateway, kind: KindSpec) -> dict[str, RangeDigest]:
    span = ReadRange(kind, gateway.engine.stamper.tenant)
    return {name: await store.digest(span) for name, store in gateway.engine.stores.items()}


@pytest.mark.parametrize(
    "pair",
    [("postgres", "questdb"), ("sqlite", "questdb"), ("json", "sqlite")],
    ids=lambda pair: ",".join(pair),
)
async def test_market_data_in_one_store_and_trades_in_both(
    pair: tuple[str, str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Ticks go to the second store alone, trades to both, and what needs a lock stays where it can be had."""
    old, new = pair
    places = f"tick_prices:{new},trades:{old}+{new}"
    async with opened(",".join(pair), request, tmp_path, phase="legacy", places=places) as gateway:
        ticks = [
            TickPrice(timestamp=START + timedelta(milliseconds=at // 3), symbol="BTC", price=at / 7)
            for at in range(300)
        ]
        assert await gateway.put_many(ticks) == 300
        for at in range(20):
            await gateway.insert_trade(
                timestamp=START + timedelta(seconds=at),
                market_name="BTC",
                action="buy",
                side="YES",
                price="0.62",
                amount="10",
            )
        await gateway.save_position(
            condition_id="0xabc", side="YES", entry_price="0.5", amount="10", opened_at=START
        )
        closed = await gateway.close_position("0xabc", "take-profit", pnl="1.25")
        assert closed is not None
        assert closed.pnl == Decimal("1.25")
        assert len(await gateway.query("tick_prices", limit=1000)) == 300
        assert len(await gateway.get_trades(limit=None)) == 20
        ticks_of, trades_of, positions_of = [
            await _digests(gateway, kind) for kind in (TICK_PRICES, TRADES, POSITIONS)
        ]
    assert {name: found.rows for name, found in ticks_of.items()} == {old: 0, new: 300}
    assert trades_of[old] == trades_of[new]
    assert trades_of[old].rows == 20
    assert {name: found.rows for name, found in positions_of.items()} == {old: 1, new: 0}
