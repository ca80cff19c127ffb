"""The calls of `gateway.api` on real stores, as a bot makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from gateway import Alert, Gateway, InvalidRecordError, OrderBookSnapshot, Position, Trade
from gateway.backend import Capability, Summarize
from gateway.errors import CapabilityError, GatewayClosedError, UnknownKindError
from gateway.records import ORDER_BOOK_SNAPSHOTS, Candle, ClosedPosition, DailyStats, Event
from tests.mirrors import drained

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, 11, 6, 41, 532199, tzinfo=UTC)


def trade(at: int = 0, **fields: object) -> Trade:
    """Return a trade that happened some minutes after NOW."""
    base = {
        "timestamp": NOW + timedelta(minutes=at),
        "market_name": "BTC",
        "action": "buy",
        "side": "YES",
        "price": "0.28",
        "amount": 5,
    }
    return Trade.model_validate({**base, **fields})


async def test_positions_survive_and_close(gateway: Gateway) -> None:
    """A position is saved, updated, found open, closed once, and its history kept when the market is entered again."""
    await gateway.save_position(condition_id="0xabc", side="YES", entry_price=0.28, amount=10, opened_at=NOW)
    await gateway.save_position(
        Position(condition_id="0xdef", side="NO", entry_price=Decimal("0.5"), opened_at=NOW)
    )
    held = await gateway.load_position("0xabc")
    assert held is not None
    await gateway.save_position(held.model_copy(update={"trailing_stop_price": Decimal("0.14")}))
    assert [(p.condition_id, p.trailing_stop_price) for p in await gateway.get_open_positions()] == [
        ("0xabc", Decimal("0.14")),
        ("0xdef", None),
    ]
    closed = await gateway.close_position("0xabc", "stop-loss", exit_price=0.14, pnl=-1.4)
    assert closed is not None
    assert (closed.is_open, closed.close_reason, closed.pnl) == (False, "stop-loss", Decimal("-1.4"))
    assert await gateway.close_position("0xabc", "again") == closed
    assert await gateway.close_position("0x404", "x") is None
    await gateway.save_position(
        condition_id="0xabc", side="NO", entry_price=0.3, opened_at=NOW + timedelta(days=1)
    )
    assert [p.condition_id for p in await gateway.get_open_positions()] == ["0xabc", "0xdef"]
    (kept,) = await gateway.query("closed_positions")
    assert isinstance(kept, ClosedPosition)
    assert (kept.side, kept.close_reason, kept.amount) == ("YES", "stop-loss", Decimal(10))
    assert await gateway.load_position("0x404") is None


async def test_trades_are_listed_newest_first(gateway: Gateway) -> None:
    """Market, day, bounds and limit select; ties in time are all there."""
    for at in range(10):
        await gateway.insert_trade(trade(at % 5, market_name="BTC" if at % 2 else "ETH", order_id=str(at)))
    await gateway.insert_trade(trade(60 * 24))
    assert len(await gateway.get_trades(date="2026-03-12")) == 10
    assert len(await gateway.get_trades(date=date(2026, 3, 13))) == 1
    assert len(await gateway.get_trades(market="ETH")) == 5
    latest = await gateway.get_trades(limit=3)
    assert [found.timestamp for found in latest] == sorted(
        (found.timestamp for found in latest), reverse=True
    )
    assert latest[0].timestamp == NOW + timedelta(days=1)
    bounded = await gateway.get_trades(
        since=NOW + timedelta(minutes=1), until=NOW + timedelta(minutes=3), order="asc", limit=None
    )
    assert [(found.timestamp - NOW) // timedelta(minutes=1) for found in bounded] == [1, 1, 2, 2]


async def test_a_retry_with_its_id_is_one_trade(gateway: Gateway) -> None:
    """The id in the acknowledgement makes a repeated insert the same row; without it each call is a new trade."""
    ack = await gateway.insert_trade(trade())
    again = await gateway.insert_trade(trade(record_id=ack.record_id))
    assert again.record_id == ack.record_id
    assert len(await gateway.get_trades()) == 1
    await gateway.insert_trade(trade())
    assert len(await gateway.get_trades()) == 2


async def test_sessions_replay_in_order(gateway: Gateway) -> None:
    """Events come back in the order they happened, by session; sessions are listed with their span."""
    for at in range(5):
        await gateway.record_event(
            session_id="s1", event_type="book_update", timestamp=NOW + timedelta(seconds=at), data={"at": at}
        )
    await gateway.record_event(
        Event(session_id="s2", event_type="session_start", timestamp=NOW + timedelta(hours=1))
    )
    await gateway.record_event(session_id="s2", event_type="session_end")
    events = await gateway.get_events("s1")
    assert [event.data and event.data["at"] for event in events] == [0, 1, 2, 3, 4]
    assert len(await gateway.get_events("s2", event_type="session_end")) == 1
    sessions = await gateway.list_sessions()
    assert [(session.session_id, session.events) for session in sessions] == [("s2", 2), ("s1", 5)]
    assert sessions[1].started_at == NOW
    assert sessions[1].ended_at == NOW + timedelta(seconds=4)


async def test_snapshots_are_buffered_then_stored(gateway: Gateway) -> None:
    """A snapshot gets its id at once and is readable after flush, depth arrays included."""
    first = await gateway.buffer_snapshot(
        condition_id="c", best_ask_yes=0.5, timestamp=NOW, bids=[(0.4, 10), (0.3, 5.5)]
    )
    await gateway.buffer_snapshot(OrderBookSnapshot(condition_id="c", timestamp=NOW + timedelta(seconds=1)))
    assert await gateway.get_snapshots("c") == []
    assert await gateway.flush() == 2
    stored = await gateway.get_snapshots("c", order="asc")
    assert stored[0].record_id == first
    assert stored[0].bids == ((0.4, 10.0), (0.3, 5.5))


async def test_a_hundred_snapshots_are_written_without_a_flush(gateway: Gateway) -> None:
    """Reaching the count writes the batch; nobody has to ask."""
    for at in range(100):
        await gateway.buffer_snapshot(condition_id="c", timestamp=NOW + timedelta(milliseconds=at))
    async with asyncio.timeout(10):
        while len(await gateway.get_snapshots("c", limit=None)) < 100:  # noqa: ASYNC110 - the store tells nobody when it has committed
            await asyncio.sleep(0.01)


async def test_alerts_are_filtered(gateway: Gateway) -> None:
    """Alerts are found by type, level and time."""
    await gateway.insert_alert(alert_type="trade", details={"size": 1}, timestamp=NOW)
    await gateway.insert_alert(
        Alert(alert_type="stop_loss", level="CRITICAL", timestamp=NOW + timedelta(minutes=1))
    )
    assert [alert.alert_type for alert in await gateway.get_alerts()] == ["stop_loss", "trade"]
    assert [alert.level for alert in await gateway.get_alerts(level="CRITICAL")] == ["CRITICAL"]
    assert await gateway.get_alerts(since=NOW + timedelta(hours=1)) == []
    assert (await gateway.get_alerts(alert_type="trade"))[0].details == {"size": 1}


async def test_daily_stats_add_up_under_concurrency_and_retries(gateway: Gateway) -> None:
    """Concurrent deltas are all counted once, exactly, even when every one of them is sent twice."""
    created = await gateway.get_or_create_daily_stats("2026-03-12")
    assert created == DailyStats(date="2026-03-12")

    async def update(at: int) -> None:
        for _ in range(2):
            await gateway.update_daily_stats(
                date(2026, 3, 12), pnl_delta=0.1, trade_count_delta=1, winning_delta=at % 2, losing_delta=1 - at % 2,
                volume_delta=Decimal("12.5"), initial_balance=1000, operation_id=f"op{at}",
            )  # fmt: skip

    await asyncio.gather(*(update(at) for at in range(20)))
    totals = await gateway.get_or_create_daily_stats("2026-03-12")
    assert totals == DailyStats(
        date="2026-03-12", initial_balance=Decimal(1000), current_pnl=Decimal(2), total_trades=20, winning_trades=10,
        losing_trades=10, total_volume=Decimal(250),
    )  # fmt: skip


async def test_any_kind_by_record_or_by_name(gateway: Gateway) -> None:
    """put, put_many, get, query with paging, stream and delete work for every registered kind."""
    candles = [
        Candle(
            symbol="BTC",
            interval="5m",
            timestamp=NOW + timedelta(minutes=5 * at),
            open=1,
            high=2,
            low=1,
            close=at,
        )
        for at in range(25)
    ]
    assert await gateway.put_many(candles) == 25
    await gateway.put("candles", symbol="ETH", interval="5m", timestamp=NOW, open=1, high=1, low=1, close=1)
    found = await gateway.get("candles", "BTC", "5m", NOW)
    assert found == candles[0]
    pages = []
    cursor = None
    while True:
        page = await gateway.query("candles", where={"symbol": "BTC", "close__ge": 3}, limit=10, after=cursor)
        pages.append(len(page))
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == [10, 10, 2]
    assert [record async for record in gateway.stream("candles", where={"symbol": "BTC"})] == candles
    assert await gateway.delete("candles", "BTC", "5m", NOW) is True
    assert await gateway.delete("candles", "BTC", "5m", NOW) is False
    assert await gateway.get("candles", "BTC", "5m", NOW) is None
    assert len(await gateway.query("candles")) == 25


async def test_purge_removes_by_age_everywhere(gateway: Gateway) -> None:
    """Old rows go, young ones stay, on every store, or on none if one cannot; what is current is not purged."""
    for age in (10, 8, 6, 0):
        await gateway.buffer_snapshot(condition_id="c", timestamp=datetime.now(UTC) - timedelta(days=age))
    await gateway.flush()
    stores, left = gateway.engine.stores.values(), 2
    if all(Capability.PURGE in store.capabilities for store in stores):
        assert await gateway.purge("order_book_snapshots") == 2
    else:
        with pytest.raises(CapabilityError, match="does not declare 'purge'"):
            await gateway.purge("order_book_snapshots")
        left = 4
    assert len(await gateway.get_snapshots("c")) == left
    if gateway.engine.mirrors is not None:
        await drained(gateway)
    for store in stores:
        (group,) = await store.summarize(Summarize(ORDER_BOOK_SNAPSHOTS, gateway.engine.stamper.tenant))
        assert group.rows == left
    with pytest.raises(InvalidRecordError, match="holds what is current"):
        await gateway.purge("positions", older_than=timedelta(days=1))
    with pytest.raises(InvalidRecordError, match="declares no retention"):
        await gateway.purge("trades")


async def test_wrong_calls_say_what_is_wrong_and_store_nothing(gateway: Gateway) -> None:
    """Each refused call raises one sentence, and afterwards every listing is still empty."""
    untyped: Any = gateway  # a type checker refuses these calls; a bot may run without one
    wrong: list[tuple[Callable[[], Awaitable[object]], str]] = [
        (
            lambda: gateway.insert_trade(
                market_name="BTC", action="buy", side="YES", price=float("nan"), amount=1
            ),
            "price: must be a finite number",
        ),
        (
            lambda: untyped.insert_trade(
                market_name="BTC", action="buy", side="YES", price=1, amount=1, colour="red"
            ),
            "colour: no such field",
        ),
        (
            lambda: gateway.insert_trade(
                market_name="BTC", action="buy", side="YES", price=1, amount=1, timestamp=datetime(2026, 1, 1)
            ),
            "has no time zone",
        ),
        (
            lambda: gateway.insert_trade(action="buy", side="YES", price=1, amount=1),
            "market_name: is required",
        ),
        (lambda: untyped.insert_trade(trade(), price=1), "a record object or keyword arguments, not both"),
        (lambda: untyped.insert_trade("trades"), "give a record object or keyword arguments"),
        (
            lambda: untyped.insert_trade(Alert(alert_type="x", timestamp=NOW)),
            "this call takes Trade, not Alert",
        ),
        (
            lambda: gateway.save_position(condition_id="", side="YES", entry_price=1, opened_at=NOW),
            "key field 'condition_id' is empty",
        ),
        (lambda: gateway.update_daily_stats("12.03.2026"), "write it as YYYY-MM-DD"),
        (lambda: gateway.update_daily_stats("2026-03-12", pnl_delta=float("inf")), "finite number"),
        (lambda: untyped.update_daily_stats("2026-03-12", trade_count_delta=0.5), "total_trades"),
        (lambda: gateway.put(DailyStats(date="2026-03-12")), "changes by deltas"),
        (
            lambda: gateway.put("closed_positions", condition_id="c"),
            "is written by the gateway, together with positions",
        ),
        (lambda: gateway.get_trades(limit=0), "limit is at least 1"),
        (lambda: gateway.get_trades(date="2026-03-12", since=NOW), "date, or since and until"),
        (lambda: gateway.query("trades", limit=100_000), "between 1 and 10000"),
        (lambda: untyped.query("trades", order="up"), "'asc' or 'desc'"),
        (lambda: gateway.close_position("c", "x" * 2000), "close_reason"),
    ]
    for call, says in wrong:
        with pytest.raises(InvalidRecordError, match=says):
            await call()
    with pytest.raises(UnknownKindError, match="no record kind 'trade' is registered; known kinds: alerts"):
        await gateway.query("trade")
    for kind in ("trades", "positions", "daily_stats", "closed_positions"):
        assert await gateway.query(kind) == []


async def test_a_closed_gateway_says_so(gateway: Gateway) -> None:
    """Calls before open and after close raise, and do not look like an empty store."""
    await gateway.close()
    await gateway.close()
    with pytest.raises(GatewayClosedError, match="not open"):
        await gateway.get_trades()
    with pytest.raises(GatewayClosedError):
        await gateway.buffer_snapshot(condition_id="c")


async def test_health_names_every_store(gateway: Gateway) -> None:
    """Health is ok, store by store, with queue depths."""
    health = await gateway.health()
    assert health.ok
    assert set(health.backends) == set(gateway.engine.stores)
    assert all(lane["depth"] == 0 for lane in health.details["lanes"].values())
