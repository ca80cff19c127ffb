"""Calls on PostgreSQL: the gateway against what a user would write by hand, as ratios within one run.

The gateway connects as a bot does: as a role that owns nothing and is held by row security. By hand there is neither
row security nor a version guard.

python -m benchmarks.postgres_calls [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks import rounds
from benchmarks.sqlite_calls import goals_missed, ratio_table
from gateway import Gateway
from tests.servers import Database, PgBouncer, PostgresServer

SIZES = {1: 1_500, 64: 16_000}
BULK = 100_000
POOL = 10
"""Connections of asyncpg's pool by default; the code by hand gets as many."""

DURABLE = {"fsync": "on", "full_page_writes": "on"}
"""Test servers forget at a power loss; here a commit costs what it costs."""

HAND_TRADES = """
CREATE TABLE hand_trades (
    id bigserial PRIMARY KEY, "timestamp" timestamptz NOT NULL, market_name text NOT NULL, condition_id text NOT NULL,
    action text NOT NULL, side text NOT NULL, price numeric(18,8) NOT NULL, amount numeric(18,8) NOT NULL,
    order_id text, status text, pnl numeric(18,8), pnl_pct numeric(18,8), reason text,
    dry_run boolean NOT NULL DEFAULT true, strategy text, created_at timestamptz DEFAULT now());
CREATE INDEX hand_trades_timestamp ON hand_trades ("timestamp");
CREATE INDEX hand_trades_market ON hand_trades (market_name);
CREATE INDEX hand_trades_condition ON hand_trades (condition_id);
"""
COLUMNS = (
    "timestamp", "market_name", "condition_id", "action", "side", "price", "amount", "order_id", "status", "pnl",
    "pnl_pct", "reason", "dry_run", "strategy",
)  # fmt: skip
HAND_INSERT = (
    f"INSERT INTO hand_trades ({', '.join(COLUMNS)}) "
    f"VALUES ({', '.join(f'${at}' for at in range(1, len(COLUMNS) + 1))})"
)
HAND_POSITIONS = """
CREATE TABLE hand_positions (
    condition_id text PRIMARY KEY, market_name text NOT NULL, side text NOT NULL, entry_price numeric(18,8) NOT NULL,
    amount numeric(18,8), trailing_stop_price numeric(18,8), is_open boolean NOT NULL DEFAULT true,
    opened_at timestamptz NOT NULL, closed_at timestamptz, close_reason text, updated_at timestamptz DEFAULT now());
CREATE INDEX hand_positions_open ON hand_positions (is_open) WHERE is_open;
"""
HAND_SAVE = """INSERT INTO hand_positions (condition_id, market_name, side, entry_price, amount, trailing_stop_price,
    opened_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (condition_id) DO UPDATE SET
    entry_price = excluded.entry_price, amount = excluded.amount, updated_at = now()"""


@dataclass(frozen=True)
class Place:
    """One round's databases: the gateway's, the one written to by hand, and how to reach them through a pooler."""

    gateway: Database
    hand: Database
    bouncer: PgBouncer
    base: Path


def trade_row(fields: dict[str, Any]) -> tuple[object, ...]:
    """Return what a user would hand to asyncpg for a trade."""
    return tuple(fields[name] for name in COLUMNS)


def environment(url: str) -> dict[str, str]:
    """Return the settings of a bot on PostgreSQL."""
    return {"STORAGE_POSTGRES_URL": url}


@asynccontextmanager
async def by_hand(url: str, *, pooled: bool = False) -> AsyncIterator[asyncpg.Pool]:
    """Open a user's pool, all of whose connections are there before the clock starts."""
    cache = 0 if pooled else 100  # 100 is asyncpg's own default
    async with asyncpg.create_pool(url, min_size=POOL, max_size=POOL, statement_cache_size=cache) as pool:
        yield pool


@asynccontextmanager
async def gateway_on(
    url: str, directory: Path, backends: str = "postgres", **more: Any
) -> AsyncIterator[Gateway]:
    """Open a gateway as a bot would."""
    async with Gateway(
        backends, data_dir=directory, environ=environment(url), env_file=None, **more
    ) as gateway:
        yield gateway


def upgrade(database: Database) -> None:
    """Make the gateway's schema, as the operator would."""
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("STORAGE_")},
        "STORAGE_BACKENDS": "postgres",
        "STORAGE_POSTGRES_URL": database.owner_url,
    }
    command = [sys.executable, "-m", "gateway.cli", "schema", "upgrade"]
    subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command


async def clear(database: Database, *tables: str) -> None:
    """Empty tables, and let the server finish what it owes, so that every contender starts alike."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        for table in tables:
            await connection.execute(f"TRUNCATE {table}")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def inserts(place: Place, contest: rounds.Contest, tasks: int, *, pooled: bool = False) -> None:
    """Let the contenders for `insert_trade` run once."""
    size = SIZES[tasks]
    fields = rounds.trade_fields(size)
    label = f"insert, {tasks}{', pooled' if pooled else ''}"
    hand, own = place.hand.superuser_url, place.gateway.app_url
    if pooled:
        hand, own = place.bouncer.url_of(hand), place.bouncer.url_of(own)
    await clear(place.hand, "hand_trades")
    async with by_hand(hand, pooled=pooled) as pool:

        async def insert(item: dict[str, Any]) -> None:
            await pool.execute(HAND_INSERT, *trade_row(item))

        few = fields if tasks == 1 else fields[: size // 4]
        contest.add(f"{label}, by hand", await rounds.spread(few, tasks, insert))
    await clear(place.gateway, "bots_core.trades")
    async with gateway_on(own, place.base / "g") as gateway:

        async def call(item: dict[str, Any]) -> None:
            await gateway.insert_trade(**item)

        contest.add(f"{label}, gateway", await rounds.spread(fields, tasks, call))


async def reads(place: Place, contest: rounds.Contest, count: int = 6_000) -> None:
    """Positions by key."""
    saves = rounds.position_fields(2_000)
    keys = [str(item["condition_id"]) for item in rounds.position_fields(count, seed=11)]
    columns = [
        "condition_id",
        "market_name",
        "side",
        "entry_price",
        "amount",
        "trailing_stop_price",
        "opened_at",
    ]
    async with by_hand(place.hand.superuser_url) as pool:
        for item in saves[:266]:
            await pool.execute(HAND_SAVE, *(item[name] for name in columns))

        async def fetch(key: str) -> None:
            row = await pool.fetchrow("SELECT * FROM hand_positions WHERE condition_id = $1", key)
            if row is not None:
                dict(row)

        for tasks in (1, 64):
            few = keys if tasks > 1 else keys[:1_500]
            contest.add(f"read, {tasks}, by hand", await rounds.spread(few, tasks, fetch))
    async with gateway_on(place.gateway.app_url, place.base / "g") as gateway:
        await gateway.put_many(rounds.positions(2_000))
        for tasks in (1, 64):
            few = keys if tasks > 1 else keys[:1_500]
            contest.add(f"read, {tasks}, gateway", await rounds.spread(few, tasks, gateway.load_position))


async def bulk(place: Place, contest: rounds.Contest) -> None:
    """put_many against COPY into the same table, and against the ORM."""
    records = rounds.trades(BULK)
    await clear(place.gateway, "bots_core.trades")
    async with gateway_on(place.gateway.app_url, place.base / "g") as gateway:
        began = time.perf_counter()
        await gateway.put_many(records)
        contest.add("put_many, gateway", BULK / (time.perf_counter() - began))
    connection = await asyncpg.connect(place.gateway.superuser_url)
    try:
        # As the driver gives them and takes them: nothing has to be converted on the way.
        found = await connection.fetch("SELECT * FROM bots_core.trades")
        names, rows = list(found[0].keys()), [tuple(row) for row in found]
        await clear(place.gateway, "bots_core.trades")
        began = time.perf_counter()
        await connection.copy_records_to_table("trades", schema_name="bots_core", columns=names, records=rows)
        contest.add("put_many, raw COPY", len(rows) / (time.perf_counter() - began))
    finally:
        await connection.close()
    await clear(place.hand, "hand_trades")
    contest.add("put_many, ORM", await asyncio.to_thread(orm_rate, place.hand.superuser_url))


def orm_rate(url: str, count: int = BULK // 5) -> float:
    """Return rows per second of SQLAlchemy's `add_all` and commit, the objects being made before."""
    import sqlalchemy as sa
    from sqlalchemy.orm import DeclarativeBase, Session

    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))

    class Base(DeclarativeBase):
        pass

    class HandTrade(Base):
        __table__ = sa.Table("hand_trades", Base.metadata, autoload_with=engine)

    objects = [HandTrade(**item) for item in rounds.trade_fields(count)]
    with Session(engine) as session:
        began = time.perf_counter()
        session.add_all(objects)
        session.commit()
        taken = time.perf_counter() - began
    engine.dispose()
    return count / taken


async def dual(place: Place, contest: rounds.Contest, tasks: int) -> None:
    """Both stores awaited, against one after the other by hand (the correct form, with a lock on SQLite)."""
    size = SIZES[tasks]
    fields = rounds.trade_fields(size)
    few = fields if tasks == 1 else fields[: size // 8]
    await clear(place.hand, "hand_trades")
    sqlite = await rounds.hand_connection(place.base / f"hand{tasks}.db", rounds.HAND_TRADES)
    lock = asyncio.Lock()
    try:
        async with by_hand(place.hand.superuser_url) as pool:

            async def both(item: dict[str, Any]) -> None:
                async with lock:
                    await sqlite.execute(rounds.HAND_INSERT, rounds.hand_row(item))
                    await sqlite.commit()
                await pool.execute(HAND_INSERT, *trade_row(item))

            contest.add(f"dual, {tasks}, by hand", await rounds.spread(few, tasks, both))
    finally:
        await sqlite.close()
    await clear(place.gateway, "bots_core.trades")
    directory = place.base / f"dual{tasks}"
    async with gateway_on(place.gateway.app_url, directory, "sqlite,postgres", mirror_mode="sync") as gateway:

        async def call(item: dict[str, Any]) -> None:
            await gateway.insert_trade(**item)

        contest.add(f"dual, {tasks}, gateway", await rounds.spread(fields, tasks, call))


async def one_round(place: Place, contest: rounds.Contest) -> None:
    """Let every contender run once."""
    await inserts(place, contest, 1)
    await inserts(place, contest, 64)
    await inserts(place, contest, 64, pooled=True)
    await reads(place, contest)
    await bulk(place, contest)
    await dual(place, contest, 1)
    await dual(place, contest, 64)


async def make_tables(database: Database) -> None:
    """Make what a user would have made by hand."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute(HAND_TRADES)
        await connection.execute(HAND_POSITIONS)
    finally:
        await connection.close()


def measure(count: int, contest: rounds.Contest) -> str:
    """Run the rounds on a server of their own, and return what the server was."""
    with (
        PostgresServer.wheel(settings=DURABLE) as server,
        PgBouncer(server, pool_size=POOL) as bouncer,
        tempfile.TemporaryDirectory() as name,
    ):
        for at in range(count):
            rounds.announce(f"PostgreSQL, round {at + 1} of {count}")
            one_measured_round(server, bouncer, Path(name) / str(at), contest)
        return str(server.origin)


def one_measured_round(
    server: PostgresServer, bouncer: PgBouncer, base: Path, contest: rounds.Contest
) -> None:
    """Give a round databases of its own, and take them away."""
    base.mkdir()
    own, hand = server.database(), server.database()
    try:
        upgrade(own)
        asyncio.run(make_tables(hand))
        asyncio.run(one_round(Place(own, hand, bouncer, base), contest))
    finally:
        own.drop()
        hand.drop()


POOLED = "asyncpg `pool.execute(INSERT …)`"
ROWS = (
    ("`insert_trade`, 1 task", "insert, 1, gateway", "insert, 1, by hand", POOLED, 1.25),
    ("`insert_trade`, 64 tasks", "insert, 64, gateway", "insert, 64, by hand", POOLED, 5.0),
    ("`insert_trade`, 64 tasks, PgBouncer", "insert, 64, pooled, gateway", "insert, 64, pooled, by hand",
     f"{POOLED}, no statement cache", 6.0),
    ("`load_position`, 1 task", "read, 1, gateway", "read, 1, by hand", "`pool.fetchrow`", None),
    ("`load_position`, 64 tasks", "read, 64, gateway", "read, 64, by hand", "`pool.fetchrow`", 5.0),
    (f"`put_many`, {BULK:,} trades", "put_many, gateway", "put_many, raw COPY", "COPY into the same table", 0.45),
    (f"`put_many`, {BULK:,} trades", "put_many, gateway", "put_many, ORM", "SQLAlchemy `add_all` + commit", 4.0),
    ("`insert_trade` into SQLite and PostgreSQL (`sync`), 1 task", "dual, 1, gateway", "dual, 1, by hand",
     "one after the other", 1.5),
    ("`insert_trade` into SQLite and PostgreSQL (`sync`), 64 tasks", "dual, 64, gateway", "dual, 64, by hand",
     "one after the other, SQLite with a lock", 8.0),
)  # fmt: skip


def table(contest: rounds.Contest) -> str:
    """Return the figures as a Markdown table."""
    return ratio_table(contest, ROWS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds and print the table; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    contest = rounds.Contest()
    server = measure(options.rounds, contest)
    print(f"{rounds.machine()}, {server}; medians of {options.rounds} rounds\n")
    print(table(contest))
    if options.json:
        options.json.write_text(json.dumps(contest.figures, indent=1))
    return 1 if goals_missed(contest, ROWS) else 0


if __name__ == "__main__":
    raise SystemExit(main())
