"""What happened and what it came to: events for replay, alerts, daily statistics, and applied operations."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final

from pydantic import StringConstraints

from gateway.records.kind import KindSpec, LogRecord, Record, Shape
from gateway.records.types import Count, Json, Money, StorageType, Text, Time

__all__ = [
    "ALERTS",
    "DAILY_STATS",
    "EVENTS",
    "OPERATIONS",
    "Alert",
    "DailyStats",
    "Day",
    "Event",
    "Operation",
]

Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$"), StorageType.TEXT]
"""A calendar day, `YYYY-MM-DD`, in UTC."""


class Event(LogRecord):
    """One step of a session, recorded so that the session can be replayed.

    Attributes:
        event_type: `book_update`, `trigger_check`, `trade`, `price_change`, `stop_loss`, `take_profit`,
            `oracle_guard`, `session_start`, `session_end`, or the bot's own.
        data: What the step saw and did.
    """

    timestamp: Time
    session_id: Text
    event_type: Text
    condition_id: Text | None = None
    market_name: Text | None = None
    data: Json | None = None


class Alert(LogRecord):
    """Something a person was told.

    Attributes:
        alert_type: `trade`, `stop_loss`, `take_profit`, `oracle_guard`, `daily_summary`, or the bot's own.
        level: `INFO`, `WARNING` or `CRITICAL`.
    """

    timestamp: Time
    alert_type: Text
    level: Text = "INFO"
    market_name: Text | None = None
    details: Json | None = None


class DailyStats(Record):
    """The day's totals; changed by deltas only.

    Attributes:
        date: The day, `YYYY-MM-DD`, in UTC.
        initial_balance: What the day began with, in the quote currency.
        current_pnl: Sum of profits and losses, in the quote currency.
        total_volume: Sum of traded amounts, in the quote currency.
    """

    date: Day
    initial_balance: Money | None = None
    current_pnl: Money = Decimal(0)
    total_trades: Count = 0
    winning_trades: Count = 0
    losing_trades: Count = 0
    total_volume: Money = Decimal(0)


class Operation(Record):
    """A delta that was applied: written in the same transaction, so that a retry finds it and changes nothing."""

    operation_id: Text
    kind: Text
    key: Text
    applied_at: Time


EVENTS: Final = KindSpec(
    "events",
    Event,
    time_field="timestamp",
    indexes=(("timestamp",), ("session_id", "timestamp"), ("event_type", "timestamp")),
)
ALERTS: Final = KindSpec(
    "alerts", Alert, time_field="timestamp", indexes=(("timestamp",), ("alert_type", "timestamp"))
)
DAILY_STATS: Final = KindSpec("daily_stats", DailyStats, key=("date",), shape=Shape.COUNTER, cacheable=True)
OPERATIONS: Final = KindSpec(
    "operations",
    Operation,
    key=("operation_id",),
    shape=Shape.STATE,
    time_field="applied_at",
    retention=timedelta(days=30),
    indexes=(("applied_at",),),
    schema="supporting",
    companion_of="daily_stats",
)
