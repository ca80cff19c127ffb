"""The record kinds that come with the gateway, registered the way any plugin registers its own."""

from __future__ import annotations

from gateway.hookspecs import hookimpl
from gateway.records.activity import ALERTS, DAILY_STATS, EVENTS, OPERATIONS
from gateway.records.caching import CACHE_EPOCHS
from gateway.records.kind import KindSpec
from gateway.records.market import CANDLES, INDICATOR_SERIES, INDICATORS, ORDER_BOOK_SNAPSHOTS, TICK_PRICES
from gateway.records.mirroring import MIRROR_STATES
from gateway.records.trading import BOT_STATE, CLOSED_POSITIONS, POSITIONS, TRADE_DECISIONS, TRADES

__all__ = ["BUILTIN_KINDS", "gateway_record_kinds"]

BUILTIN_KINDS: tuple[KindSpec, ...] = (
    TRADES,
    POSITIONS,
    CLOSED_POSITIONS,
    ORDER_BOOK_SNAPSHOTS,
    EVENTS,
    ALERTS,
    DAILY_STATS,
    OPERATIONS,
    INDICATORS,
    INDICATOR_SERIES,
    CANDLES,
    TICK_PRICES,
    TRADE_DECISIONS,
    BOT_STATE,
    CACHE_EPOCHS,
    MIRROR_STATES,
)


@hookimpl
def gateway_record_kinds() -> tuple[KindSpec, ...]:
    """Bring the built-in kinds."""
    return BUILTIN_KINDS
