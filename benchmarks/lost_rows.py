"""What a shared connection without a lock loses: acknowledged rows, as soon as another task rolls back.

python -m benchmarks.lost_rows
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
from pathlib import Path

from benchmarks import rounds
from gateway import Gateway, GatewayError

TASKS = 64
CALLS = 100
FAILING = 100
"""One call in this many fails half way and rolls back, as a bot's own check would make it."""


async def by_hand(path: Path, lock: asyncio.Lock | None) -> tuple[int, int]:
    """Return how many rows were acknowledged, and how many of them are missing."""
    connection = await rounds.hand_connection(path, rounds.HAND_TRADES)
    rows = [rounds.hand_row(fields) for fields in rounds.trade_fields(TASKS * CALLS)]
    acknowledged: set[object] = set()

    async def insert(at: int) -> None:
        row = list(rows[at])
        row[8] = f"order-{at}"
        await connection.execute(rounds.HAND_INSERT, row)
        if at % FAILING == FAILING - 1:
            await connection.rollback()
            return
        await connection.commit()
        acknowledged.add(row[8])

    async def worker(number: int) -> None:
        rng = random.Random(number)
        for at in range(number, TASKS * CALLS, TASKS):
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)  # bots do something between two trades, so their calls are not in step
            if lock is None:
                await insert(at)
            else:
                async with lock:
                    await insert(at)

    await asyncio.gather(*(worker(number) for number in range(TASKS)))
    await connection.close()
    with sqlite3.connect(path) as check:
        stored = {order for (order,) in check.execute("SELECT order_id FROM trades")}
    check.close()
    return len(acknowledged), len(acknowledged - stored)


async def through_the_gateway(directory: Path) -> tuple[int, int]:
    """Return the same for the gateway, where one call in a hundred is refused."""
    fields = rounds.trade_fields(TASKS * CALLS)
    acknowledged: set[str | None] = set()
    async with Gateway("sqlite", data_dir=directory, environ={}, env_file=None) as gateway:

        async def worker(number: int) -> None:
            for at in range(number, TASKS * CALLS, TASKS):
                bad = {"price": float("nan")} if at % FAILING == FAILING - 1 else {}
                try:
                    ack = await gateway.put("trades", **{**fields[at], **bad})
                except GatewayError:
                    continue
                acknowledged.add(ack.record_id)

        await asyncio.gather(*(worker(number) for number in range(TASKS)))
        stored = {trade.record_id for trade in await gateway.get_trades(limit=None)}
    return len(acknowledged), len(acknowledged - stored)


async def measure(directory: Path) -> str:
    """Return the figures as a Markdown table."""
    shared = await by_hand(directory / "shared.db", None)
    locked = await by_hand(directory / "locked.db", asyncio.Lock())
    gateway = await through_the_gateway(directory / "gateway")
    lines = ["| how | acknowledged | of these missing |", "|---|---|---|"]
    for how, (acknowledged, missing) in (
        ("one aiosqlite connection for all tasks, no lock", shared),
        ("the same with a lock around each call", locked),
        ("the gateway", gateway),
    ):
        lines.append(f"| {how} | {acknowledged:,} | **{missing:,}** |")
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        print(f"{TASKS} tasks, one call in {FAILING} fails and rolls back\n")
        print(asyncio.run(measure(Path(name))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
