"""Several processes on one file, and processes that are killed."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from gateway.backend import WriteBatch
from gateway.records import TRADES, Row
from gateway_sqlite.backend import SqliteBackend

Open = Callable[..., Awaitable[SqliteBackend]]
Trades = Callable[[int], list[Row]]
Start = Callable[..., "subprocess.Popen[str]"]

WRITE = """
import asyncio, json, sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from gateway.backend import OpenContext, WriteBatch
from gateway.records import TRADES, Trade
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.stamp import Stamper
from gateway_sqlite.plugin import open_store
from gateway_sqlite.settings import SqliteSettings

folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
stamper = Stamper()

def trade():
    return stamper.stamp(TRADES, Trade(timestamp=datetime.now(UTC), market_name=name, action="buy", side="YES",
                                       price=Decimal("0.5"), amount=Decimal(1)))

async def go():
    context = OpenContext("sqlite", SqliteSettings(wal_autocheckpoint=50), BUILTIN_KINDS, folder)
    backend = await open_store(context)
    number = 0
    while number < count or count == 0:
        number += 1
        batch = [trade() for _ in range(1 + number % 20)]
        await backend.gateway_write(WriteBatch(batch))
        print(json.dumps([row.values[0] for row in batch]), flush=True)
    await backend.gateway_close()

asyncio.run(go())
"""


def _stored(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {key for (key,) in connection.execute("SELECT record_id FROM trades")}


def _keys(lines: list[str]) -> set[str]:
    # A line that was being printed when the process was killed has no end and says nothing.
    return {key for line in lines if line.endswith("\n") for key in json.loads(line)}


def test_processes_that_open_and_write_at_once_lose_nothing(tmp_path: Path, path: Path, start: Start) -> None:
    """Three processes create, open and hammer one new file: every acknowledged row is there, and no other."""
    children = [start(WRITE, tmp_path, f"m{number}", 40) for number in range(3)]
    acknowledged: set[str] = set()
    for child in children:
        out, errors = child.communicate(timeout=100)
        assert child.returncode == 0, errors
        keys = _keys(out.splitlines(keepends=True))
        assert len(keys) == sum(1 + number % 20 for number in range(1, 41))
        acknowledged |= keys
    assert _stored(path) == acknowledged


def test_a_killed_process_loses_nothing_acknowledged(tmp_path: Path, path: Path, start: Start) -> None:
    """Five rounds of `kill -9` in the middle of writing: what was acknowledged is there, batches are whole."""
    acknowledged: set[str] = set()
    for number in range(5):
        child = start(WRITE, tmp_path, f"m{number}", 0)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(15)]
        child.kill()
        out, _ = child.communicate(timeout=60)
        keys = _keys([*lines, *out.splitlines(keepends=True)])
        assert len(keys) >= 15
        acknowledged |= keys
        stored = _stored(path)
        assert acknowledged <= stored
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            of_round = connection.execute(
                "SELECT count(*) FROM trades WHERE market_name = ?", (f"m{number}",)
            )
            assert of_round.fetchone()[0] in _whole_batches()


def _whole_batches() -> set[int]:
    """Return the row counts that a round can end with when no batch is torn."""
    total, sums = 0, set()
    for number in range(1, 20_000):
        total += 1 + number % 20
        sums.add(total)
    return sums


@pytest.mark.anyio
async def test_a_bot_goes_on_beside_another_process(
    opened: Open, tmp_path: Path, trades: Trades, start: Start
) -> None:
    """Reads and writes here go on while another process writes, and see what it acknowledged."""
    backend = await opened()
    child = start(WRITE, tmp_path, "other", 30)
    assert child.stdout is not None
    rows = trades(30)
    for row in rows:
        (key, *_) = json.loads(child.stdout.readline())
        await backend.gateway_write(WriteBatch([row]))
        mine, theirs = await backend.gateway_get(TRADES, row.tenant, [row.key, (key,)])
        assert mine == row
        assert theirs is not None
        assert theirs.intact
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
