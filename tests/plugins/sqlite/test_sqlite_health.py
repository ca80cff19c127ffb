"""What the store says of itself, and what it notices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.backend import WriteBatch
from gateway.errors import StoreFullError
from gateway.records import Row
from gateway.sql.migrations import HEAD
from gateway_sqlite import health
from gateway_sqlite.backend import SqliteBackend

Open = Callable[..., Awaitable[SqliteBackend]]
Trades = Callable[[int], list[Row]]


@pytest.mark.anyio
async def test_a_store_in_order(backend: SqliteBackend, path: Path, trades: Trades) -> None:
    """Health gives the facts that a person asks for first."""
    await backend.gateway_write(WriteBatch(trades(5)))
    found = await backend.gateway_health()
    assert found.ok
    details = found.details
    assert details["path"] == str(path)
    assert (details["journal_mode"], details["synchronous"]) == ("wal", "NORMAL")
    assert details["schema_revision"] == HEAD
    assert "integrity" not in details, "a bot may ask every second, and the check reads the whole file"
    assert details["bytes"] > 0
    assert details["pages"] * details["page_bytes"] > 0
    assert details["log_bytes"] > 0


@pytest.mark.anyio
async def test_a_store_opened_to_look_at_it_is_checked(
    backend: SqliteBackend, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens a store to be read gets its integrity too, unless the file is large."""
    assert backend is not None
    looking = await opened(read_only=True)
    assert (await looking.gateway_health()).details["integrity"] == "ok"
    monkeypatch.setattr(health, "INTEGRITY_BYTES", 0)
    found = await looking.gateway_health()
    assert found.ok
    assert "integrity" not in found.details
    assert await backend._readers.run(health.read_integrity) == "ok"


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.anyio
async def test_a_file_that_went_away_is_noticed(backend: SqliteBackend, path: Path, replace: bool) -> None:
    """Health says that a file was deleted or replaced under a running bot."""

    def take_away() -> None:
        path.rename(path.with_name("elsewhere.db"))
        if replace:
            path.touch()

    await asyncio.to_thread(take_away)
    found = await backend.gateway_health()
    assert not found.ok
    assert "put it back" in found.summary


@pytest.mark.anyio
async def test_a_closed_store_is_not_well(backend: SqliteBackend) -> None:
    """Health does not raise for a store that is closed; that is the answer."""
    await backend.gateway_close()
    await backend.gateway_close()
    found = await backend.gateway_health()
    assert not found.ok
    assert "closed" in found.summary


@pytest.mark.anyio
async def test_a_log_that_cannot_be_emptied_is_reported(backend: SqliteBackend) -> None:
    """A checkpoint that fails is not hidden: the log grows until somebody helps."""
    assert backend._checkpointer is not None
    backend._checkpointer.error = StoreFullError("the disk is full", backend="sqlite")
    found = await backend.gateway_health()
    assert not found.ok
    assert "cannot be emptied: sqlite: the disk is full" in found.summary
