"""A bot as its developer writes it. Never run: `make check` holds it to mypy and pyright, both strict.

What must be accepted stands first. What must be refused stands below, each line with the error that it has to
give; an ignore that nothing needs is an error itself, so a call that suddenly passes is noticed.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal, assert_type

from gateway import (
    Ack,
    Candles,
    DailyStats,
    Event,
    Gateway,
    GatewayHealth,
    IndicatorValue,
    OrderBookSnapshot,
    Page,
    Position,
    Record,
    SeriesDescription,
    Session,
    StorageGateway,
    SyncGateway,
    Trade,
    record_kind,
)
from gateway.api import Trades
from gateway.records import Indicator, LogRecord, Money, Text, TickPrice, Time

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@record_kind("fees", time_field="timestamp", retention=timedelta(days=365))
class Fee(LogRecord):
    """A kind of the bot's own."""

    timestamp: Time
    market_name: Text
    amount: Money


async def trade(gateway: StorageGateway) -> None:
    """Use the whole API through its protocol, as a function that is handed a gateway does."""
    ack = await gateway.insert_trade(
        timestamp=NOW, market_name="BTC", action="buy", side="YES", price="0.62", amount=Decimal(10)
    )
    assert_type(ack, Ack)
    assert_type(await gateway.insert_trade(Trade.model_validate({})), Ack)
    assert_type(await gateway.get_trades(market="BTC", date=date(2026, 1, 1), limit=None), list[Trade])
    assert_type(
        await gateway.save_position(condition_id="0x1", side="YES", entry_price=0.5, opened_at=NOW), Ack
    )
    assert_type(await gateway.load_position("0x1"), Position | None)
    assert_type(await gateway.close_position("0x1", "take-profit", exit_price="0.9", pnl=4), Position | None)
    assert_type(await gateway.get_open_positions(), list[Position])
    await gateway.record_event(session_id="s", event_type="trade", data={"size": 1, "tags": ["a"]})
    assert_type(await gateway.get_events("s", order="desc"), list[Event])
    assert_type(await gateway.list_sessions(), list[Session])
    assert_type(await gateway.buffer_snapshot(timestamp=NOW, condition_id="0x1", bids=[(0.6, 10.0)]), str)
    assert_type(await gateway.flush(), int)
    assert_type(await gateway.get_snapshots("0x1", since=NOW), list[OrderBookSnapshot])
    await gateway.insert_alert(alert_type="trade", level="INFO")
    assert_type(
        await gateway.update_daily_stats(date(2026, 1, 1), pnl_delta="1.5", operation_id="t1"), DailyStats
    )
    assert_type(await gateway.purge("order_book_snapshots", older_than=timedelta(days=7)), int)
    assert_type(await gateway.health(), GatewayHealth)


async def keep_own_records(gateway: StorageGateway) -> None:
    """Use the generic part."""
    assert_type(await gateway.put(Fee(timestamp=NOW, market_name="BTC", amount=Decimal("0.01"))), Ack)
    await gateway.put("candles", symbol="BTC", interval="5m", timestamp=NOW, open=1, high=1, low=1, close=1)
    assert_type(await gateway.put_many([Fee(timestamp=NOW, market_name="BTC", amount=Decimal(1))]), int)
    assert_type(await gateway.get("candles", "BTC", "5m", NOW), Record | None)
    page = await gateway.query("fees", where={"amount__ge": "0.01"}, limit=10)
    assert_type(page, Page[Record])
    assert_type(page.cursor, str | None)
    async for record in gateway.stream("fees", order="desc"):
        assert_type(record, Record)


async def use_market_data(gateway: StorageGateway) -> None:
    """Use frames, series and candles."""
    assert_type(
        await gateway.put_frame("tick_prices", {"timestamp": [NOW], "symbol": ["A"], "price": [1]}), int
    )
    value = IndicatorValue(NOW, 1)
    assert_type(await gateway.save_indicators([value], session_id="s", symbol="A", indicator_id="RSI"), int)
    await gateway.save_indicators(
        [{"timestamp": NOW, "value": 1}], session_id="s", symbol="A", variant_id="RSI", mode="overwrite"
    )
    assert_type(await gateway.load_indicators("s", "A", "RSI", limit=5, latest=False), list[Indicator])
    assert_type(await gateway.describe_indicators("s", "A", "RSI"), SeriesDescription)
    assert_type(await gateway.prune_indicators("s", "A", "RSI", older_than=timedelta(days=1)), int)
    candles = await gateway.get_candles("A", "5m", since=NOW, session_id="s")
    assert_type(candles, Candles)
    assert_type(candles.source, Literal["stored", "ticks"])
    assert_type(await gateway.latest_prices(["A"]), dict[str, TickPrice])


async def last_price(trades: Trades) -> Decimal:
    """Ask for the part of the API that is needed and nothing else."""
    found = await trades.get_trades(limit=1)
    return found[0].price


async def main() -> None:
    """Open a gateway; it is everything that the protocols promise."""
    async with Gateway("json,sqlite", data_dir="bot-data") as gateway:
        await trade(gateway)
        await keep_own_records(gateway)
        await use_market_data(gateway)
        await last_price(gateway)


def sync_bot() -> None:
    """Use the same calls without an event loop."""
    with SyncGateway() as gateway:
        assert_type(gateway.save_position(condition_id="0x1", side="YES", entry_price=1, opened_at=NOW), Ack)
        assert_type(gateway.load_position("0x1"), Position | None)
        assert_type(gateway.get_open_positions(), list[Position])
        assert_type(gateway.get_trades(market="BTC"), list[Trade])
        assert_type(gateway.flush(), int)
        assert_type(gateway.get_candles("A", "1m"), Candles)
        assert_type(gateway.load_indicators("s", "A", "RSI"), list[Indicator])
        for record in gateway.stream("trades"):
            assert_type(record, Record)


async def wrong(gateway: StorageGateway) -> None:
    """Hold mistakes that the type checkers must find."""
    await gateway.load_position(1)  # type: ignore[arg-type]
    await gateway.get_trades("BTC")  # type: ignore[call-arg]
    await gateway.get_trades(order="newest")  # type: ignore[arg-type]
    await gateway.insert_trade(market="BTC")  # type: ignore[call-overload]
    await gateway.insert_trade(price=[1])  # type: ignore[call-overload]
    await gateway.save_position(Trade.model_validate({}))  # type: ignore[call-overload]
    await gateway.update_daily_stats("2026-01-01", trade_count_delta="1")  # type: ignore[arg-type]
    await gateway.buffer_snapshot(bids=["0.6"])  # type: ignore[list-item]
    await gateway.save_indicators([], session_id="s", symbol="A", mode="replace")  # type: ignore[arg-type]
    await gateway.get_candles("A")  # type: ignore[call-arg]
    gateway.insert_trades()  # type: ignore[attr-defined]
    position: Position = await gateway.load_position("0x1")  # type: ignore[assignment]
    await gateway.save_position(position)


def wrong_sync(gateway: SyncGateway) -> None:
    """The same for the other gateway."""
    gateway.load_position(1)  # type: ignore[arg-type]
    gateway.get_trades(order="newest")  # type: ignore[arg-type]
    gateway.missing()  # type: ignore[attr-defined]
