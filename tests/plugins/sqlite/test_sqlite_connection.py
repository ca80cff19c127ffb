"""One connection, one thread, one hop: and what cancelling, closing and forgetting do to it."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import aiosqlite
import pytest

from gateway.errors import StoreCorruptError, StoreUnavailableError
from gateway_sqlite.connection import StoreConnection, connect
from gateway_sqlite.readers import Readers

Start = Callable[..., "subprocess.Popen[str]"]

FORGETFUL = """
import asyncio, sqlite3, sys
from pathlib import Path
from gateway_sqlite.connection import StoreConnection, connect
async def go():
    connection = await StoreConnection.open(lambda: connect(Path(sys.argv[1]), "rwc", 1), "x")
    await connection.run(sqlite3.Connection.execute, "CREATE TABLE kept (x)")
    print("done", flush=True)
asyncio.run(go())
"""


@pytest.fixture
async def connection(path: Path) -> AsyncIterator[StoreConnection]:
    """An open connection to a file with one table."""
    opened = await StoreConnection.open(lambda: connect(path, "rwc", 1.0), "sqlite")
    await opened.run(sqlite3.Connection.execute, "CREATE TABLE t (x)")
    yield opened
    await opened.close()


def _count(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("SELECT count(*) FROM t").fetchone()[0]
    return found


def test_aiosqlite_still_has_what_is_relied_upon() -> None:
    """The protected method, the thread and the connection are where this version of aiosqlite had them."""
    execute = aiosqlite.Connection._execute
    assert inspect.iscoroutinefunction(execute)
    assert list(inspect.signature(execute).parameters) == ["self", "fn", "args", "kwargs"]
    connection = aiosqlite.Connection(lambda: sqlite3.connect(":memory:"), 64)
    assert isinstance(connection._thread, threading.Thread)
    assert not connection._thread.is_alive()
    assert connection._connection is None


@pytest.mark.anyio
async def test_a_function_is_one_hop(connection: StoreConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many statements the function runs, the thread is visited once."""
    hops = 0
    execute = aiosqlite.Connection._execute

    async def counted(self: aiosqlite.Connection, fn: object, *args: object) -> object:
        nonlocal hops
        hops += 1
        return await execute(self, fn, *args)  # type: ignore[no-untyped-call]  # aiosqlite does not annotate it

    monkeypatch.setattr(aiosqlite.Connection, "_execute", counted)

    def many(driver: sqlite3.Connection) -> int:
        driver.execute("BEGIN IMMEDIATE")
        driver.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
        driver.execute("COMMIT")
        return _count(driver)

    assert await connection.run(many) == 2
    assert hops == 1


@pytest.mark.anyio
async def test_it_runs_on_its_own_thread(connection: StoreConnection) -> None:
    """The loop's thread never waits for the disk."""
    assert await connection.run(lambda _: threading.get_ident()) != threading.get_ident()


@pytest.mark.anyio
async def test_cancelling_lets_the_function_finish(connection: StoreConnection) -> None:
    """A caller that goes away leaves a transaction that is whole, and a connection that works."""
    inside, go_on = threading.Event(), threading.Event()

    def slow(driver: sqlite3.Connection) -> None:
        driver.execute("BEGIN IMMEDIATE")
        driver.execute("INSERT INTO t VALUES (1)")
        inside.set()
        assert go_on.wait(30)
        driver.execute("INSERT INTO t VALUES (2)")
        driver.execute("COMMIT")

    task = asyncio.ensure_future(connection.run(slow))
    await asyncio.to_thread(inside.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert await connection.run(_count) == 2
    assert not await connection.run(lambda driver: driver.in_transaction)


@pytest.mark.anyio
async def test_cancelling_before_its_turn_disturbs_nobody(connection: StoreConnection) -> None:
    """An error of a function whose caller has gone reaches nobody, and the thread lives on."""
    blocked = threading.Event()
    first = asyncio.ensure_future(connection.run(lambda _: blocked.wait(30)))
    second = asyncio.ensure_future(connection.run(sqlite3.Connection.execute, "NO SQL"))
    await asyncio.sleep(0)
    second.cancel()
    blocked.set()
    assert await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await connection.run(_count) == 0


@pytest.mark.anyio
async def test_closing_waits_for_what_is_running(connection: StoreConnection, path: Path) -> None:
    """What was begun before the close is committed; what comes after is refused; closing twice is fine."""
    inside, go_on = threading.Event(), threading.Event()

    def slow(driver: sqlite3.Connection) -> None:
        inside.set()
        assert go_on.wait(30)
        driver.execute("INSERT INTO t VALUES (1)")

    writing = asyncio.ensure_future(connection.run(slow))
    await asyncio.to_thread(inside.wait, 30)
    closing_down = asyncio.ensure_future(connection.close())
    await asyncio.sleep(0)
    assert repr(connection) == "<StoreConnection sqlite closing>"
    with pytest.raises(StoreUnavailableError, match="sqlite: the store is closed"):
        await connection.run(_count)
    go_on.set()
    await writing
    await closing_down
    await connection.close()
    with closing(connect(path, "ro", 1)) as look:
        assert _count(look) == 1


@pytest.mark.anyio
async def test_what_the_connector_raises_is_translated() -> None:
    """A connection that cannot be opened ends its thread and gives the gateway's error."""
    before = threading.active_count()

    def connector() -> sqlite3.Connection:
        raise sqlite3.DatabaseError("made up") from None

    with pytest.raises(StoreUnavailableError, match="sqlite: "):
        await StoreConnection.open(connector, "sqlite")

    def corrupt() -> sqlite3.Connection:
        raise StoreCorruptError("made up")

    with pytest.raises(StoreCorruptError) as caught:
        await StoreConnection.open(corrupt, "mine")
    assert caught.value.backend == "mine"
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            await asyncio.to_thread(thread.join, 30)
    assert threading.active_count() <= before + 1, "to_thread keeps one worker"


def test_a_program_that_forgets_to_close_ends(path: Path, start: Start) -> None:
    """The thread does not keep the interpreter alive, and what was committed is there."""
    child = start(FORGETFUL, path)
    out, errors = child.communicate(timeout=60)
    assert (out, child.returncode) == ("done\n", 0), errors
    with closing(connect(path, "ro", 1)) as look:
        assert look.execute("SELECT count(*) FROM kept").fetchone() == (0,)


@pytest.mark.parametrize("name", ["plain.db", "with space.db", "żółw.db", "100%25?#.db"])
def test_any_file_name_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    """Characters that mean something in a URI mean nothing in a path."""
    with closing(connect(tmp_path / name, "rwc", 1)) as opened:
        opened.execute("CREATE TABLE t (x)")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.anyio
async def test_reads_go_to_the_connection_that_is_free(path: Path) -> None:
    """While one reader is busy the other answers, however long the first takes."""
    connections = [await StoreConnection.open(lambda: connect(path, "rwc", 1), "x") for _ in range(2)]
    readers = Readers(connections)
    blocked = threading.Event()
    slow = asyncio.ensure_future(readers.run(lambda _: blocked.wait(30)))
    await asyncio.sleep(0)
    assert repr(readers) == "<Readers 2 waiting=[1, 0]>"
    for _ in range(3):
        assert await readers.run(lambda _: 7) == 7
    blocked.set()
    assert await slow
    assert repr(readers) == "<Readers 2 waiting=[0, 0]>"
    await readers.close()
    with pytest.raises(StoreUnavailableError):
        await readers.run(lambda _: 7)
