"""kill -9 of a bot that writes to two stores: what it acknowledged is in both, and by itself."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway import Gateway
from gateway.migration.verify import verify_kind
from gateway.records import CLOSED_POSITIONS, DAILY_STATS, OPERATIONS, POSITIONS, TRADES
from tests.mirrors import drained

pytestmark = pytest.mark.anyio
ROUNDS = 4

BOT = """
import asyncio, json, sys
from datetime import datetime, UTC
from gateway import Gateway
async def main(backends, directory, life):
    async with Gateway(backends, data_dir=directory, env_file=None) as gateway:
        async def work(task):
            for at in range(100_000):
                name = f"{life}-{task}-{at}"
                ack = await gateway.insert_trade(record_id=name, market_name="M", action="buy", side="YES", price=1, amount=at)
                print(json.dumps(["trades", name]), flush=True)
                await gateway.save_position(condition_id=name, side="YES", entry_price=1, opened_at=datetime.now(UTC))
                print(json.dumps(["positions", name]), flush=True)
                if at % 3 == 0:
                    await gateway.close_position(name, "take-profit", pnl=1)
                    print(json.dumps(["closed", name]), flush=True)
                await gateway.update_daily_stats("2026-03-12", trade_count_delta=1, operation_id=name)
                print(json.dumps(["stats", name]), flush=True)
        await asyncio.gather(*(work(task) for task in range(4)))
asyncio.run(main(*sys.argv[1:]))
"""


def live_and_die(
    backends: str, directory: Path, life: int, lines: int, environ: Mapping[str, str]
) -> list[list[str]]:
    """Run a bot until it has acknowledged some writes, kill it with SIGKILL, and return what it acknowledged."""
    bot = subprocess.Popen(
        [sys.executable, "-c", BOT, backends, str(directory), str(life)],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("STORAGE_")},
            **environ,
        },
    )
    assert bot.stdout is not None
    acknowledged = [json.loads(bot.stdout.readline()) for _ in range(lines)]
    bot.kill()
    # What it managed to print before it died counts too; a line that was cut off does not.
    acknowledged += [
        json.loads(line) for line in bot.stdout.read().splitlines(keepends=True) if line.endswith("\n")
    ]
    bot.wait()
    bot.stdout.close()
    return acknowledged


# The others where there is time; all of them are killed at random in tests/crash.
SOME_PAIRS = [
    "json,sqlite",
    pytest.param("sqlite,json", marks=pytest.mark.soak),
    pytest.param("sqlite,postgres", marks=pytest.mark.soak),
    "postgres,sqlite",
]


@pytest.mark.parametrize("backends", SOME_PAIRS)
async def test_what_was_acknowledged_is_in_both_stores(
    backends: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Over several lives and deaths no acknowledged write is lost in either store, and no delta counted twice."""
    environ = request.getfixturevalue("environ") if "postgres" in backends else {}
    rng = random.Random(7)
    acknowledged: list[list[str]] = []
    for life in range(ROUNDS):
        acknowledged += live_and_die(backends, tmp_path, life, rng.randrange(20, 120), environ)
    async with Gateway(backends, data_dir=tmp_path, environ=environ, env_file=None) as gateway:
        tenant = gateway.engine.stamper.tenant
        names = {
            what: [name for kind, name in acknowledged if kind == what]
            for what in ("trades", "positions", "closed", "stats")
        }
        # A write that nobody heard back from may stand on the primary alone until its intent is replayed.
        await drained(gateway)
        old, new = gateway.engine.stores.values()
        for store in (old, new):
            for kind, what in ((TRADES, "trades"), (POSITIONS, "positions"), (OPERATIONS, "stats")):
                rows = await store.get(kind, tenant, [(name,) for name in names[what]])
                assert all(row is not None and row.intact for row in rows), (store, kind)
            closed = await store.get(POSITIONS, tenant, [(name,) for name in names["closed"]])
            assert not any(dict(row.record())["is_open"] for row in closed if row is not None)
        kinds = (TRADES, POSITIONS, CLOSED_POSITIONS, OPERATIONS, DAILY_STATS)
        for kind in kinds:
            found = await verify_kind(old, new, kind, tenant, deep=True)
            assert found.ok, found
        totals = await gateway.get_or_create_daily_stats("2026-03-12")
        applied = await gateway.query("operations", limit=10_000)
        assert totals.total_trades == len(applied) >= len(names["stats"])
