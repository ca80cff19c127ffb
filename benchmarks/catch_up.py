"""How fast a mirror catches up: changes that gathered while it was held back, against raw COPY of the same rows.

All changes are trades, written with `put_many` while the mirror is paused. Then it is resumed, and the gateway's own
relay does the rest, while a bot goes on writing at a steady pace.

python -m benchmarks.catch_up [--rows 1000000] [--to postgres sqlite] [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import itertools
import json
import pstats
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from benchmarks import rounds
from benchmarks.postgres_calls import DURABLE, clear, environment, upgrade
from gateway import Gateway
from gateway.mirror.facade import Mirrors
from gateway.mirror.state import paused, resumed
from gateway.records import TRADES, Trade
from tests.servers import Database, PostgresServer

PORTION: Final = 20_000
RAW: Final = 200_000
"""Rows that are copied by hand at most: all of them are held in memory for that."""
PACE: Final = 50.0
"""Calls per second of the bot that goes on."""
SECONDS: Final = 8.0
"""For how long the bot's calls are timed before the mirror is resumed."""


class Found(NamedTuple):
    """What one way came to.

    Attributes:
        rows: How many changes waited.
        gathered: Rows per second while they gathered.
        relayed: Rows per second while the mirror caught up.
        raw: Rows per second by hand.
        before: Seconds that 99 of 100 calls did not take longer than while nothing was relayed.
        during: The same while the mirror caught up.
        grown: Megabytes that the process grew by while the mirror caught up.
    """

    rows: int
    gathered: float
    relayed: float
    raw: float
    before: float
    during: float
    grown: float


def memory() -> float:
    """Return the megabytes that this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def portions(count: int) -> Iterator[list[Trade]]:
    """Yield trades, some at a time."""
    model = rounds.trades(PORTION)
    for at in range(0, count, PORTION):
        yield [one.model_copy(update={"record_id": None}) for one in model[: count - at]]


class Writer:
    """A bot that goes on writing at a steady pace, and takes down how long each call took."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._trades = itertools.cycle(rounds.trade_fields(1_000))
        self.taken: list[float] = []

    async def run(self) -> None:
        """Write until cancelled."""
        calls: set[asyncio.Task[None]] = set()
        began = time.perf_counter()
        for at, fields in enumerate(self._trades):
            await asyncio.sleep(max(0.0, began + at / PACE - time.perf_counter()))
            call = asyncio.create_task(self._call(fields))
            calls.add(call)
            call.add_done_callback(calls.discard)

    async def _call(self, fields: dict[str, Any]) -> None:
        began = time.perf_counter()
        await self._gateway.insert_trade(**fields)
        self.taken.append(time.perf_counter() - began)

    def p99(self) -> float:
        """Return what 99 of 100 calls since the last time did not take longer than, in seconds."""
        taken, self.taken = sorted(self.taken), []
        return taken[len(taken) * 99 // 100]


@asynccontextmanager
async def writing(writer: Writer) -> AsyncIterator[None]:
    """Let a bot write meanwhile."""
    task = asyncio.create_task(writer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def profiled(wanted: bool) -> Iterator[None]:
    """Say on stderr where the time of this thread went."""
    if not wanted:
        yield
        return
    profile = cProfile.Profile()
    profile.enable()
    yield
    profile.disable()
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(45)


async def relayed(
    gateway: Gateway, primary: str, mirror: str, rows: int, *, profile: bool
) -> tuple[float, float, float, float, float]:
    """Gather changes and let the mirror catch up; return rates, p99 before and during, and growth, as in `Found`."""
    mirrors: Any = gateway.engine.mirrors
    assert isinstance(mirrors, Mirrors)
    states, store = mirrors.homes[primary].states, gateway.engine.stores[primary]
    now = datetime.now(UTC)
    await states.change(mirror, partial(paused, by="benchmark", why="to gather changes", now=now))
    await mirrors.look()
    began = time.perf_counter()
    for portion in portions(rows):
        await gateway.put_many(portion)
    gathered = rows / (time.perf_counter() - began)
    rounds.announce(f"{primary} to {mirror}: {rows:,} changes gathered, {gathered:,.0f}/s")
    writer = Writer(gateway)
    gc.collect()
    async with writing(writer):
        await asyncio.sleep(SECONDS)
        before, size, most = writer.p99(), memory(), 0.0
        await states.change(mirror, resumed)
        began, worked = time.perf_counter(), time.process_time()
        with profiled(profile):
            await mirrors.look()
            tenant = gateway.engine.stamper.tenant
            while True:
                await asyncio.sleep(0.1)
                most = max(most, memory())
                left = await store.pending(mirror, tenant, 1)
                if not left or left[0].number > rows:  # what the bot writes meanwhile goes on
                    break
            took = time.perf_counter() - began
        during = writer.p99()
        share = (time.process_time() - worked) / took
        rounds.announce(f"{rows / took:,.0f}/s relayed, with {share:.2f} of a processor")
    return gathered, rows / took, before, during, max(0.0, most - size)


def gateway_of(backends: str, database: Database, directory: Path) -> Gateway:
    """Return a gateway whose journal takes all that is to gather, and what the bot goes on writing."""
    environ = environment(database.app_url)
    return Gateway(backends, data_dir=directory, environ=environ, env_file=None, journal_rows=10_000_000)


async def to_postgres(database: Database, directory: Path, rows: int, *, profile: bool) -> Found:
    """Let PostgreSQL catch up with a file; by hand it is COPY into the same table."""
    async with gateway_of("sqlite,postgres", database, directory) as gateway:
        gathered, rate, *rest = await relayed(gateway, "sqlite", "postgres", rows, profile=profile)
    return Found(rows, gathered, rate, await raw_copy(database, rows), *rest)


async def raw_copy(database: Database, rows: int) -> float:
    """Return rows per second of COPY, as a superuser, of rows as the driver gives and takes them."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        found = await connection.fetch(f"SELECT * FROM bots_core.trades LIMIT {min(rows, RAW)}")
        names, records = list(found[0].keys()), [tuple(row) for row in found]
        await clear(database, "bots_core.trades")
        began = time.perf_counter()
        await connection.copy_records_to_table(
            "trades", schema_name="bots_core", columns=names, records=records
        )
        return len(records) / (time.perf_counter() - began)
    finally:
        await connection.close()


async def to_sqlite(database: Database, directory: Path, rows: int, *, profile: bool) -> Found:
    """Let a file catch up with PostgreSQL; by hand it is `executemany` into the same table, in one transaction."""
    async with gateway_of("postgres,sqlite", database, directory) as gateway:
        gathered, rate, *rest = await relayed(gateway, "postgres", "sqlite", rows, profile=profile)
    path = directory / "gateway.db"
    return Found(rows, gathered, rate, await asyncio.to_thread(raw_inserts, path, rows), *rest)


def raw_inserts(path: Path, rows: int) -> float:
    """Return rows per second of the driver's own `executemany`, into the same table of the same file."""
    with sqlite3.connect(path) as connection:
        cursor = connection.execute(f'SELECT * FROM "{TRADES.name}" LIMIT {min(rows, RAW)}')
        names = [column[0] for column in cursor.description]
        found = cursor.fetchall()
        connection.execute(f'DELETE FROM "{TRADES.name}"')
        connection.commit()
        text = f'INSERT INTO "{TRADES.name}" ({", ".join(names)}) VALUES ({", ".join("?" for _ in names)})'
        began = time.perf_counter()
        connection.executemany(text, found)
        connection.commit()
        return len(found) / (time.perf_counter() - began)


WAYS: Final = {"postgres": to_postgres, "sqlite": to_sqlite}
HANDS: Final = {"postgres": "COPY into the same table", "sqlite": "`executemany` into the same table"}


def measure(rows: int, ways: list[str], *, profile: bool = False) -> dict[str, Found]:
    """Measure some ways, on a server of their own."""
    found: dict[str, Found] = {}
    with PostgresServer.wheel(settings=DURABLE) as server:
        for way in ways:
            database = server.database()
            upgrade(database)
            with tempfile.TemporaryDirectory() as name:
                found[way] = asyncio.run(WAYS[way](database, Path(name), rows, profile=profile))
            database.drop()
    return found


def table(found: dict[str, Found]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| mirror | changes | rows/s | by hand | rows/s | ratio | p99 of live writes before | meanwhile | memory |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for way, one in found.items():
        lines.append(
            f"| {way} | {one.rows:,} | {one.relayed:,.0f} | {HANDS[way]} | {one.raw:,.0f} | "
            f"{one.relayed / one.raw:.2f}x | {one.before * 1000:.1f} ms | {one.during * 1000:.1f} ms | "
            f"+{one.grown:.0f} MB |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--to", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument(
        "--profile", action="store_true", help="say where the time of the event loop's thread went"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.rows, options.to, profile=options.profile)
    print(f"{rounds.machine()}\n")
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps({way: one._asdict() for way, one in found.items()}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
