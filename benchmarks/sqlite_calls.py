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
from pathlib import Path
from typing import Any

import aiosqlite

from benchmarks import rounds
from gateway import Gateway

SIZES = {1: 3_000, 64: 16_000}


async def by_hand_shared(path: Path, rows: list[tuple[object, ...]], tasks: int) -> float:
    """Execute + commit on one shared connection: callers' transactions mix."""
    connection = await rounds.hand_connection(path, rounds.HAND_TRADES)

    async def insert(row: tuple[object, ...]) -> None:
        await connection.execute(rounds.HAND_INSERT, row)
        await connection.commit()

    try:
        return await rounds.spread(rows, tasks, insert)
    finally:
        await connection.close()


async def by_hand_locked(
    path: Path, schema: str, statement: str, rows: list[tuple[object, ...]], tasks: int
) -> float:
    """The same with a lock around both, the correct form."""
    connection = await rounds.hand_connection(path, schema)
    lock = asyncio.Lock()

    async def insert(row: tuple[object, ...]) -> None:
        async with lock:
            await connection.execute(statement, row)
            await connection.commit()

    try:
        return await rounds.spread(rows, tasks, insert)
    finally:
        await connection.close()


async def gateway_trades(directory: Path, fields: list[dict[str, Any]], tasks: int) -> float:
    """insert_trade with keyword arguments, as bots call it."""
    async with Gateway("sqlite", data_dir=directory, environ={}, env_file=None) as gateway:

        async def insert(row: dict[str, Any]) -> None:
            await gateway.insert_trade(**row)

        return await rounds.spread(fields, tasks, insert)


async def gateway_positions(directory: Path, fields: list[dict[str, Any]], tasks: int) -> float:
    """save_position with keyword arguments."""
    async with Gateway("sqlite", data_dir=directory, environ={}, env_file=None) as gateway:

        async def save(row: dict[str, Any]) -> None:
            await gateway.save_position(**row)

        return await rounds.spread(fields, tasks, save)


async def reads(directory: Path, contest: rounds.Contest, count: int = 3_000) -> None:
    """Positions by key, one task, out of two thousand."""
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


async def one_round(contest: rounds.Contest) -> None:
    """Let every contender run once, in a directory of its own."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for tasks, size in SIZES.items():
            fields = rounds.trade_fields(size)
            rows = [rounds.hand_row(item) for item in fields]
            contest.add(
                f"insert, {tasks}, shared", await by_hand_shared(base / f"shared{tasks}.db", rows, tasks)
            )
            contest.add(
                f"insert, {tasks}, gateway", await gateway_trades(base / f"gateway{tasks}", fields, tasks)
            )
            locked = rows[: size // (1 if tasks == 1 else 4)]
            contest.add(
                f"insert, {tasks}, locked",
                await by_hand_locked(
                    base / f"lock{tasks}.db", rounds.HAND_TRADES, rounds.HAND_INSERT, locked, tasks
                ),
            )
        saves = rounds.position_fields(SIZES[64])
        hand = [rounds.hand_position(item) for item in saves][: SIZES[64] // 4]
        contest.add("save, 64, gateway", await gateway_positions(base / "positions", saves, 64))
        contest.add(
            "save, 64, locked",
            await by_hand_locked(base / "positions.db", rounds.HAND_POSITIONS, rounds.HAND_SAVE, hand, 64),
        )
        (base / "reads").mkdir()
        await reads(base / "reads", contest)
        (base / "bulk").mkdir()
        await bulk(base / "bulk", contest)


ROWS = (
    ("`insert_trade`, 1 task", "insert, 1, gateway", "insert, 1, shared", "aiosqlite execute + commit", 1.3),
    (
        "`insert_trade`, 64 tasks",
        "insert, 64, gateway",
        "insert, 64, shared",
        "the same on a shared connection, no lock (loses rows)",
        1.7,
    ),
    (
        "`insert_trade`, 64 tasks",
        "insert, 64, gateway",
        "insert, 64, locked",
        "the same with a lock around both (correct)",
        9.0,
    ),
    (
        "`save_position`, 64 tasks",
        "save, 64, gateway",
        "save, 64, locked",
        "upsert + commit with a lock (correct)",
        12.0,
    ),
    (
        "`load_position`, 1 task",
        "read, 1 task, gateway",
        "read, 1 task, by hand",
        "aiosqlite execute + fetchall",
        2.0,
    ),
    (
        "`load_position`, 64 tasks",
        "read, 64 tasks, gateway",
        "read, 64 tasks, by hand",
        "aiosqlite execute + fetchall",
        None,
    ),
    (
        "`put_many`, 10,000 trades",
        "put_many, gateway",
        "put_many, raw executemany",
        "one sqlite3 `executemany` transaction, same table",
        0.45,
    ),
)


def table(contest: rounds.Contest) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| call | gateway, ops/s | by hand | by hand, ops/s | ratio | goal |",
        "|---|---|---|---|---|---|",
    ]
    for call, ours, theirs, how, goal in ROWS:
        goal_text = f"{goal:g}x" if goal is not None else "-"
        lines.append(
            f"| {call} | {contest.median(ours):,.0f} | {how} | {contest.median(theirs):,.0f} "
            f"| **{contest.ratio(ours, theirs):.2f}x** | {goal_text} |"
        )
    return "\n".join(lines)


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
    missed = [row for row in ROWS if row[4] is not None and contest.ratio(row[1], row[2]) < row[4]]
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
