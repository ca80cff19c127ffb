"""The keyword arguments of the calls that take a record's fields, for type checkers.

Each mirrors a record class; a test holds them to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypedDict

__all__ = ["AlertFields", "EventFields", "Number", "PositionFields", "SnapshotFields", "TradeFields"]

Number = Decimal | float | int | str
"""What a money field takes. A float is taken by its shortest representation."""


class TradeFields(TypedDict, total=False):
    """Keyword arguments of `insert_trade`; see `Trade`."""

    record_id: str | None
    timestamp: datetime
    market_name: str
    condition_id: str | None
    action: str
    side: str
    price: Number
    amount: Number
    order_id: str | None
    status: str | None
    pnl: Number | None
    pnl_pct: Number | None
    reason: str | None
    dry_run: bool
    strategy: str | None
    execution_mode: str | None


class PositionFields(TypedDict, total=False):
    """Keyword arguments of `save_position`; see `Position`."""

    condition_id: str
    market_name: str | None
    side: str
    entry_price: Number
    amount: Number | None
    trailing_stop_price: Number | None
    is_open: bool
    opened_at: datetime
    closed_at: datetime | None
    close_reason: str | None
    exit_price: Number | None
    pnl: Number | None
    extra: Mapping[str, Any] | None


class EventFields(TypedDict, total=False):
    """Keyword arguments of `record_event`; see `Event`."""

    record_id: str | None
    timestamp: datetime
    session_id: str
    event_type: str
    condition_id: str | None
    market_name: str | None
    data: Mapping[str, Any] | None


class AlertFields(TypedDict, total=False):
    """Keyword arguments of `insert_alert`; see `Alert`."""

    record_id: str | None
    timestamp: datetime
    alert_type: str
    level: str
    market_name: str | None
    details: Mapping[str, Any] | None


class SnapshotFields(TypedDict, total=False):
    """Keyword arguments of `buffer_snapshot`; see `OrderBookSnapshot`."""

    record_id: str | None
    timestamp: datetime
    condition_id: str
    best_ask_yes: float | None
    best_bid_yes: float | None
    best_ask_yes_size: float | None
    best_bid_yes_size: float | None
    best_ask_no: float | None
    best_bid_no: float | None
    best_ask_no_size: float | None
    best_bid_no_size: float | None
    winning_side: str | None
    time_remaining: float | None
    bids: Iterable[tuple[float, float]] | None
    asks: Iterable[tuple[float, float]] | None
