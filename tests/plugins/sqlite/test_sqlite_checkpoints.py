"""The log is copied into the file beside the writer, and stays short."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.backend import WriteBatch
from gateway.errors import StoreCorruptError
from gateway.records import Row
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.checkpoints import Checkpointer
from gateway_sqlite.connection import StoreConnection, connect

Trades = Callable[[int], list[Row]]


def _running(checkpointer: Checkpointer) -> Awaitable[None]:
    """Return the checkpoint that was started last."""
    assert checkpointer._task is not None
    return checkpointer._task


def _pages(path: Path) -> int:
    """Pages of the main file itself, without the log."""
    return path.stat().st_size // 4096


@pytest.mark.anyio
async def test_enough_rows_start_one(backend: SqliteBackend, path: Path, trades: Trades) -> None:
    """Once the estimate is reached the file grows while the writer is open, and the writer did not do it."""
    checkpointer = backend._checkpointer
    assert checkpointer is not None
    assert repr(checkpointer) == "<Checkpointer 0/100 pages>"
    before = await asyncio.to_thread(_pages, path)
    await backend._writing().run(sqlite3.Connection.execute, "PRAGMA wal_autocheckpoint=0")
    await backend.gateway_write(WriteBatch(trades(10)))
    assert repr(checkpointer) == "<Checkpointer 24/100 pages>", "none runs"
    await backend.gateway_write(WriteBatch(trades(500)))
    await _running(checkpointer)
    assert await asyncio.to_thread(_pages, path) > before
    assert checkpointer.error is None


@pytest.mark.anyio
async def test_the_log_begins_anew(backend: SqliteBackend, path: Path, trades: Trades) -> None:
    """Under writes that never pause a checkpoint still ends with nothing to copy, so the log starts over."""
    checkpointer = backend._checkpointer
    assert checkpointer is not None
    await backend._writing().run(sqlite3.Connection.execute, "PRAGMA wal_autocheckpoint=0")
    await backend.gateway_write(WriteBatch(trades(1)))
    first = await asyncio.to_thread(_salt, path)
    for _ in range(2_000):
        await backend.gateway_write(WriteBatch(trades(16)))
        if await asyncio.to_thread(_salt, path) != first:
            break
    else:
        pytest.fail("after 2,000 batches the log was still the one it began with")
    assert checkpointer.error is None


def _salt(path: Path) -> bytes:
    """Return what SQLite draws anew whenever the log starts over; see its file format, section 4.1."""
    with path.with_name(f"{path.name}-wal").open("rb") as log:
        return log.read(24)[16:]


@pytest.mark.anyio
async def test_a_busy_loop_is_bounded_by_the_writer(
    backend: SqliteBackend, path: Path, trades: Trades, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no checkpoint is started beside it, the writer's own begins at four times the length."""
    monkeypatch.setattr(Checkpointer, "wrote", lambda *_: None)
    log = path.with_name("gateway.db-wal")
    for _ in range(100):
        await backend.gateway_write(WriteBatch(trades(64)))
    size = await asyncio.to_thread(lambda: log.stat().st_size)
    assert 400 * 4096 < size < 800 * 4096, "it reached the bound, and the batch that did ended it"


def _log(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Return whether a checkpoint ran into another, the pages in the log, and those of them that were copied."""
    connection.execute("PRAGMA query_only=OFF")
    found: tuple[int, int, int] = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return found


@pytest.mark.anyio
async def test_a_failure_is_kept_until_one_succeeds(path: Path) -> None:
    """What a checkpoint failed with is there for `health`, and gone when the next one works."""
    connection = await StoreConnection.open(lambda: connect(path, "rwc", 1), "sqlite")
    checkpointer = Checkpointer(connection, connection, 1)

    def break_it(driver: sqlite3.Connection) -> None:
        driver.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)

    await connection.run(break_it)
    checkpointer.wrote(1)
    await _running(checkpointer)
    assert "not authorized" in str(checkpointer.error)
    await connection.run(lambda driver: driver.set_authorizer(None))
    checkpointer.wrote(1)
    await _running(checkpointer)
    assert checkpointer.error is None
    await checkpointer.close()


@pytest.mark.anyio
async def test_closing_waits_for_a_running_one(path: Path) -> None:
    """No checkpoint is cut off."""
    connection = await StoreConnection.open(lambda: connect(path, "rwc", 1), "sqlite")
    checkpointer = Checkpointer(connection, connection, 1)
    checkpointer.wrote(100)
    assert "running" in repr(checkpointer)
    await checkpointer.close()
    assert "running" not in repr(checkpointer)
    assert not isinstance(checkpointer.error, StoreCorruptError)
