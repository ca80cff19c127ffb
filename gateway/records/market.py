"""What the market shows: order books, ticks, candles and what is computed from them."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from gateway.records.kind import Durability, KindSpec, LogRecord, Record, Shape
from gateway.records.types import Json, Levels, Number, Text, Time

__all__ = [
    "CANDLES",
    "INDICATORS",
    "INDICATOR_SERIES",
    "ORDER_BOOK_SNAPSHOTS",
    "TICK_PRICES",
    "Candle",
    "Indicator",
    "IndicatorSeries",
    "OrderBookSnapshot",
    "TickPrice",
]


class OrderBookSnapshot(LogRecord):
    """The top of a two-sided book, and its depth where the bot keeps it.

    Attributes:
        timestamp: When the book looked like this.
        condition_id: The market.
        winning_side: The side ahead at that moment.
        time_remaining: Seconds until the market closes.
        bids: Level 2 bids, best first, as pairs of price and size.
        asks: Level 2 asks, best first, as pairs of price and size.
    """

    timestamp: Time
    condition_id: Text
    best_ask_yes: Number | None = None
    best_bid_yes: Number | None = None
    best_ask_yes_size: Number | None = None
    best_bid_yes_size: Number | None = None
    best_ask_no: Number | None = None
    best_bid_no: Number | None = None
    best_ask_no_size: Number | None = None
    best_bid_no_size: Number | None = None
    winning_side: Text | None = None
    time_remaining: Number | None = None
    bids: Levels | None = None
    asks: Levels | None = None


class TickPrice(LogRecord):
    """One tick. Several ticks may share symbol and time; each is a row of its own."""

    timestamp: Time
    symbol: Text
    session_id: Text | None = None
    price: Number
    volume: Number | None = None
    side: Text | None = None


class Candle(Record):
    """One bar of a symbol and an interval, such as `5m`; the latest write of a bar wins."""

    symbol: Text
    interval: Text
    timestamp: Time
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number | None = None


class Indicator(LogRecord):
    """One value of one indicator series.

    Attributes:
        indicator_id: Which series, by default `{variant_type}_{variant_id}`; matched by equality, never by pattern.
        confidence: Between 0 and 1; 0.0 and None are different answers.
        generation: Which writing of the series it belongs to; None until the series is overwritten for the first time.
    """

    timestamp: Time
    session_id: Text
    symbol: Text
    indicator_id: Text
    indicator_type: Text | None = None
    value: Number
    confidence: Number | None = None
    metadata: Json | None = None
    generation: Text | None = None


class IndicatorSeries(Record):
    """Which generation of an indicator series is the current one; a series without such a row was never overwritten.

    Attributes:
        generation: What the values that count have in their own `generation`.
        switched_at: Since when.
    """

    session_id: Text
    symbol: Text
    indicator_id: Text
    generation: Text
    switched_at: Time


ORDER_BOOK_SNAPSHOTS: Final = KindSpec(
    "order_book_snapshots",
    OrderBookSnapshot,
    time_field="timestamp",
    durability=Durability.BUFFERED,
    retention=timedelta(days=7),
    indexes=(("timestamp",), ("condition_id", "timestamp")),
)
TICK_PRICES: Final = KindSpec(
    "tick_prices",
    TickPrice,
    time_field="timestamp",
    indexes=(("timestamp",), ("symbol", "timestamp")),
    schema="ai_core",
)
CANDLES: Final = KindSpec(
    "candles",
    Candle,
    key=("symbol", "interval", "timestamp"),
    shape=Shape.STATE,
    time_field="timestamp",
    schema="ai_core",
)
INDICATORS: Final = KindSpec(
    "indicators",
    Indicator,
    time_field="timestamp",
    indexes=(("timestamp",), ("session_id", "symbol", "indicator_id", "generation", "timestamp")),
    schema="ai_core",
)
INDICATOR_SERIES: Final = KindSpec(
    "indicator_series",
    IndicatorSeries,
    key=("session_id", "symbol", "indicator_id"),
    shape=Shape.STATE,
    schema="ai_core",
    companion_of="indicators",
)
