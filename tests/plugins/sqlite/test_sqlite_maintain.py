"""Upkeep of SQLite files beside bots: retention, the planner's figures, and the write-ahead log."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.backend import OpenContext, WriteBatch
from gateway.errors import StoreBusyError, StoreUnavailableError
from gateway.records import Row
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.stamp import Stamper
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.maintain import maintain
from gateway_sqlite.schema import schema_of

MakeContext = Callable[..., OpenContext]
OpenStore = Callable[..., Awaitable[SqliteBackend]]
BOOKS = next(kind for kind in BUILTIN_KINDS if kind.name == "order_book_snapshots")
TENANTS = ("00000000-0000-0000-0000-000000000000", "11111111-1111-1111-1111-111111111111")

BOT = """
import asyncio, sys
from datetime import UTC, datetime
from gateway import Gateway
async def main():
    async with Gateway("sqlite", environ={}, env_file=None, data_dir=sys.argv[1]) as gateway:
        for number in range(1000):
            await gateway.insert_trade(record_id=f"t{number:06d}", timestamp=datetime.now(UTC), market_name="BTC",
                                       action="buy", side="YES", price="0.5", amount=number)
            if number % 50 == 0:
                print(number, flush=True)
asyncio.run(main())
"""


def _books(*ages: timedelta) -> list[Row]:
    """Return a snapshot of each age, of two tenants."""
    now = datetime.now(UTC)
    return [
        Stamper(tenant).stamp(
            BOOKS, BOOKS.model.model_validate({"timestamp": now - age, "condition_id": "m"})
        )
        for tenant in TENANTS
        for age in ages
    ]


async def _fill(opened: OpenStore, rows: Sequence[Row]) -> None:
    store = await opened()
    await store.gateway_write(WriteBatch(rows))
    await store.gateway_close()


def _rows_in(path: Path, table: str = "order_book_snapshots") -> int:
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()  # noqa: S608 - of this test
        return int(found)


@pytest.mark.anyio
async def test_what_retention_has_outlived_goes(context: MakeContext, opened: OpenStore, path: Path) -> None:
    """Rows past the retention of their kind go, of all tenants; the others stay, and a dry run changes nothing."""
    assert BOOKS.retention is not None
    day = timedelta(days=1)
    await _fill(opened, _books(BOOKS.retention + 2 * day, BOOKS.retention - 2 * day))
    (would,) = maintain(context(), True)
    assert would.startswith("would remove 2 rows of order_book_snapshots")
    assert _rows_in(path) == 4
    assert maintain(context(), False)[0].startswith("removed 2 rows of order_book_snapshots")
    assert _rows_in(path) == 2
    assert maintain(context(), True) == []


@pytest.mark.anyio
async def test_many_rows_go_in_portions(
    context: MakeContext, opened: OpenStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are, all of them go, and no transaction holds the bots up for all of them."""
    assert BOOKS.retention is not None
    monkeypatch.setattr("gateway_sqlite.maintain._PURGE_ROWS", 7)
    old = BOOKS.retention + timedelta(days=2)
    await _fill(opened, _books(*(old + timedelta(seconds=number) for number in range(30)), timedelta()))
    assert maintain(context(), False)[0].startswith("removed 60 rows")
    assert _rows_in(path) == 2


@pytest.mark.anyio
async def test_an_open_store_goes_on(
    context: MakeContext, opened: OpenStore, trades: Callable[[int], list[Row]]
) -> None:
    """Beside an open store everything is done, and the store goes on."""
    store = await opened()
    await store.gateway_write(WriteBatch(trades(200)))
    assert len(maintain(context(), False)) == 2
    await store.gateway_write(WriteBatch(trades(1)))
    assert (await store.gateway_health()).ok


@pytest.mark.anyio
async def test_a_bot_that_is_writing_notices_nothing(
    context: MakeContext, opened: OpenStore, path: Path, tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
) -> None:  # fmt: skip
    """No write of a bot in another process fails, and none is lost, while old rows are removed beside it."""
    assert BOOKS.retention is not None
    await _fill(opened, _books(*[BOOKS.retention + timedelta(days=2)] * 500))
    bot = start(BOT, tmp_path)
    assert bot.stdout is not None
    assert bot.stdout.readline()
    while bot.poll() is None and bot.stdout.readline():
        await asyncio.to_thread(maintain, context(), False)
    _, errors = bot.communicate()
    assert bot.returncode == 0, errors
    assert (_rows_in(path), _rows_in(path, "trades")) == (0, 1000)


@pytest.mark.anyio
async def test_a_writer_that_does_not_end_is_said(
    context: MakeContext, opened: OpenStore, path: Path
) -> None:
    """Old rows cannot be removed while somebody holds the file; the error says so, and the rows are still there."""
    assert BOOKS.retention is not None
    await _fill(opened, _books(BOOKS.retention + timedelta(days=2)))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError):
            maintain(context(busy_timeout=0.05), False)
    assert _rows_in(path) == 2


@pytest.mark.anyio
async def test_a_log_that_has_grown_too_long_is_cut_off(
    context: MakeContext, opened: OpenStore, trades: Callable[[int], list[Row]], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Unless somebody still reads from it, which is said."""
    monkeypatch.setattr("gateway_sqlite.maintain.LONG_LOG", 1000)
    store = await opened()
    await store.gateway_write(WriteBatch(trades(200)))
    log = path.with_name("gateway.db-wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM trades LIMIT 1").fetchone()
        await store.gateway_write(WriteBatch(trades(10)))
        assert "could not be cut off" in maintain(context(), False)[-1]
        assert log.stat().st_size > 1000
    assert "cut off" in maintain(context(), False)[-1]
    assert log.stat().st_size == 0


@pytest.mark.anyio
async def test_the_planner_learns_of_rows(
    context: MakeContext, opened: OpenStore, trades: Callable[[int], list[Row]], path: Path
) -> None:
    """Figures are taken of tables that this process never asked, and the schema is still the one needed."""
    await _fill(opened, trades(2000))
    maintain(context(), False)
    with closing(sqlite3.connect(path)) as connection:
        figures = dict(connection.execute("SELECT tbl, stat FROM sqlite_stat1").fetchall())
    assert int(figures["trades"].split()[0]) > 1000
    assert schema_of(context()).check() == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_store_that_is_missing_is_an_error(context: MakeContext, path: Path, dry_run: bool) -> None:
    """And none is made."""
    with pytest.raises(StoreUnavailableError, match="no store"):
        maintain(context(), dry_run)
    assert not path.exists()
