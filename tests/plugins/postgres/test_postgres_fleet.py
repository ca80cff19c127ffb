"""Several processes write the same rows of one database: no update is lost, and no deadlock reaches a caller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from gateway import Gateway
from gateway.records import POSITIONS
from tests.plugins.postgres.crowd import DAY, PROFIT
from tests.prepared import environ_of
from tests.servers import Database, PgBouncer

pytestmark = pytest.mark.anyio
PROCESSES: Final = 4
TASKS: Final = 6
CALLS: Final = 12

BOT: Final = f"""
import asyncio, json, os, random, sys
from datetime import datetime, UTC
from decimal import Decimal
from gateway import Gateway, Position
from gateway.records import Candle

NOW = datetime(2026, 3, 12, 11, tzinfo=UTC)
NAME = sys.argv[1]
chance = random.Random(NAME)

async def main():
    async with Gateway("postgres", data_dir=sys.argv[2], env_file=None) as gateway:
        print("ready", flush=True)
        sys.stdin.readline()
        async def work(task):
            for number in range({CALLS}):
                market = f"m{{chance.randrange(8)}}"
                ack = await gateway.save_position(
                    condition_id=market, side="YES", entry_price=1, opened_at=NOW, amount=number, market_name=NAME)
                print(json.dumps(["saved", market, ack.version]), flush=True)
                await gateway.update_daily_stats({DAY!r}, pnl_delta=Decimal({str(PROFIT)!r}), trade_count_delta=1)
                print(json.dumps(["counted", "", 0]), flush=True)
                if number % 3 == 0:
                    await gateway.close_position(f"m{{chance.randrange(8)}}", "reason", pnl=1)
                if number % 4 == 0:
                    # The same keys in another order in each process, over several kinds: what locks would wait for.
                    markets = chance.sample(range(8), 8)
                    stamped = [
                        Position(condition_id=f"m{{at}}", side="NO", entry_price=1, opened_at=NOW) for at in markets
                    ]
                    candles = [
                        Candle(symbol=f"s{{at}}", interval="1m", timestamp=NOW, open=1, high=1, low=1, close=at)
                        for at in markets
                    ]
                    await gateway.put_many([*stamped, *candles] if chance.random() < 0.5 else [*candles, *stamped])
                if number % 5 == 0:
                    await gateway.delete("positions", f"m{{chance.randrange(8)}}")
                # One id and several times: the way into a log that has to look first.
                await gateway.record_event(
                    record_id=f"e{{chance.randrange(5)}}", session_id="s", event_type="x",
                    timestamp=NOW.replace(month=1 + chance.randrange(12)), data={{"from": NAME}})
        await asyncio.gather(*(work(task) for task in range({TASKS})))
        print(json.dumps(["done", gateway.counters.snapshot(), 0]), flush=True)

asyncio.run(main())
"""


@contextmanager
def _fleet(url: str, directory: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Start bots that begin at the same moment; they are gone at the end, whatever happens."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STORAGE_")}
    bots = [
        subprocess.Popen(
            [sys.executable, "-c", BOT, f"bot{number}", str(directory / str(number))],
            env=environment | environ_of(url),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        for bot in bots:
            assert bot.stdout is not None
            assert bot.stdout.readline() == "ready\n", bot.communicate(timeout=20)[1]
        yield bots
    finally:
        for bot in bots:
            bot.kill()
            bot.communicate()


def _live(url: str, directory: Path) -> list[list[Any]]:
    """Let a fleet live, and return all that was acknowledged; a bot that raised anything fails the test."""
    said: list[list[Any]] = []
    with _fleet(url, directory) as bots:
        for bot in bots:
            assert bot.stdin is not None
            bot.stdin.write("go\n")
            bot.stdin.flush()
        for bot in bots:
            out, errors = bot.communicate(timeout=60)
            assert bot.returncode == 0, errors
            said += map(json.loads, out.splitlines())
    return said


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
async def test_a_fleet_loses_no_update_and_meets_no_deadlock(
    prepared_database: Database, pgbouncer: PgBouncer, tmp_path: Path, pooled: bool
) -> None:
    """Bots that save, close, delete and count the same keys at once all succeed, and every delta counts once."""
    url = prepared_database.app_url
    said = _live(pgbouncer.url_of(url) if pooled else url, tmp_path)
    counted = PROCESSES * TASKS * CALLS
    assert sum(what == "counted" for what, _, _ in said) == counted
    finished = [facts for what, facts, _ in said if what == "done"]
    assert len(finished) == PROCESSES
    assert all(facts["write_failures"] == 0 for facts in finished)
    newest: dict[str, int] = {}
    for what, market, version in said:
        if what == "saved":
            newest[market] = max(newest.get(market, 0), version)
    async with Gateway("postgres", data_dir=tmp_path, environ=environ_of(url), env_file=None) as gateway:
        totals = await gateway.get_or_create_daily_stats(DAY)
        assert totals.total_trades == counted
        assert totals.current_pnl == Decimal(counted) * PROFIT
        (store,) = gateway.engine.stores.values()
        keys = [(market,) for market in newest]
        rows = await store.get(POSITIONS, gateway.engine.stamper.tenant, keys)
        for (market,), row in zip(keys, rows, strict=True):
            # What was acknowledged last is there, or something newer that another bot made of it.
            assert row is not None
            assert row.intact
            assert row.version >= newest[market]
        events = [event async for event in gateway.stream("events")]
        assert len(events) == 5
    # The database itself saw none either: a deadlock that a retry covers up would still be one.
    ((deadlocks,),) = prepared_database.execute(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 0
