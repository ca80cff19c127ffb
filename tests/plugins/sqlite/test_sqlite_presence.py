"""A file that was taken away under the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.backend import WriteBatch
from gateway.errors import StoreUnavailableError
from gateway.query import Query
from gateway.records import TRADES, Row
from gateway.records.stamp import DEFAULT_TENANT
from gateway_sqlite import presence
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.health import gone, identity
from gateway_sqlite.presence import CHECK_SECONDS, Presence

Open = Callable[..., Awaitable[SqliteBackend]]
Trades = Callable[[int], list[Row]]


def _take_away(path: Path, fate: str) -> None:
    if fate == "deleted":
        path.unlink()
        return
    path.rename(path.with_name("elsewhere.db"))
    if fate == "replaced":
        path.touch()


@pytest.mark.parametrize("fate", ["deleted", "moved", "replaced"])
@pytest.mark.anyio
async def test_nothing_is_acknowledged_into_a_lost_file(
    backend: SqliteBackend, path: Path, trades: Trades, fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write after the file went is refused, again and again, with the sentence that health has."""
    monkeypatch.setattr(presence, "CHECK_SECONDS", 0.0)
    rows = trades(4)
    await backend.gateway_write(WriteBatch(rows[:1]))
    await asyncio.to_thread(_take_away, path, fate)
    for row in rows[1:3]:
        with pytest.raises(StoreUnavailableError) as caught:
            await backend.gateway_write(WriteBatch((row,)))
        assert str(caught.value) == f"sqlite: {gone(path)}"
    assert (await backend.gateway_health()).summary == gone(path)


@pytest.mark.anyio
async def test_a_file_put_back_is_written_again(
    backend: SqliteBackend, opened: Open, path: Path, trades: Trades, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused meanwhile can be repeated, and is found by whoever opens the file."""
    monkeypatch.setattr(presence, "CHECK_SECONDS", 0.0)
    rows = trades(2)
    await asyncio.to_thread(_take_away, path, "moved")
    with pytest.raises(StoreUnavailableError):
        await backend.gateway_write(WriteBatch(rows))
    await asyncio.to_thread(path.with_name("elsewhere.db").rename, path)
    await backend.gateway_write(WriteBatch(rows))
    other = await opened()
    assert len(await other.gateway_query(Query(TRADES, DEFAULT_TENANT))) == 2


def test_it_looks_once_a_second_at_most(tmp_path: Path) -> None:
    """A lost file is noticed a second after the last look at the latest, and by every call from then on."""
    path, now = tmp_path / "store.db", 100.0
    path.touch()
    looking = Presence(path, identity(path), clock=lambda: now)
    looking.check()
    path.unlink()
    now += CHECK_SECONDS * 0.9
    looking.check()
    now += CHECK_SECONDS * 0.1
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="moved, deleted or replaced"):
            looking.check()


def test_a_name_that_cannot_be_looked_at_is_unavailable(tmp_path: Path) -> None:
    """A directory that became something else is reported in the gateway's terms."""
    path = tmp_path / "folder" / "store.db"
    (tmp_path / "folder").touch()
    with pytest.raises(StoreUnavailableError, match="cannot be looked at"):
        Presence(path, (1, 2)).check()
