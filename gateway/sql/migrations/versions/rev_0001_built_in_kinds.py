"""Tables of the built-in kinds, and the gateway's own.

Frozen: this is what the tables were at first, whatever the kinds look like now.
"""

from __future__ import annotations

from typing import Final

from alembic import op

from gateway.records.types import StorageType
from gateway.sql.creation import house_creation, house_removal, kinds_creation
from gateway.sql.layout import OWN_SCHEMA
from gateway.sql.migrations.here import create, drop, layout_here, need_schemas
from gateway.sql.shapes import TableShape

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT: Final = StorageType.TEXT
INTEGER: Final = StorageType.INTEGER
FLOAT: Final = StorageType.FLOAT
BOOLEAN: Final = StorageType.BOOLEAN
MONEY: Final = StorageType.MONEY
TIME: Final = StorageType.TIME
JSON: Final = StorageType.JSON

TABLES: Final = (
    TableShape(
        name="trades",
        schema="bots_core",
        key=("record_id",),
        columns=(
            ("record_id", TEXT),
            ("timestamp", TIME),
            ("market_name", TEXT),
            ("condition_id", TEXT),
            ("action", TEXT),
            ("side", TEXT),
            ("price", MONEY),
            ("amount", MONEY),
            ("order_id", TEXT),
            ("status", TEXT),
            ("pnl", MONEY),
            ("pnl_pct", MONEY),
            ("reason", TEXT),
            ("dry_run", BOOLEAN),
            ("strategy", TEXT),
            ("execution_mode", TEXT),
        ),
        indexes=(("timestamp",), ("market_name", "timestamp"), ("condition_id", "timestamp")),
        time="timestamp",
        log=True,
    ),
    TableShape(
        name="positions",
        schema="bots_core",
        key=("condition_id",),
        columns=(
            ("condition_id", TEXT),
            ("market_name", TEXT),
            ("side", TEXT),
            ("entry_price", MONEY),
            ("amount", MONEY),
            ("trailing_stop_price", MONEY),
            ("is_open", BOOLEAN),
            ("opened_at", TIME),
            ("closed_at", TIME),
            ("close_reason", TEXT),
            ("exit_price", MONEY),
            ("pnl", MONEY),
            ("extra", JSON),
        ),
        indexes=(("is_open",),),
    ),
    TableShape(
        name="closed_positions",
        schema="bots_core",
        key=("record_id",),
        columns=(
            ("record_id", TEXT),
            ("condition_id", TEXT),
            ("market_name", TEXT),
            ("side", TEXT),
            ("entry_price", MONEY),
            ("amount", MONEY),
            ("trailing_stop_price", MONEY),
            ("opened_at", TIME),
            ("closed_at", TIME),
            ("close_reason", TEXT),
            ("exit_price", MONEY),
            ("pnl", MONEY),
            ("extra", JSON),
        ),
        indexes=(("closed_at",), ("condition_id", "closed_at")),
        time="closed_at",
        log=True,
    ),
    TableShape(
        name="order_book_snapshots",
        schema="bots_core",
        key=("record_id",),
        columns=(
            ("record_id", TEXT),
            ("timestamp", TIME),
            ("condition_id", TEXT),
            ("best_ask_yes", FLOAT),
            ("best_bid_yes", FLOAT),
            ("best_ask_yes_size", FLOAT),
            ("best_bid_yes_size", FLOAT),
            ("best_ask_no", FLOAT),
            ("best_bid_no", FLOAT),
            ("best_ask_no_size", FLOAT),
            ("best_bid_no_size", FLOAT),
            ("winning_side", TEXT),
            ("time_remaining", FLOAT),
            ("bids", JSON),
            ("asks", JSON),
        ),
        indexes=(("timestamp",), ("condition_id", "timestamp")),
        time="timestamp",
        log=True,
    ),
    TableShape(
        name="events",
        schema="bots_core",
        key=("record_id",),
        columns=(
            ("record_id", TEXT),
            ("timestamp", TIME),
            ("session_id", TEXT),
            ("event_type", TEXT),
            ("condition_id", TEXT),
            ("market_name", TEXT),
            ("data", JSON),
        ),
        indexes=(("timestamp",), ("session_id", "timestamp"), ("event_type", "timestamp")),
        time="timestamp",
        log=True,
    ),
    TableShape(
        name="alerts",
        schema="bots_core",
        key=("record_id",),
        columns=(
            ("record_id", TEXT),
            ("timestamp", TIME),
            ("alert_type", TEXT),
            ("level", TEXT),
            ("market_name", TEXT),
            ("details", JSON),
        ),
        indexes=(("timestamp",), ("alert_type", "timestamp")),
        time="timestamp",
        log=True,
    ),
    TableShape(
        name="daily_stats",
        schema="bots_core",
        key=("date",),
        columns=(
            ("date", TEXT),
            ("initial_balance", MONEY),
            ("current_pnl", MONEY),
            ("total_trades", INTEGER),
            ("winning_trades", INTEGER),
            ("losing_trades", INTEGER),
            ("total_volume", MONEY),
        ),
    ),
    TableShape(
        name="operations",
        schema="supporting",
        key=("operation_id",),
        columns=(
            ("operation_id", TEXT),
            ("kind", TEXT),
            ("key", TEXT),
            ("applied_at", TIME),
        ),
        indexes=(("applied_at",),),
    ),
    TableShape(
        name="indicators",
        schema="ai_core",
        key=("record_id",),
        columns=(
            ("record_id", TEXT),
            ("timestamp", TIME),
            ("session_id", TEXT),
            ("symbol", TEXT),
            ("indicator_id", TEXT),
            ("indicator_type", TEXT),
            ("value", FLOAT),
            ("confidence", FLOAT),
            ("metadata", JSON),
            ("generation", TEXT),
        ),
        indexes=(("timestamp",), ("session_id", "symbol", "indicator_id", "generation", "timestamp")),
        time="timestamp",
        log=True,
    ),
    TableShape(
        name="indicator_series",
        schema="ai_core",
        key=("session_id", "symbol", "indicator_id"),
        columns=(
            ("session_id", TEXT),
            ("symbol", TEXT),
            ("indicator_id", TEXT),
            ("generation", TEXT),
            ("switched_at", TIME),
        ),
    ),
    TableShape(
        name="candles",
        schema="ai_core",
        key=("symbol", "interval", "timestamp"),
        columns=(
            ("symbol", TEXT),
            ("interval", TEXT),
            ("timestamp", TIME),
            ("open", FLOAT),
            ("high", FLOAT),
            ("low", FLOAT),
            ("close", FLOAT),
            ("volume", FLOAT),
        ),
        time="timestamp",
    ),
    TableShape(
        name="tick_prices",
        schema="ai_core",
        key=("record_id",),
        columns=(
            ("record_id", TEXT),
            ("timestamp", TIME),
            ("symbol", TEXT),
            ("session_id", TEXT),
            ("price", FLOAT),
            ("volume", FLOAT),
            ("side", TEXT),
        ),
        indexes=(("timestamp",), ("symbol", "timestamp")),
        time="timestamp",
        log=True,
    ),
    TableShape(
        name="trade_decisions",
        schema="bots_core",
        key=("record_id",),
        columns=(
            ("record_id", TEXT),
            ("timestamp", TIME),
            ("market_name", TEXT),
            ("condition_id", TEXT),
            ("action", TEXT),
            ("side", TEXT),
            ("price", MONEY),
            ("amount", MONEY),
            ("confidence", FLOAT),
            ("time_remaining", FLOAT),
            ("reason", TEXT),
            ("reason_detail", TEXT),
            ("dry_run", BOOLEAN),
            ("strategy", TEXT),
            ("detail", JSON),
        ),
        indexes=(("timestamp",), ("market_name", "timestamp")),
        time="timestamp",
        log=True,
    ),
    TableShape(
        name="bot_state",
        schema="bots_core",
        key=("bot_id", "name"),
        columns=(
            ("bot_id", TEXT),
            ("name", TEXT),
            ("status", TEXT),
            ("cycle", INTEGER),
            ("data", JSON),
            ("updated_at", TIME),
        ),
    ),
    TableShape(
        name="cache_epochs",
        schema="supporting",
        key=("cache",),
        columns=(
            ("cache", TEXT),
            ("state", TEXT),
            ("epoch", TEXT),
            ("incarnation", TEXT),
            ("permit_ms", INTEGER),
            ("fence_ms", INTEGER),
            ("changed_by", TEXT),
            ("reason", TEXT),
            ("changed_at", TIME),
        ),
    ),
)


def upgrade() -> None:
    """Create every table, and those that remember what the tables were made for and how they are cut."""
    layout = layout_here()
    need_schemas(OWN_SCHEMA, *(shape.schema for shape in TABLES))
    for statement in house_creation(layout):
        op.execute(statement)
    for shape in TABLES:
        create(shape)
    for statement in kinds_creation(layout):
        op.execute(statement)


def downgrade() -> None:
    """Drop what `upgrade` created, indexes and partitions with their tables. Schemas stay: others may use them."""
    for statement in house_removal(layout_here()):
        op.execute(statement)
    for shape in reversed(TABLES):
        drop(shape.name, shape.schema)
