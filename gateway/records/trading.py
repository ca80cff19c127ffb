"""What a bot does and holds: trades, positions, decisions, and its own state."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from gateway.records.kind import KindSpec, LogRecord, Record, Shape
from gateway.records.types import Count, Flag, Json, Money, Number, Text, Time

__all__ = [
    "BOT_STATE",
    "CLOSED_POSITIONS",
    "POSITIONS",
    "TRADES",
    "TRADE_DECISIONS",
    "BotState",
    "ClosedPosition",
    "Position",
    "Trade",
    "TradeDecision",
]


class Trade(LogRecord):
    """One fill, or one attempt at it.

    Attributes:
        timestamp: When it happened.
        market_name: Market or symbol, such as `BTC`.
        condition_id: The market's own id where it has one.
        action: `buy` or `sell`.
        side: Outcome or direction: `YES`, `NO`, `long`, `short`.
        price: Price of one unit, in the quote currency.
        amount: Size, in the unit the market trades in.
        order_id: The exchange's id; partial fills share it.
        status: `filled`, `killed`, `canceled`.
        pnl: Profit, in the quote currency.
        pnl_pct: Profit in percent of the stake.
        reason: Why the bot acted: `trigger`, `stop-loss`, `take-profit`.
        dry_run: Whether no real order was sent.
        strategy: Name of the strategy.
        execution_mode: `simulation`, `paper` or `live`.
    """

    timestamp: Time
    market_name: Text
    condition_id: Text | None = None
    action: Text
    side: Text
    price: Money
    amount: Money
    order_id: Text | None = None
    status: Text | None = None
    pnl: Money | None = None
    pnl_pct: Money | None = None
    reason: Text | None = None
    dry_run: Flag = True
    strategy: Text | None = None
    execution_mode: Text | None = None


class Position(Record):
    """What the bot holds in one market, open or closed last.

    Attributes:
        condition_id: The market; one position a market at a time.
        market_name: Market or symbol.
        side: Outcome or direction.
        entry_price: Price paid for one unit.
        amount: Units held; a position without it cannot be sold after a restart, so give it where it is known.
        trailing_stop_price: Where the trailing stop stands.
        is_open: Whether it is held now.
        opened_at: When it was opened.
        closed_at: When it was closed.
        close_reason: `stop-loss`, `take-profit`, `market-close`.
        exit_price: Price got for one unit.
        pnl: Profit, in the quote currency.
        extra: Whatever else the bot needs to go on after a restart.
    """

    condition_id: Text
    market_name: Text | None = None
    side: Text
    entry_price: Money
    amount: Money | None = None
    trailing_stop_price: Money | None = None
    is_open: Flag = True
    opened_at: Time
    closed_at: Time | None = None
    close_reason: Text | None = None
    exit_price: Money | None = None
    pnl: Money | None = None
    extra: Json | None = None


class ClosedPosition(LogRecord):
    """A position as it was when it was closed. Entering the market again leaves it untouched."""

    condition_id: Text
    market_name: Text | None = None
    side: Text
    entry_price: Money
    amount: Money | None = None
    trailing_stop_price: Money | None = None
    opened_at: Time
    closed_at: Time
    close_reason: Text | None = None
    exit_price: Money | None = None
    pnl: Money | None = None
    extra: Json | None = None


class TradeDecision(LogRecord):
    """Why the bot traded or did not.

    Attributes:
        action: `buy` or `skip`.
        confidence: Between 0 and 1.
        time_remaining: Seconds until the market closes.
        detail: Inputs of the decision, such as oracle values.
    """

    timestamp: Time
    market_name: Text
    condition_id: Text | None = None
    action: Text
    side: Text | None = None
    price: Money | None = None
    amount: Money | None = None
    confidence: Number | None = None
    time_remaining: Number | None = None
    reason: Text
    reason_detail: Text | None = None
    dry_run: Flag = True
    strategy: Text | None = None
    detail: Json | None = None


class BotState(Record):
    """What a bot must remember between two runs.

    Attributes:
        bot_id: Which bot.
        name: Which piece of its state.
        status: One word for people: `running`, `paused`.
        cycle: A counter of the bot's own.
        data: The state itself.
        updated_at: When the bot last said so.
    """

    bot_id: Text
    name: Text = "state"
    status: Text | None = None
    cycle: Count | None = None
    data: Json | None = None
    updated_at: Time


TRADES: Final = KindSpec(
    "trades",
    Trade,
    time_field="timestamp",
    indexes=(("timestamp",), ("market_name", "timestamp"), ("condition_id", "timestamp")),
)
POSITIONS: Final = KindSpec(
    "positions",
    Position,
    key=("condition_id",),
    shape=Shape.STATE,
    time_field="opened_at",
    indexes=(("is_open",),),
    cacheable=True,
)
CLOSED_POSITIONS: Final = KindSpec(
    "closed_positions",
    ClosedPosition,
    time_field="closed_at",
    indexes=(("closed_at",), ("condition_id", "closed_at")),
    companion_of="positions",
)
TRADE_DECISIONS: Final = KindSpec(
    "trade_decisions",
    TradeDecision,
    time_field="timestamp",
    retention=timedelta(days=90),
    indexes=(("timestamp",), ("market_name", "timestamp")),
)
BOT_STATE: Final = KindSpec("bot_state", BotState, key=("bot_id", "name"), shape=Shape.STATE, cacheable=True)
