"""From what bots write to what stores are asked."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRecordError
from gateway.filters import conditions, cursor_of, day_bounds, key_of, position_from, time_bounds
from gateway.query import Condition, Op
from gateway.records import BOT_STATE, CANDLES, POSITIONS, TRADES, Candle, Trade
from gateway.records.stamp import Stamper

NOW = datetime(2026, 3, 12, 11, 6, 41, 532199, tzinfo=UTC)


def test_filters_become_canonical_conditions() -> None:
    """Every operator is understood, and values take the form that rows hold."""
    where = {
        "market_name": "BTC",
        "price__ge": 0.10,
        "timestamp__lt": NOW,
        "side__in": ["YES", None],
        "pnl": None,
        "dry_run__ne": True,
    }
    assert conditions(TRADES, where) == (
        Condition("market_name", Op.EQ, "BTC"),
        Condition("price", Op.GE, "0.1"),
        Condition("timestamp", Op.LT, 1773313601532199),
        Condition("side", Op.IN, ("YES", None)),
        Condition("pnl", Op.EQ, None),
        Condition("dry_run", Op.NE, True),
    )


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"markt": 1}, "trades has no field 'markt'; its fields are record_id, timestamp"),
        ({"price__like": 1}, "unknown operator; use price or price__ne"),
        ({"price": "much"}, "price: .*should be a valid decimal"),
        ({"timestamp__ge": datetime(2026, 1, 1)}, "has no time zone"),
        ({"pnl__gt": None}, "needs an order"),
        ({"dry_run__gt": True}, "needs an order"),
        ({"side__in": "YES"}, "takes a list of values"),
        ({"side__in": ["x"] * 1001}, "at most 1000 values, not 1001"),
        ({"price": float("nan")}, "finite number"),
        ({"side": "a\0"}, "NUL character"),
    ],
)
def test_wrong_filters_say_what_is_wrong(where: dict[str, Any], says: str) -> None:
    """A filter that no row could satisfy by mistake is refused, with the field's name."""
    with pytest.raises(InvalidRecordError, match=says):
        conditions(TRADES, where)


def test_time_bounds_include_the_beginning_and_not_the_end() -> None:
    """Since is inclusive and until exclusive, on the kind's own time field."""
    assert time_bounds(TRADES, NOW, NOW) == (
        Condition("timestamp", Op.GE, 1773313601532199),
        Condition("timestamp", Op.LT, 1773313601532199),
    )
    assert time_bounds(TRADES, None, None) == ()
    with pytest.raises(InvalidRecordError, match="bot_state has no time field"):
        time_bounds(BOT_STATE, NOW, None)


@given(st.dates(date(1970, 1, 1), date(9999, 12, 30)))
def test_a_day_is_the_same_as_text_and_as_date(day: date) -> None:
    """A day has 24 hours of UTC, however it is written."""
    begin, end = day_bounds(day)
    assert end is not None
    assert (begin, end) == day_bounds(day.isoformat())
    assert begin.date() == day
    assert (end - begin).total_seconds() == 86_400


@pytest.mark.parametrize("day", ["2026-13-01", "today", "", NOW])
def test_what_is_no_day_is_refused(day: Any) -> None:
    """Neither free text nor a time is taken for a day."""
    with pytest.raises(InvalidRecordError, match="day"):
        day_bounds(day)


def test_keys_are_complete_and_canonical() -> None:
    """A key has every part, none empty, each as rows hold it."""
    assert key_of(CANDLES, ("BTC", "5m", NOW)) == ("BTC", "5m", 1773313601532199)
    for key in [(), ("BTC",), ("BTC", "5m", NOW, 1), ("", "5m", NOW), ("BTC", None, NOW), ("BTC", 5, NOW)]:
        with pytest.raises(InvalidRecordError):
            key_of(CANDLES, key)
    for key in [
        ("\ud800", "5m", NOW),
        ("a\udfffb", "5m", NOW),
    ]:  # no Unicode: neither a store nor a cache could hold it
        with pytest.raises(InvalidRecordError):
            key_of(CANDLES, key)


@given(st.text(min_size=1, max_size=30), st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)))
def test_a_cursor_carries_the_position(symbol: str, at: datetime) -> None:
    """What a cursor says is where its row stands; another kind does not take it."""
    try:
        row = Stamper().stamp(
            CANDLES, Candle(symbol=symbol, interval="5m", timestamp=at, open=1, high=1, low=1, close=1)
        )
    except InvalidRecordError:
        return
    assert position_from(CANDLES, cursor_of(row)) == row.position
    with pytest.raises(InvalidRecordError, match="belongs to a listing of candles"):
        position_from(POSITIONS, cursor_of(row))


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "AAAA", "kqV0cmFkZXM"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    """Any other text is refused with what to do."""
    with pytest.raises(InvalidRecordError, match="cursor"):
        position_from(TRADES, cursor)


def test_a_log_is_listed_by_time_then_id() -> None:
    """Rows of one instant still have one place each."""
    record = Trade(
        timestamp=NOW,
        market_name="M",
        action="buy",
        side="YES",
        price=Decimal(1),
        amount=Decimal(1),
        record_id="r",
    )
    assert Stamper().stamp(TRADES, record).position == (1773313601532199, "r")
