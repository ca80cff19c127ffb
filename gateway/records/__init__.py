"""Record kinds: what bots store. Import record classes and `record_kind` from here."""

from __future__ import annotations

from gateway.records.activity import (
    ALERTS,
    DAILY_STATS,
    EVENTS,
    OPERATIONS,
    Alert,
    DailyStats,
    Event,
    Operation,
)
from gateway.records.kind import Comparison, Durability, FieldSpec, KindSpec, LogRecord, Record, Shape
from gateway.records.market import (
    CANDLES,
    INDICATORS,
    ORDER_BOOK_SNAPSHOTS,
    TICK_PRICES,
    Candle,
    Indicator,
    OrderBookSnapshot,
    TickPrice,
)
from gateway.records.registry import KindRegistry, record_kind
from gateway.records.row import Key, Row
from gateway.records.trading import (
    BOT_STATE,
    CLOSED_POSITIONS,
    POSITIONS,
    TRADE_DECISIONS,
    TRADES,
    BotState,
    ClosedPosition,
    Position,
    Trade,
    TradeDecision,
)
from gateway.records.types import Count, Flag, Json, Levels, Money, Number, StorageType, Text, Time

__all__ = [
    "ALERTS",
    "BOT_STATE",
    "CANDLES",
    "CLOSED_POSITIONS",
    "DAILY_STATS",
    "EVENTS",
    "INDICATORS",
    "OPERATIONS",
    "ORDER_BOOK_SNAPSHOTS",
    "POSITIONS",
    "TICK_PRICES",
    "TRADES",
    "TRADE_DECISIONS",
    "Alert",
    "BotState",
    "Candle",
    "ClosedPosition",
    "Comparison",
    "Count",
    "DailyStats",
    "Durability",
    "Event",
    "FieldSpec",
    "Flag",
    "Indicator",
    "Json",
    "Key",
    "KindRegistry",
    "KindSpec",
    "Levels",
    "LogRecord",
    "Money",
    "Number",
    "Operation",
    "OrderBookSnapshot",
    "Position",
    "Record",
    "Row",
    "Shape",
    "StorageType",
    "Text",
    "TickPrice",
    "Time",
    "Trade",
    "TradeDecision",
    "record_kind",
]
