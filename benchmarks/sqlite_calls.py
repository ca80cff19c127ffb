"""Calls on SQLite: the gateway against what a user would write by hand, as ratios within one run.

python -m benchmarks.sqlite_calls [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiosqlite

from benchmarks import rounds
from gateway import Gateway

SIZES = {1: 3_000, 64: 16_000}


Build = Callable[[Any], tuple[object, ...]]


async def by_hand(
    path: Path,
    schema: str,
    statement: str,
    items: Sequence[Any],
    tasks: int,
    build: Build | None,
    *,
    locked: bool,
) -> float:
    """Return operations per second of execute + commit on one aiosqlite connection.

    Args:
        path: Where the database is made.
        schema: Its tables and indexes.
        statement: The insert.
        items: What each call is given.
        tasks: How many tasks share the connection.
        build: Makes the driver's row of an item, within the call; None for items that are rows already.
        locked: Whether a lock is held around both, which is the correct form for more than one task.
    """
    connection = await rounds.hand_connection(path, schema)
    lock = asyncio.Lock()

    async def insert(item: Any) -> None:
        row = item if build is None else build(item)
        if not locked:
            await connection.execute(statement, row)
            await connection.commit()
            return
        async with lock:
            await connection.execute(statement, row)
            await connection.commit()

    try:
        return await rounds.spread(items, tasks, insert)
    finally:
        await connection.close()


async def through_gateway(directory: Path, call: str, items: Sequence[Any], tasks: int) -> float:
    """Return operations per second of a call of the gateway, given records or keyword arguments."""
    async with Gateway("sqlite", data_dir=directory, environ={}, env_file=None) as gateway:
        method = getattr(gateway, call)

        async def keywords(item: dict[str, Any]) -> None:
            await method(**item)

        return await rounds.spread(items, tasks, keywords if isinstance(items[0], dict) else method)


async def reads(directory: Path, contest: rounds.Contest, count: int = 3_000) -> None:
    """Positions by key."""
    saves = rounds.position_fields(2_000)
    keys = [str(item["condition_id"]) for item in rounds.position_fields(count, seed=11)]
    connection = await rounds.hand_connection(directory / "hand.db", rounds.HAND_POSITIONS)
    await connection.executemany(rounds.HAND_SAVE, [rounds.hand_position(row) for row in saves])
    await connection.commit()
    connection.row_factory = aiosqlite.Row

    async def by_hand(key: str) -> None:
        cursor = await connection.execute("SELECT * FROM positions WHERE condition_id = ?", (key,))
        found = await cursor.fetchall()
        await cursor.close()
        [dict(row) for row in found]

    try:
        async with Gateway("sqlite", data_dir=directory, environ={}, env_file=None) as gateway:
            await gateway.put_many(rounds.positions(2_000))
            contest.add("read, 1 task, by hand", await rounds.spread(keys, 1, by_hand))
            contest.add("read, 1 task, gateway", await rounds.spread(keys, 1, gateway.load_position))
            contest.add("read, 64 tasks, by hand", await rounds.spread(keys, 64, by_hand))
            contest.add("read, 64 tasks, gateway", await rounds.spread(keys, 64, gateway.load_position))
    finally:
        await connection.close()


async def bulk(directory: Path, contest: rounds.Contest, count: int = 10_000) -> None:
    """put_many against one raw executemany transaction into the same table, indexes and columns."""
    records = rounds.trades(count)
    async with Gateway("sqlite", data_dir=directory / "many", environ={}, env_file=None) as gateway:
        began = time.perf_counter()
        await gateway.put_many(records)
        contest.add("put_many, gateway", count / (time.perf_counter() - began))
    raw(directory, contest, count)


def raw(directory: Path, contest: rounds.Contest, count: int) -> None:
    """Copy the rows just written into an empty table of the same making."""
    with sqlite3.connect(directory / "many" / "gateway.db") as source:
        schema = [
            sql
            for (sql,) in source.execute(
                "SELECT sql FROM sqlite_master WHERE tbl_name='trades' AND sql IS NOT NULL"
            )
        ]
        rows = source.execute("SELECT * FROM trades").fetchall()
    source.close()
    target = sqlite3.connect(directory / "raw.db", isolation_level=None)
    for statement in (*rounds.PRAGMAS, *schema):
        target.execute(statement)
    began = time.perf_counter()
    target.execute("BEGIN IMMEDIATE")
    target.executemany(f"INSERT INTO trades VALUES ({','.join('?' * len(rows[0]))})", rows)
    target.execute("COMMIT")
    contest.add("put_many, raw executemany", count / (time.perf_counter() - began))
    target.close()


async def inserts(base: Path, contest: rounds.Contest, tasks: int, size: int) -> None:
    """Let the contenders for `insert_trade` run once."""
    fields, records = rounds.trade_fields(size), rounds.trades(size)
    rows = [rounds.hand_row(item) for item in fields]
    schema, statement, build = rounds.HAND_TRADES, rounds.HAND_INSERT, rounds.hand_row
    few = size if tasks == 1 else size // 4
    contest.add(
        f"insert, {tasks}, gateway", await through_gateway(base / f"g{tasks}", "insert_trade", fields, tasks)
    )
    contest.add(
        f"insert, {tasks}, shared",
        await by_hand(base / f"s{tasks}.db", schema, statement, fields, tasks, build, locked=False),
    )
    contest.add(
        f"insert, {tasks}, gateway, records",
        await through_gateway(base / f"gr{tasks}", "insert_trade", records, tasks),
    )
    contest.add(
        f"insert, {tasks}, shared, rows",
        await by_hand(base / f"sr{tasks}.db", schema, statement, rows, tasks, None, locked=False),
    )
    contest.add(
        f"insert, {tasks}, locked",
        await by_hand(base / f"l{tasks}.db", schema, statement, fields[:few], tasks, build, locked=True),
    )


async def saves(base: Path, contest: rounds.Contest, tasks: int = 64, size: int = 16_000) -> None:
    """Let the contenders for `save_position` run once."""
    fields = rounds.position_fields(size)
    contest.add(
        f"save, {tasks}, gateway", await through_gateway(base / "saves", "save_position", fields, tasks)
    )
    schema, statement = rounds.HAND_POSITIONS, rounds.HAND_SAVE
    few = fields[: size // 4]
    contest.add(
        f"save, {tasks}, locked",
        await by_hand(base / "saves.db", schema, statement, few, tasks, rounds.hand_position, locked=True),
    )


async def one_round(contest: rounds.Contest) -> None:
    """Let every contender run once, in a directory of its own."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        contest.add("hop", await hop(base / "hop.db"))
        for tasks, size in SIZES.items():
            await inserts(base, contest, tasks, size)
        await saves(base, contest)
        for folder, measure in (("reads", reads), ("bulk", bulk)):
            (base / folder).mkdir()
            await measure(base / folder, contest)


async def hop(path: Path, count: int = 3_000) -> float:
    """Return how many microseconds aiosqlite needs to the thread and back, doing nothing there."""
    async with aiosqlite.connect(path) as connection:
        return 1e6 / await rounds.spread(range(count), 1, lambda _: connection.commit())


SHARED = "aiosqlite execute + commit"
UNSAFE = "the same on a shared connection, no lock (loses rows)"
LOCKED = "the same with a lock around both (correct)"
UPSERT = "upsert + commit with a lock (correct)"
FETCH = "aiosqlite execute + fetchall"
BULK = "one sqlite3 `executemany`, same table"
RECORDS = "`insert_trade` of records"
ROWS = (
    ("`insert_trade`, 1 task", "insert, 1, gateway", "insert, 1, shared", SHARED, 1.3),
    (f"{RECORDS}, 1 task", "insert, 1, gateway, records", "insert, 1, shared, rows", f"{SHARED} of rows", None),
    ("`insert_trade`, 64 tasks", "insert, 64, gateway", "insert, 64, shared", UNSAFE, 1.7),
    (f"{RECORDS}, 64 tasks", "insert, 64, gateway, records", "insert, 64, shared, rows", f"{UNSAFE}, of rows", None),
    ("`insert_trade`, 64 tasks", "insert, 64, gateway", "insert, 64, locked", LOCKED, 9.0),
    ("`save_position`, 64 tasks", "save, 64, gateway", "save, 64, locked", UPSERT, 12.0),
    ("`load_position`, 1 task", "read, 1 task, gateway", "read, 1 task, by hand", FETCH, 2.0),
    ("`load_position`, 64 tasks", "read, 64 tasks, gateway", "read, 64 tasks, by hand", FETCH, None),
    ("`put_many`, 10,000 trades", "put_many, gateway", "put_many, raw executemany", BULK, 0.45),
)  # fmt: skip


Rows = Sequence[tuple[str, str, str, str, float | None]]
"""Rows of a table: the call, our figure, theirs, how theirs is made, and the goal."""


def ratio_table(contest: rounds.Contest, rows: Rows) -> str:
    """Return figures as a Markdown table."""
    lines = [
        "| call | gateway, ops/s | by hand | by hand, ops/s | ratio | goal |",
        "|---|---|---|---|---|---|",
    ]
    for call, ours, theirs, how, goal in rows:
        goal_text = f"{goal:g}x" if goal is not None else "-"
        lines.append(
            f"| {call} | {contest.median(ours):,.0f} | {how} | {contest.median(theirs):,.0f} "
            f"| **{contest.ratio(ours, theirs):.2f}x** | {goal_text} |"
        )
    return "\n".join(lines)


def goals_missed(contest: rounds.Contest, rows: Rows) -> list[str]:
    """Return the calls whose goal was missed."""
    return [
        call
        for call, ours, theirs, _, goal in rows
        if goal is not None and contest.ratio(ours, theirs) < goal
    ]


def table(contest: rounds.Contest) -> str:
    """Return the figures as a Markdown table."""
    return ratio_table(contest, ROWS)


def main() -> int:
    """Run the rounds and print the table; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    contest = rounds.Contest()
    for at in range(options.rounds):
        rounds.announce(f"round {at + 1} of {options.rounds}")
        asyncio.run(one_round(contest))
    print(f"{rounds.machine()}; medians of {options.rounds} rounds\n")
    print(table(contest))
    if options.json:
        options.json.write_text(json.dumps(contest.figures, indent=1))
    return 1 if goals_missed(contest, ROWS) else 0


if __name__ == "__main__":
    raise SystemExit(main())
