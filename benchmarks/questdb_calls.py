"""Calls on QuestDB: the gateway against what a user would write by hand, and against CSV files; ratios within one run.

By hand there is no tenant, version, digest or guard, and an answer does not wait until what was written can be read.

python -m benchmarks.questdb_calls [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import os
import random
import statistics
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped] # it brings no types
import pyarrow.parquet as pq  # type: ignore[import-untyped] # the same
from questdb import Sender

from benchmarks import rounds
from gateway import Gateway, IndicatorValue
from gateway.records import INDICATORS
from tests.servers import QuestDbServer

SIZES = {1: 1_000, 64: 24_000}
SAVED, LOADED, SMALL = 10_000, 100_000, 1_000
POOL = 8
NAMES = (
    "timestamp",
    "market_name",
    "condition_id",
    "action",
    "side",
    "price",
    "amount",
    "order_id",
    "status",
    "reason",
)
HAND_TRADES = """CREATE TABLE hand_trades (timestamp TIMESTAMP, market_name SYMBOL, condition_id VARCHAR, action SYMBOL,
    side SYMBOL, price DOUBLE, amount DOUBLE, order_id VARCHAR, status SYMBOL, reason VARCHAR)
    TIMESTAMP(timestamp) PARTITION BY DAY WAL"""
MARKS = ", ".join(f"${at + 1}" for at in range(len(NAMES)))
HAND_INSERT = f"INSERT INTO hand_trades ({', '.join(NAMES)}) VALUES ({MARKS})"
FIELDS = ", ".join(f'"{name}"' for name in INDICATORS.field_names)


@dataclass
class Place:
    """One server, and what the rounds share.

    Attributes:
        server: The server.
        base: A directory for files.
        number: Counts series, so that each is new.
        values: Values to save, as single values, and as a table.
    """

    server: QuestDbServer
    base: Path
    number: int = 0
    values: list[IndicatorValue] = field(default_factory=list)
    table: Any = None

    def series(self) -> dict[str, Any]:
        """Return a series that has not been used yet."""
        self.number += 1
        return {"session_id": "bench", "symbol": "XRP_ETH", "indicator_id": f"general_RSI_{self.number}"}

    def export(self, query: str) -> bytes:
        """Return the answer to a query as a Parquet file."""
        address = f"{self.server.http_url}/exp?{urllib.parse.urlencode({'query': query, 'fmt': 'parquet'})}"
        with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310 - our own address
            found: bytes = answer.read()
            return found


def values_of(count: int) -> list[IndicatorValue]:
    """Return values of a series."""
    draw = random.Random(7)
    return [
        IndicatorValue(rounds.BEGAN + timedelta(seconds=at), draw.uniform(0, 100), draw.random(), None, "RSI")
        for at in range(count)
    ]


def table_of(values: Sequence[IndicatorValue]) -> Any:
    """Return values as an Arrow table."""
    names = ("timestamp", "value", "confidence", "indicator_type")
    return pa.table({name: [getattr(value, name) for value in values] for name in names})


@asynccontextmanager
async def gateway_on(place: Place) -> AsyncIterator[Gateway]:
    """Open a gateway as a bot would."""
    server = place.server
    url = f"questdb://admin:quest@{server.host}:{server.port}?pg_port={server.pg_port}"
    environ = {"STORAGE_QUESTDB_URL": url}
    async with Gateway("questdb", data_dir=place.base, environ=environ, env_file=None) as gateway:
        yield gateway


async def timed(call: Callable[[], Awaitable[Any]]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began


def settle(place: Place, *tables: str) -> None:
    """Let the server finish what it owes, so that every contender starts alike."""
    for table in tables:
        place.server.query(f"SELECT wait_wal_table('{table}')")


async def inserts(place: Place, contest: rounds.Contest, tasks: int) -> None:
    """`insert_trade`, acknowledged, against INSERT over the PostgreSQL protocol."""
    fields = rounds.trade_fields(SIZES[tasks])
    few = fields if tasks == 1 else fields[: len(fields) // 4]
    place.server.query("TRUNCATE TABLE hand_trades")
    rows = [
        (item["timestamp"].replace(tzinfo=None), *(_plain(item[name]) for name in NAMES[1:])) for item in few
    ]
    async with asyncpg.create_pool(place.server.pg_url, min_size=POOL, max_size=POOL) as pool:
        contest.add(
            f"insert, {tasks}, by hand",
            await rounds.spread(rows, tasks, lambda row: pool.execute(HAND_INSERT, *row)),
        )
    settle(place, "hand_trades")
    async with gateway_on(place) as gateway:
        contest.add(
            f"insert, {tasks}, gateway",
            await rounds.spread(fields, tasks, lambda item: gateway.insert_trade(**item)),
        )
    settle(place, "trades")


def _plain(value: object) -> object:
    return value if isinstance(value, str | None) else float(str(value))


async def saved(
    gateway: Gateway, contest: rounds.Contest, name: str, given: Any, series: dict[str, Any]
) -> None:
    """Save values in one call."""
    contest.add(name, SAVED / await timed(lambda: gateway.save_indicators(given, **series)))


async def saves(place: Place, contest: rounds.Contest) -> None:
    """10,000 indicator values in one call, against the raw client and against CSV."""
    values, table = place.values[:SAVED], place.table.slice(0, SAVED)
    async with gateway_on(place) as gateway:
        await gateway.save_indicators(values[:10], **place.series())
        series = place.series()
        await saved(gateway, contest, "save, values", values, series)
        series = place.series()
        await saved(gateway, contest, "save, frame", table, series)
        small = place.series()
        taken = []
        for at in range(0, SAVED, SMALL):
            part = values[at : at + SMALL]
            began = time.perf_counter()
            await gateway.save_indicators(part, **small)
            taken.append(time.perf_counter() - began)
        contest.add("save, small", statistics.median(taken))
    frame = _same_columns(place, f"indicators WHERE indicator_id = '{series['indicator_id']}'")
    contest.add("save, dataframe", SAVED / _dataframe(place, frame))
    contest.add("save, csv", SAVED / _write_csv(place.base / "values.csv", values))


def _same_columns(place: Place, source: str) -> pd.DataFrame:
    """Return what the gateway stored, every column of it, as the raw client takes it."""
    settle(place, "indicators")
    found: pd.DataFrame = pq.read_table(io.BytesIO(place.export(f"SELECT * FROM {source}"))).to_pandas()
    assert len(found) == SAVED
    return found.dropna(axis="columns", how="all")


def _dataframe(place: Place, frame: pd.DataFrame) -> float:
    """Write a frame with the raw client, as one transaction, and return the seconds until it was acknowledged."""
    kinds = {str(name): str(kind) for name, kind, *_ in place.server.query("SHOW COLUMNS FROM indicators")}
    place.server.query("DROP TABLE IF EXISTS hand_indicators")
    place.server.query("CREATE TABLE hand_indicators (LIKE indicators)")
    symbols = [name for name in frame.columns if kinds[name] == "SYMBOL"]
    with Sender.from_conf(
        f"{place.server.line_address}username=admin;password=quest;auto_flush=off;"
    ) as sender:
        began = time.perf_counter()
        with sender.transaction("hand_indicators") as transaction:
            transaction.dataframe(frame, symbols=symbols, at="timestamp")
        return time.perf_counter() - began


def _write_csv(path: Path, values: Sequence[IndicatorValue]) -> float:
    """Write values as the file that is to be replaced, and return the seconds until they are on the disk."""
    began = time.perf_counter()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["timestamp", "value", "confidence", "metadata"])
        writer.writeheader()
        for value in values:
            writer.writerow(
                {
                    "timestamp": value.timestamp.timestamp(),
                    "value": value.value,
                    "confidence": value.confidence,
                }
            )
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began


async def loads(place: Place, contest: rounds.Contest) -> None:
    """100,000 values as columns and as records, against a file and against a bare fetch."""
    series = place.series()
    key = tuple(series.values())
    async with gateway_on(place) as gateway:
        await gateway.save_indicators(place.table, **series)
        assert len(await gateway.load_indicator_columns(*key)) == LOADED
        contest.add("load, columns", LOADED / await timed(lambda: gateway.load_indicator_columns(*key)))
        contest.add("load, records", LOADED / await timed(lambda: gateway.load_indicators(*key)))
    connection = await asyncpg.connect(place.server.pg_url)
    query = f"SELECT {FIELDS} FROM indicators WHERE session_id = $1 AND symbol = $2 AND indicator_id = $3"
    try:
        await connection.fetch(query, *key)
        contest.add("load, fetch", LOADED / await timed(lambda: connection.fetch(query, *key)))
    finally:
        await connection.close()
    path = place.base / "many.csv"
    _write_csv(path, place.values)
    began = time.perf_counter()
    with path.open(newline="") as file:
        found = [(float(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
    contest.add("load, csv", len(found) / (time.perf_counter() - began))


async def one_round(place: Place, contest: rounds.Contest) -> None:
    """Let every contender run once."""
    await inserts(place, contest, 1)
    await inserts(place, contest, 64)
    await saves(place, contest)
    await loads(place, contest)


def measure(count: int, contest: rounds.Contest) -> str:
    """Run the rounds on a server of their own, and return what the server was."""
    with QuestDbServer.default(quick=False) as server, tempfile.TemporaryDirectory() as name:
        server.query(HAND_TRADES)
        values = values_of(LOADED)
        place = Place(server, Path(name), values=values, table=table_of(values))
        for at in range(count):
            rounds.announce(f"QuestDB, round {at + 1} of {count}")
            asyncio.run(one_round(place, contest))
        return str(server.origin)


RAW = "raw client's `dataframe`, same columns"
POOLED = "asyncpg `pool.execute(INSERT …)`, 8 connections, 10 columns"
ROWS: tuple[tuple[str, str, str, str, float | None], ...] = (
    ("`insert_trade`, 1 task", "insert, 1, gateway", "insert, 1, by hand", POOLED, 1.1),
    ("`insert_trade`, 64 tasks", "insert, 64, gateway", "insert, 64, by hand", POOLED, 10.0),
    ("`save_indicators`, 10,000 in a frame", "save, frame", "save, dataframe", RAW, 0.5),
    ("`save_indicators`, 10,000 values", "save, values", "save, dataframe", RAW, None),
    ("`save_indicators`, 10,000 in a frame", "save, frame", "save, csv", "`csv.DictWriter` + fsync", None),
    ("`load_indicator_columns`, 100,000", "load, columns", "load, csv", "`csv.DictReader`", 4.0),
    ("`load_indicators`, 100,000", "load, records", "load, csv", "`csv.DictReader`", None),
    ("`load_indicators`, 100,000", "load, records", "load, fetch", "asyncpg `fetch` of the same fields", 0.5),
)  # fmt: skip
LIMITS = (
    ("1,000 values acknowledged", "save, small", 1.0, 0.010),
    ("100,000 values as columns", "load, columns", LOADED, 0.050),
)
"""What is to be done within some seconds: its name, its figure, how many of them the figure counts, the limit."""


def taken(contest: rounds.Contest, figure: str, count: float) -> float:
    """Return seconds, of a figure that is seconds or rows a second."""
    return contest.median(figure) if count == 1.0 else count / contest.median(figure)


def table(contest: rounds.Contest) -> str:
    """Return the figures as Markdown."""
    lines = ["| call | gateway, rows/s | against | rows/s | ratio | goal |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {call} | {contest.median(ours):,.0f} | {how} | {contest.median(theirs):,.0f} "
        f"| **{contest.ratio(ours, theirs):.2f}x** | {'-' if goal is None else f'{goal:g}x'} |"
        for call, ours, theirs, how, goal in ROWS
    ]
    lines += ["", "| what | milliseconds | limit |", "|---|---|---|"]
    lines += [
        f"| {what} | **{taken(contest, figure, count) * 1000:.1f}** | {limit * 1000:.0f} |"
        for what, figure, count, limit in LIMITS
    ]
    return "\n".join(lines)


def answer(contest: rounds.Contest) -> str:
    """Return what became of the claim that this is five times as fast as CSV."""
    saving, loading = (
        contest.ratio(ours, theirs)
        for ours, theirs in (("save, frame", "save, csv"), ("load, columns", "load, csv"))
    )
    verdict = "holds" if min(saving, loading) >= 5 else "does not hold"
    return (
        f'The claim "5x faster than CSV" {verdict}: saving 10,000 values is {saving:.1f}x of `csv.DictWriter` with '
        f"fsync, loading 100,000 as columns is {loading:.1f}x of `csv.DictReader`. What is gained besides: a save is "
        "whole or absent, a repetition changes nothing, many processes can write one series, a part of it can be asked "
        "for, and every value carries a digest that proves it."
    )


def goals_missed(contest: rounds.Contest) -> list[str]:
    """Return the calls whose goal was missed."""
    slow = [
        call
        for call, ours, theirs, _, goal in ROWS
        if goal is not None and contest.ratio(ours, theirs) < goal
    ]
    return slow + [what for what, figure, count, limit in LIMITS if taken(contest, figure, count) > limit]


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
    print(f"\n{answer(contest)}")
    if options.json:
        options.json.write_text(json.dumps(contest.figures, indent=1))
    return 1 if goals_missed(contest) else 0


if __name__ == "__main__":
    raise SystemExit(main())
