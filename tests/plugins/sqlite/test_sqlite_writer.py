"""Batches: whole or not at all, under the version guard, with an exact receipt."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.backend import Group, KeyRef, Step, Update, WriteBatch
from gateway.errors import WriteRejectedError
from gateway.query import ReadRange
from gateway.records import BOT_STATE, POSITIONS, TRADES, Row
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.codec import from_micros
from gateway.records.stamp import row_of
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.connection import connect
from gateway_sqlite.schema import SqliteSchema
from gateway_sqlite.writer import apply

Trades = Callable[[int], list[Row]]
MakePosition = Callable[..., Row]


def _state(name: str, version: int, status: str = "s") -> Row:
    return row_of(BOT_STATE, "t", version, ("bot", name, status, None, None, 0))


async def _get(backend: SqliteBackend, rows: Sequence[Row]) -> Sequence[Row | None]:
    return await backend.gateway_get(rows[0].kind, rows[0].tenant, [row.key for row in rows])


@pytest.mark.anyio
async def test_one_row_needs_no_transaction(
    backend: SqliteBackend, trades: Trades, statements: Callable[[], list[str]]
) -> None:
    """A batch of one is one statement, several rows of a kind are one transaction."""
    await backend.gateway_write(WriteBatch(trades(1)))
    assert [text.split()[0] for text in statements()] == ["INSERT"]
    await backend.gateway_write(WriteBatch(trades(3)))
    first, *inside, last = [text.split()[0] for text in statements()]
    assert (first, set(inside), last) == ("BEGIN", {"INSERT"}, "COMMIT")


@pytest.fixture
async def statements(backend: SqliteBackend) -> Callable[[], list[str]]:
    """Gives the statements that the writer ran since the last call."""
    seen: list[str] = []
    await backend._writing().run(lambda connection: connection.set_trace_callback(seen.append))

    def since() -> list[str]:
        found = seen.copy()
        seen.clear()
        return found

    return since


@pytest.mark.anyio
async def test_a_repeated_batch_is_no_loss(backend: SqliteBackend, trades: Trades) -> None:
    """Sending the same rows again changes nothing and supersedes nothing, one or many."""
    rows = trades(20)
    await backend.gateway_write(WriteBatch(rows))
    for batch in (rows, rows[:1], [Group(tuple(rows))]):
        receipt = await backend.gateway_write(WriteBatch(batch))
        assert (dict(receipt.superseded), dict(receipt.updated)) == ({}, {})


@pytest.mark.anyio
async def test_kinds_are_gathered_and_updates_see_them(
    backend: SqliteBackend, trades: Trades, position: MakePosition
) -> None:
    """Rows of several kinds, a group, and an update that reads what the batch wrote before it."""
    first, second = trades(2)
    old = position("m")
    new = position("m", "0.7")
    seen: list[Row | None] = []

    def compute(current: Sequence[Row | None]) -> Sequence[Row]:
        seen.extend(current)
        return [new]

    reads = (KeyRef(POSITIONS, ("m",)), KeyRef(POSITIONS, ("absent",)))
    steps: list[Step] = [first, old, Group((second, _state("a", 1))), Update(old.tenant, reads, compute)]
    receipt = await backend.gateway_write(WriteBatch(steps))
    assert seen == [old, None]
    assert dict(receipt.updated) == {3: (new,)}
    assert dict(receipt.superseded) == {}
    assert await _get(backend, [first, second]) == [first, second]
    assert await _get(backend, [new]) == [new]


@pytest.mark.anyio
async def test_an_update_that_raises_undoes_the_batch(backend: SqliteBackend, trades: Trades) -> None:
    """The error is raised as it is, even one that looks like the driver's, and nothing was written."""
    (row,) = trades(1)
    for error in (
        ZeroDivisionError("mine"),
        OverflowError("mine"),
        UnicodeDecodeError("x", b"", 0, 1, "mine"),
    ):

        def fail(_: Sequence[Row | None], error: Exception = error) -> Sequence[Row]:
            raise error

        with pytest.raises(type(error), match="mine") as caught:
            await backend.gateway_write(WriteBatch([row, Update(row.tenant, (), fail)]))
        assert caught.value is error
        assert await _get(backend, [row]) == [None]
    await backend.gateway_write(WriteBatch([row]))
    assert await _get(backend, [row]) == [row]


@pytest.mark.anyio
async def test_an_update_may_write_nothing(backend: SqliteBackend, trades: Trades) -> None:
    """An empty answer is a receipt with no rows."""
    (row,) = trades(1)
    receipt = await backend.gateway_write(WriteBatch([Update(row.tenant, (), lambda _: ())]))
    assert dict(receipt.updated) == {0: ()}


@pytest.mark.anyio
async def test_a_commit_that_fails_leaves_no_transaction(backend: SqliteBackend, trades: Trades) -> None:
    """An error at the very end rolls back too, and the writer goes on."""
    rows = trades(2)

    def refuse_commit(connection: sqlite3.Connection) -> None:
        # A deferred foreign key is checked by COMMIT, which then fails and leaves the transaction open.
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
        connection.execute(
            "CREATE TEMP TRIGGER orphan AFTER INSERT ON trades BEGIN INSERT INTO child VALUES (1); END"
        )

    await backend._writing().run(refuse_commit)
    with pytest.raises(WriteRejectedError, match="FOREIGN KEY"):
        await backend.gateway_write(WriteBatch(rows))
    assert not await backend._writing().run(lambda connection: connection.in_transaction)
    await backend._writing().run(sqlite3.Connection.execute, "DROP TRIGGER orphan")
    assert await _get(backend, rows) == [None, None]
    await backend.gateway_write(WriteBatch(rows))
    assert await _get(backend, rows) == rows


@pytest.mark.anyio
async def test_rows_that_triggers_write_are_not_counted(backend: SqliteBackend, trades: Trades) -> None:
    """A trigger that writes beside each row does not hide that an older row lost."""

    def add_trigger(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TEMP TABLE noted (k)")
        connection.execute(
            "CREATE TEMP TRIGGER note AFTER INSERT ON bot_state BEGIN "
            "INSERT INTO noted VALUES (new.name), (new.name); END"
        )

    await backend._writing().run(add_trigger)
    await backend.gateway_write(WriteBatch([_state("a", 9)]))
    receipt = await backend.gateway_write(WriteBatch([_state("a", 5), _state("b", 5), _state("c", 5)]))
    assert dict(receipt.superseded) == {0: 9}
    assert await _get(backend, trades(1)) == [None]


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.integers(0, 2)), min_size=1, max_size=12
)


def _expected(stored: dict[object, Row], rows: Sequence[Row]) -> dict[int, int]:
    """Store rows one after the other in a dictionary, by the letter of the contract."""
    lost = {}
    for index, row in enumerate(rows):
        current = stored.get(row.key)
        if current is None or row.stamp > current.stamp:
            stored[row.key] = row
        elif current.stamp > row.stamp:
            lost[index] = current.version
    return lost


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(STEPS, min_size=1, max_size=3))
def test_receipts_are_exact(
    empty_tables: sqlite3.Connection, batches: list[list[tuple[str, int, int]]]
) -> None:
    """Any batches, with keys that come again inside one: state and receipt are those of storing one by one."""
    empty_tables.execute("DELETE FROM bot_state")
    stored: dict[object, Row] = {}
    for batch in batches:
        rows = [_state(name, version, f"s{status}") for name, version, status in batch]
        receipt = apply(empty_tables, rows)
        assert dict(receipt.superseded) == _expected(stored, rows)
    found = empty_tables.execute("SELECT name, version, digest FROM bot_state ORDER BY 1").fetchall()
    assert found == sorted((row.key[1], row.version, row.digest) for row in stored.values())


@pytest.fixture
def empty_tables(path: Path) -> Iterator[sqlite3.Connection]:
    """A plain connection to a file with the schema."""
    SqliteSchema(path, BUILTIN_KINDS, busy_timeout=1, backend="x").upgrade()
    with closing(connect(path, "rw", 1)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        yield connection


@pytest.mark.anyio
async def test_purging_lets_writers_in_between(backend: SqliteBackend, trades: Trades) -> None:
    """A long purge is many short transactions: a write that comes meanwhile does not wait for its end."""
    rows = trades(10_050)
    await backend.gateway_write(WriteBatch(rows[:-1]))
    order: list[str] = []

    async def purge() -> int:
        moment = rows[10_010].values[1]
        assert isinstance(moment, int)
        removed = await backend.gateway_purge(TRADES, rows[0].tenant, from_micros(moment))
        order.append("purged")
        return removed

    async def write() -> None:
        await backend.gateway_write(WriteBatch(rows[-1:]))
        order.append("written")

    removed, _ = await asyncio.gather(purge(), write())
    assert removed == 10_010
    assert order == ["written", "purged"]
    assert (await backend.gateway_digest(ReadRange(TRADES, rows[0].tenant))).rows == 40
