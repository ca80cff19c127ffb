"""What the benchmarks share: rows, the code a user would write by hand, and fair rounds."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import random
import sqlite3
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from gateway.records import Position, Trade

T = TypeVar("T")
BEGAN = datetime(2026, 1, 5, tzinfo=UTC)
POSITIONS = 266
MARKETS = ("BTC", "ETH", "SOL", "XRP")
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA cache_size=-65536",
    "PRAGMA wal_autocheckpoint=4000",
    "PRAGMA temp_store=MEMORY",
)
HAND_TRADES = """
CREATE TABLE trades (
    id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp REAL NOT NULL, timestamp_iso TEXT NOT NULL,
    market_name TEXT NOT NULL, condition_id TEXT NOT NULL, action TEXT NOT NULL, side TEXT NOT NULL,
    price REAL NOT NULL, amount REAL NOT NULL, order_id TEXT, status TEXT, pnl REAL, pnl_pct REAL, reason TEXT,
    dry_run INTEGER NOT NULL DEFAULT 1, strategy TEXT, created_at TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE INDEX idx_trades_timestamp ON trades(timestamp);
CREATE INDEX idx_trades_market ON trades(market_name);
CREATE INDEX idx_trades_condition ON trades(condition_id);
CREATE INDEX idx_trades_date ON trades(date(timestamp_iso));
"""
HAND_INSERT = f"""INSERT INTO trades (timestamp, timestamp_iso, market_name, condition_id, action, side, price, amount,
    order_id, status, pnl, pnl_pct, reason, dry_run, strategy) VALUES ({",".join("?" * 15)})"""
HAND_POSITIONS = """
CREATE TABLE positions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, condition_id TEXT NOT NULL UNIQUE, market_name TEXT NOT NULL,
    side TEXT NOT NULL, entry_price REAL NOT NULL, amount REAL, trailing_stop_price REAL,
    is_open INTEGER NOT NULL DEFAULT 1, opened_at REAL NOT NULL, closed_at REAL, close_reason TEXT,
    updated_at TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE INDEX idx_positions_open ON positions(is_open) WHERE is_open = 1;
CREATE INDEX idx_positions_condition ON positions(condition_id);
"""
HAND_SAVE = """INSERT INTO positions (condition_id, market_name, side, entry_price, amount, trailing_stop_price,
    is_open, opened_at) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT(condition_id) DO UPDATE SET
    market_name=excluded.market_name, side=excluded.side,
    entry_price=excluded.entry_price, amount=excluded.amount, trailing_stop_price=excluded.trailing_stop_price,
    is_open=excluded.is_open, opened_at=excluded.opened_at, updated_at=CURRENT_TIMESTAMP"""


def trade_fields(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Return trades as keyword arguments.

    As in the recorded data of a live bot: four markets at a time, each with a condition of its own that is replaced
    by another after a while (here after 20 trades, there after 2 to 4).
    """
    rng = random.Random(seed)
    conditions = [
        [f"0x{rng.getrandbits(256):064x}" for _ in MARKETS] for _ in range(count // (20 * len(MARKETS)) + 1)
    ]
    markets = [rng.randrange(len(MARKETS)) for _ in range(count)]
    return [
        {
            "timestamp": BEGAN + timedelta(milliseconds=137 * at),
            "market_name": MARKETS[markets[at]],
            "condition_id": conditions[at // (20 * len(MARKETS))][markets[at]],
            "action": "buy" if at % 2 else "sell",
            "side": "YES" if at % 3 else "NO",
            "price": Decimal(rng.randrange(1, 99)) / 100,
            "amount": Decimal(rng.randrange(100, 10_000)) / 100,
            "order_id": f"0x{rng.getrandbits(128):032x}",
            "status": "filled",
            "pnl": Decimal(rng.randrange(-500, 500)) / 100,
            "pnl_pct": Decimal(rng.randrange(-500, 500)) / 10,
            "reason": "trigger",
            "dry_run": False,
            "strategy": "convergence",
        }
        for at in range(count)
    ]


def hand_row(fields: dict[str, Any]) -> tuple[object, ...]:
    """Return what a user would hand to the driver for a trade: floats and two spellings of the time."""
    at = fields["timestamp"]
    return (
        at.timestamp(), at.isoformat(), fields["market_name"], fields["condition_id"], fields["action"], fields["side"],
        float(fields["price"]), float(fields["amount"]), fields["order_id"], fields["status"], float(fields["pnl"]),
        float(fields["pnl_pct"]), fields["reason"], int(fields["dry_run"]), fields["strategy"],
    )  # fmt: skip


def position_fields(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Return position saves over as many markets as a live bot's directory has."""
    rng = random.Random(seed)
    return [
        {
            "condition_id": f"0x{rng.randrange(POSITIONS):064x}",
            "market_name": rng.choice(MARKETS),
            "side": "YES",
            "entry_price": Decimal(rng.randrange(1, 99)) / 100,
            "amount": Decimal(rng.randrange(100, 10_000)) / 100,
            "trailing_stop_price": Decimal(rng.randrange(1, 99)) / 100,
            "opened_at": BEGAN,
        }
        for _ in range(count)
    ]


def hand_position(fields: dict[str, Any]) -> tuple[object, ...]:
    """Return what a user would hand to the driver for a position."""
    return (
        fields["condition_id"], fields["market_name"], fields["side"], float(fields["entry_price"]),
        float(fields["amount"]), float(fields["trailing_stop_price"]), 1, fields["opened_at"].timestamp(),
    )  # fmt: skip


async def hand_connection(path: Path, schema: str) -> aiosqlite.Connection:
    """Open the database of a user who writes the code by hand, with the gateway's own settings."""
    connection = await aiosqlite.connect(path)
    for pragma in PRAGMAS:
        await connection.execute(pragma)
    await connection.executescript(schema)
    await connection.commit()
    return connection


async def spread(items: Sequence[T], tasks: int, call: Callable[[T], Awaitable[object]]) -> float:
    """Run a call over all items from several tasks and return operations per second."""

    async def worker(own: Sequence[T]) -> None:
        for item in own:
            await call(item)

    parts = [items[at::tasks] for at in range(tasks)]
    gc.collect()
    began = time.perf_counter()
    await asyncio.gather(*(worker(part) for part in parts))
    return len(items) / (time.perf_counter() - began)


@dataclass
class Contest:
    """Figures of several contenders, taken in turns so that a slow minute hits all of them."""

    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, figure: float) -> None:
        """Take down one round of one contender."""
        self.figures.setdefault(name, []).append(figure)

    def median(self, name: str) -> float:
        """Return a contender's median."""
        return statistics.median(self.figures[name])

    def ratio(self, name: str, against: str) -> float:
        """Return the median of the rounds' ratios: each round is compared with itself."""
        pairs = zip(self.figures[name], self.figures[against], strict=True)
        return statistics.median(left / right for left, right in pairs)


def machine() -> str:
    """Return what the figures were taken on."""
    return (
        f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def trades(count: int) -> list[Trade]:
    """Return trades as record objects."""
    return [Trade.model_validate(fields) for fields in trade_fields(count)]


def positions(count: int) -> list[Position]:
    """Return positions as record objects."""
    return [Position.model_validate(fields) for fields in position_fields(count)]


def announce(text: str) -> None:
    """Say on stderr how far the run is."""
    print(text, file=sys.stderr, flush=True)
