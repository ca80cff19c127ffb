"""Intents in a SQLite file: with the rows or not at all, found by the key, and no part of a backup."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import OpenContext, Step, WriteBatch
from gateway.errors import SchemaError, StoreError
from gateway.intents import Journaling, Stretch
from gateway.records import Row
from gateway.sql.migrations import HEAD
from gateway_sqlite import intents
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.backup import backup_of
from gateway_sqlite.schema import schema_of

pytestmark = pytest.mark.anyio
OpenStore = Callable[..., Awaitable[SqliteBackend]]
Trades = Callable[[int], list[Row]]
FOR = ("mirror",)


async def _write(store: SqliteBackend, rows: Sequence[Step], first: int = 0) -> None:
    await store.gateway_write(WriteBatch(rows, Journaling("me", first, [FOR] * len(rows))))


async def _numbers(store: SqliteBackend, tenant: str) -> list[int]:
    return [one.number for one in await store.gateway_intents("mirror", tenant, 10_000, None, None)]


def _run(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


async def test_a_file_from_before_gets_the_table(
    opened: OpenStore, context: Callable[..., OpenContext], trades: Trades
) -> None:
    """Opening a file of the first revision upgrades it; its rows stay, and intents can be kept."""
    store = await opened()
    old, new = trades(3), trades(1)
    await store.gateway_write(WriteBatch(old))
    await store.gateway_close()
    schema = schema_of(context())
    assert "dropped gateway_intents.key" in schema.downgrade("0001")
    again = await opened()
    assert schema.current() == HEAD
    assert await again.gateway_get(old[0].kind, old[0].tenant, [row.key for row in old]) == old
    await _write(again, new)
    assert await _numbers(again, new[0].tenant) == [0]


async def test_a_downgrade_does_not_lose_intents_in_silence(
    backend: SqliteBackend, context: Callable[..., OpenContext], trades: Trades
) -> None:
    """What has yet to reach a mirror is not dropped with its table unless that is asked for."""
    await _write(backend, trades(1))
    schema = schema_of(context())
    with pytest.raises(SchemaError, match=r"yet to reach a mirror.*gateway mirror drain"):
        schema.downgrade("0001")
    assert await _numbers(backend, trades(1)[0].tenant) == [0]
    assert schema.downgrade("0001", force=True)


async def test_a_table_that_was_dropped_is_missed(
    backend: SqliteBackend, path: Path, context: Callable[..., OpenContext], trades: Trades
) -> None:
    """Without the table a batch with intents stores nothing at all; the check says so, and an upgrade mends it."""
    _run(path, "DROP TABLE gateway_intents")
    (row, *rows) = trades(4)
    for batch in ([row], rows):
        with pytest.raises(StoreError):
            await _write(backend, batch)
    assert await backend.gateway_get(row.kind, row.tenant, [row.key, rows[0].key]) == [None, None]
    schema = schema_of(context())
    assert schema.check() == ["table gateway_intents is missing: run `gateway schema upgrade`"]
    assert schema.upgrade() == ["created table gateway_intents"]
    await _write(backend, [row])
    assert await _numbers(backend, row.tenant) == [0]


async def test_backups_hold_no_intents(
    opened: OpenStore, context: Callable[..., OpenContext], trades: Trades, path: Path, tmp_path: Path
) -> None:
    """A copy has none, and a store that a backup was brought into replays none of its own."""
    store, rows = await opened(), trades(5)
    await _write(store, rows)
    await store.gateway_close()
    backup = backup_of(context())
    assert backup.write(tmp_path / "copy.db").ok
    assert _run(tmp_path / "copy.db", "SELECT count(*) FROM gateway_intents") == [(0,)]
    assert _run(path, "SELECT count(*) FROM gateway_intents") == [(5,)]
    _run(path, "DELETE FROM trades")
    assert backup.restore(tmp_path / "copy.db").ok
    assert await _numbers(await opened(), rows[0].tenant) == []


async def test_wide_stretches_are_removed_by_portions(
    backend: SqliteBackend, trades: Trades, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much a stretch holds, no transaction removes more than a portion of about the bound."""
    monkeypatch.setattr(intents, "_REMOVED", 10)
    rows = trades(95)
    tenant = rows[0].tenant
    await _write(backend, rows)
    seen: list[int] = []
    remove = intents.remove

    def watched(*arguments: Any) -> tuple[int, list[Stretch]]:
        removed, rest = remove(*arguments)
        seen.append(removed)
        return removed, rest

    monkeypatch.setattr("gateway_sqlite.backend.remove", watched)
    narrow = [Stretch("me", number, number) for number in range(0, 30, 2)]
    assert await backend.gateway_acknowledge("mirror", tenant, narrow) == 15
    assert await backend.gateway_acknowledge("mirror", tenant, [Stretch("me", 20, 2**62)]) == 70
    assert (sum(seen), max(seen) <= 11) == (85, True)
    assert await _numbers(backend, tenant) == list(range(1, 20, 2))


async def test_two_programs_share_the_journal(opened: OpenStore, trades: Trades) -> None:
    """What one program wrote another one replays and acknowledges, while both write."""
    one, other = await opened(), await opened()
    rows = trades(4)
    tenant = rows[0].tenant
    await _write(one, rows[:2], first=0)
    await _write(other, rows[2:], first=2)
    assert await _numbers(one, tenant) == await _numbers(other, tenant) == [0, 1, 2, 3]
    assert await other.gateway_acknowledge("mirror", tenant, [Stretch("me", 0, 2)]) == 3
    assert await _numbers(one, tenant) == [3]


async def test_intents_are_found_by_their_key(backend: SqliteBackend, trades: Trades, path: Path) -> None:
    """Pages and counts go through the key alone: nothing is sorted, and nothing is read as a whole."""
    rows = trades(30)
    await _write(backend, rows)
    with closing(sqlite3.connect(path)) as connection:
        seen: list[str] = []
        connection.set_trace_callback(seen.append)
        known = {row.kind.name: row.kind for row in rows}
        after = Stretch("me", 0, 3)
        assert len(intents.pending(connection, known, "mirror", rows[0].tenant, 5, 2**62, after)) == 5
        assert intents.facts(connection, rows[0].tenant, 10)[0].depth == 10
        connection.set_trace_callback(None)
        plans = [step for text in seen for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {text}")]
    assert any("PRIMARY KEY (tenant_id=? AND target=? AND (owner,number)>(?,?))" in step for step in plans), (
        plans
    )
    assert [step for step in plans if "TEMP B-TREE" in step or step.startswith("SCAN gateway_intents")] == []


async def test_many_intents_are_several_statements(backend: SqliteBackend, trades: Trades) -> None:
    """A batch with more rows than one statement takes keeps each row's number, alike or not."""
    rows = trades(1300)
    await _write(backend, rows[:700])
    mixed = Journaling("me", 700, [FOR, (), *[FOR] * 598])
    await backend.gateway_write(WriteBatch(rows[700:], mixed))
    found = await backend.gateway_intents("mirror", rows[0].tenant, 10_000, None, None)
    wanted = [(number, row.key, row.version) for number, row in enumerate(rows) if number != 701]
    assert [(one.number, one.key, one.version) for one in found] == wanted
