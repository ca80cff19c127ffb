"""Tables of the built-in kinds.

Frozen: this is what the tables were at first, whatever the kinds look like now.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT: Final = sa.Text
INTEGER: Final = sa.Integer
REAL: Final = sa.REAL

Columns = dict[str, type[sa.types.TypeEngine[Any]]]

TABLES: Final[dict[str, tuple[tuple[str, ...], Columns, tuple[tuple[str, ...], ...]]]] = {
    "trades": (
        ("record_id",),
        {
            "record_id": TEXT,
            "timestamp": INTEGER,
            "market_name": TEXT,
            "condition_id": TEXT,
            "action": TEXT,
            "side": TEXT,
            "price": TEXT,
            "amount": TEXT,
            "order_id": TEXT,
            "status": TEXT,
            "pnl": TEXT,
            "pnl_pct": TEXT,
            "reason": TEXT,
            "dry_run": INTEGER,
            "strategy": TEXT,
            "execution_mode": TEXT,
        },
        (("timestamp",), ("market_name", "timestamp"), ("condition_id", "timestamp")),
    ),
    "positions": (
        ("condition_id",),
        {
            "condition_id": TEXT,
            "market_name": TEXT,
            "side": TEXT,
            "entry_price": TEXT,
            "amount": TEXT,
            "trailing_stop_price": TEXT,
            "is_open": INTEGER,
            "opened_at": INTEGER,
            "closed_at": INTEGER,
            "close_reason": TEXT,
            "exit_price": TEXT,
            "pnl": TEXT,
            "extra": TEXT,
        },
        (("is_open",),),
    ),
    "closed_positions": (
        ("record_id",),
        {
            "record_id": TEXT,
            "condition_id": TEXT,
            "market_name": TEXT,
            "side": TEXT,
            "entry_price": TEXT,
            "amount": TEXT,
            "trailing_stop_price": TEXT,
            "opened_at": INTEGER,
            "closed_at": INTEGER,
            "close_reason": TEXT,
            "exit_price": TEXT,
            "pnl": TEXT,
            "extra": TEXT,
        },
        (("closed_at",), ("condition_id", "closed_at")),
    ),
    "order_book_snapshots": (
        ("record_id",),
        {
            "record_id": TEXT,
            "timestamp": INTEGER,
            "condition_id": TEXT,
            "best_ask_yes": REAL,
            "best_bid_yes": REAL,
            "best_ask_yes_size": REAL,
            "best_bid_yes_size": REAL,
            "best_ask_no": REAL,
            "best_bid_no": REAL,
            "best_ask_no_size": REAL,
            "best_bid_no_size": REAL,
            "winning_side": TEXT,
            "time_remaining": REAL,
            "bids": TEXT,
            "asks": TEXT,
        },
        (("timestamp",), ("condition_id", "timestamp")),
    ),
    "events": (
        ("record_id",),
        {
            "record_id": TEXT,
            "timestamp": INTEGER,
            "session_id": TEXT,
            "event_type": TEXT,
            "condition_id": TEXT,
            "market_name": TEXT,
            "data": TEXT,
        },
        (("timestamp",), ("session_id", "timestamp"), ("event_type", "timestamp")),
    ),
    "alerts": (
        ("record_id",),
        {
            "record_id": TEXT,
            "timestamp": INTEGER,
            "alert_type": TEXT,
            "level": TEXT,
            "market_name": TEXT,
            "details": TEXT,
        },
        (("timestamp",), ("alert_type", "timestamp")),
    ),
    "daily_stats": (
        ("date",),
        {
            "date": TEXT,
            "initial_balance": TEXT,
            "current_pnl": TEXT,
            "total_trades": INTEGER,
            "winning_trades": INTEGER,
            "losing_trades": INTEGER,
            "total_volume": TEXT,
        },
        (),
    ),
    "operations": (
        ("operation_id",),
        {
            "operation_id": TEXT,
            "kind": TEXT,
            "key": TEXT,
            "applied_at": INTEGER,
        },
        (("applied_at",),),
    ),
    "indicators": (
        ("record_id",),
        {
            "record_id": TEXT,
            "timestamp": INTEGER,
            "session_id": TEXT,
            "symbol": TEXT,
            "indicator_id": TEXT,
            "indicator_type": TEXT,
            "value": REAL,
            "confidence": REAL,
            "metadata": TEXT,
        },
        (("timestamp",), ("session_id", "symbol", "indicator_id", "timestamp")),
    ),
    "candles": (
        ("symbol", "interval", "timestamp"),
        {
            "symbol": TEXT,
            "interval": TEXT,
            "timestamp": INTEGER,
            "open": REAL,
            "high": REAL,
            "low": REAL,
            "close": REAL,
            "volume": REAL,
        },
        (),
    ),
    "tick_prices": (
        ("record_id",),
        {
            "record_id": TEXT,
            "timestamp": INTEGER,
            "symbol": TEXT,
            "session_id": TEXT,
            "price": REAL,
            "volume": REAL,
            "side": TEXT,
        },
        (("timestamp",), ("symbol", "timestamp")),
    ),
    "trade_decisions": (
        ("record_id",),
        {
            "record_id": TEXT,
            "timestamp": INTEGER,
            "market_name": TEXT,
            "condition_id": TEXT,
            "action": TEXT,
            "side": TEXT,
            "price": TEXT,
            "amount": TEXT,
            "confidence": REAL,
            "time_remaining": REAL,
            "reason": TEXT,
            "reason_detail": TEXT,
            "dry_run": INTEGER,
            "strategy": TEXT,
            "detail": TEXT,
        },
        (("timestamp",), ("market_name", "timestamp")),
    ),
    "bot_state": (
        ("bot_id", "name"),
        {
            "bot_id": TEXT,
            "name": TEXT,
            "status": TEXT,
            "cycle": INTEGER,
            "data": TEXT,
            "updated_at": INTEGER,
        },
        (),
    ),
}
"""Name: key, columns beside the gateway's own, and indexes."""


def upgrade() -> None:
    """Create every table, and the one that remembers what the tables were made for."""
    for name, (key, columns, indexes) in TABLES.items():
        op.create_table(
            name,
            sa.Column("tenant_id", sa.Text(), nullable=False),
            sa.Column("version", sa.BigInteger(), nullable=False),
            sa.Column("digest", sa.BigInteger(), nullable=False),
            sa.Column("deleted", sa.Integer(), nullable=False),
            *(sa.Column(column, kind(), nullable=column not in key) for column, kind in columns.items()),
            sa.PrimaryKeyConstraint(*key, "tenant_id"),
        )
        for fields in indexes:
            op.create_index("__".join((f"ix_{name}", *fields)), name, [*fields])
    op.create_table(
        "gateway_kinds",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def downgrade() -> None:
    """Drop what `upgrade` created, indexes with their tables."""
    op.drop_table("gateway_kinds")
    for name in reversed(TABLES):
        op.drop_table(name)
