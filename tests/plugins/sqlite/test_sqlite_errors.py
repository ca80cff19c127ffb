"""Every error of SQLite becomes the gateway's that says what to do; real conditions, not made-up codes."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from gateway.backend import OpenContext, WriteBatch
from gateway.errors import (
    SchemaError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    WriteRejectedError,
)
from gateway.records import TRADES, Row
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.errors import translate, translated
from gateway_sqlite.plugin import open_store

Open = Callable[..., Awaitable[SqliteBackend]]
Trades = Callable[[int], list[Row]]
Start = Callable[..., "subprocess.Popen[str]"]

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""

AS_NOBODY = """
import asyncio, os, sys
import concurrent.futures.thread
from pathlib import Path
from tempfile import TemporaryDirectory
import gateway_sqlite.schema
from gateway.backend import OpenContext
from gateway.records.builtin import BUILTIN_KINDS
from gateway_sqlite.plugin import open_store
from gateway_sqlite.settings import SqliteSettings
os.setgid(65534)
os.setuid(65534)
context = OpenContext("sqlite", SqliteSettings(), BUILTIN_KINDS, Path(sys.argv[1]), sys.argv[2] == "read")
async def go():
    store = await open_store(context)
    print("opened", (await store.gateway_health()).ok)
    await store.gateway_close()
try:
    asyncio.run(go())
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB; skipped where this process may not mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip(
            "no permission to mount a small file system; the bound by max_page_count is tested instead"
        )
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A directory that others can enter and read, which pytest's own are not."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def _damage(path: Path) -> None:
    """Overwrite the last quarter of the file, where the newest rows are."""
    quarter = path.stat().st_size // 4
    with path.open("r+b") as file:
        file.seek(3 * quarter)
        file.write(b"\xa5" * quarter)


def _limit_pages(connection: sqlite3.Connection) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")


def _lift_limit(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA max_page_count=1000000")


@pytest.mark.anyio
async def test_a_store_without_room_is_full(backend: SqliteBackend, trades: Trades) -> None:
    """At the file's bound a write fails as a whole, what is stored stays, and later writes go on."""
    rows = trades(400)
    await backend.gateway_write(WriteBatch(rows[:1]))
    await backend._writing().run(_limit_pages)
    with pytest.raises(StoreFullError, match=r"sqlite: the disk is full.*Free space"):
        await backend.gateway_write(WriteBatch(rows))
    found = await backend.gateway_get(TRADES, rows[0].tenant, [row.key for row in rows])
    assert found == [rows[0], *[None] * 399]
    await backend._writing().run(_lift_limit)
    await backend.gateway_write(WriteBatch(rows))
    assert await backend.gateway_get(TRADES, rows[0].tenant, [row.key for row in rows]) == rows


@pytest.mark.anyio
async def test_a_full_disk_is_full(opened: Open, trades: Trades, small_disk: Path) -> None:
    """On a disk that fills up every write is acknowledged and there, or refused and not there."""
    backend = await opened(url=str(small_disk / "x.db"))
    rows, acknowledged, refused = trades(20_000), [], []
    for start in range(0, 20_000, 500):
        batch = rows[start : start + 500]
        try:
            await backend.gateway_write(WriteBatch(batch))
            acknowledged += batch
        except StoreFullError:
            refused += batch
    assert acknowledged
    assert refused
    tenant = rows[0].tenant
    assert await backend.gateway_get(TRADES, tenant, [row.key for row in acknowledged]) == acknowledged
    assert set(await backend.gateway_get(TRADES, tenant, [row.key for row in refused])) == {None}


@pytest.mark.anyio
async def test_a_locked_store_is_busy(opened: Open, trades: Trades, path: Path, start: Start) -> None:
    """A process that keeps a transaction open longer than the timeout makes writes busy, one row or many."""
    backend = await opened(busy_timeout=0.05)
    child = start(HOLD, path)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    rows = trades(3)
    for batch in (rows[:1], rows):
        with pytest.raises(StoreBusyError, match="nothing was written") as caught:
            await backend.gateway_write(WriteBatch(batch))
        assert caught.value.transient
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert await backend.gateway_get(TRADES, rows[0].tenant, [rows[0].key]) == [None], "readers do not wait"
    child.communicate("\n", timeout=60)
    await backend.gateway_write(WriteBatch(rows))
    assert await backend.gateway_get(TRADES, rows[0].tenant, [row.key for row in rows]) == rows


@pytest.mark.anyio
async def test_a_value_that_sqlite_cannot_hold_is_rejected(backend: SqliteBackend, trades: Trades) -> None:
    """A number over 64 bits, a lone surrogate and a missing key are refused, and the batch they are in."""
    good, bad = trades(2)
    for wrong in (
        bad._replace(version=2**63),
        bad._replace(values=(*bad.values[:2], "\ud800", *bad.values[3:])),
        bad._replace(values=(None, *bad.values[1:])),
    ):
        for batch in ([wrong], [good, wrong]):
            with pytest.raises(WriteRejectedError, match="sqlite: "):
                await backend.gateway_write(WriteBatch(batch))
    assert await backend.gateway_get(TRADES, good.tenant, [good.key]) == [None]
    await backend.gateway_write(WriteBatch([good]))


@pytest.mark.anyio
async def test_a_missing_table_is_a_matter_of_schema(backend: SqliteBackend, trades: Trades) -> None:
    """Somebody dropped a table behind the store's back: the message names the command."""
    await backend._writing().run(sqlite3.Connection.execute, "DROP TABLE trades")
    with pytest.raises(SchemaError, match="gateway schema upgrade"):
        await backend.gateway_write(WriteBatch(trades(1)))


@pytest.mark.anyio
async def test_damage_met_while_reading_is_reported(opened: Open, trades: Trades, path: Path) -> None:
    """Pages overwritten with noise give `StoreCorruptError`, never an empty answer."""
    backend = await opened()
    rows = trades(3000)
    await backend.gateway_write(WriteBatch(rows))
    await backend.gateway_close()
    _damage(path)
    again = await opened(readers=1)
    with pytest.raises(StoreCorruptError, match="Restore a backup"):
        await again.gateway_get(TRADES, rows[0].tenant, [row.key for row in rows])
    looking = await opened(readers=1, read_only=True)
    assert not (await looking.gateway_health()).ok


@pytest.mark.parametrize(
    "content",
    [b"hello", b"this is a text file and no database\n" * 100, b"SQLite format 3\x00" + b"\xff" * 5000],
    ids=["short", "text", "noise"],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_left_alone(
    context: Callable[..., OpenContext], path: Path, content: bytes, read_only: bool
) -> None:
    """Something else under the store's name is refused and keeps every byte."""
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match="left as it is"):
        asyncio.run(open_store(context(read_only=read_only)))
    assert path.read_bytes() == content
    assert _names(path.parent) == [path.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("place", "mode"), [("directory", "write"), ("file", "write"), ("missing", "write")])
def test_no_permission_is_read_only(public_folder: Path, start: Start, place: str, mode: str) -> None:
    """A directory or a file of another user: the message says which, and nothing is created."""
    folder = public_folder
    if place != "missing":
        (folder / "gateway.db").touch(mode=0o644)
    if place == "file":
        folder.chmod(0o777)
    out, errors = start(AS_NOBODY, folder, mode).communicate(timeout=60)
    assert out.startswith("StoreReadOnlyError sqlite: "), out + errors
    wanted = {"directory": "gateway.db;", "file": "gateway.db;", "missing": "cannot create"}[place]
    assert wanted in out
    assert _names(folder) == ([] if place == "missing" else ["gateway.db"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.anyio
async def test_a_backup_in_a_directory_of_others_can_be_read(
    opened: Open, public_folder: Path, start: Start
) -> None:
    """Opened to be read only, a file in an unwritable directory is served, and stays alone there."""
    folder = public_folder
    backend = await opened(url=str(folder / "gateway.db"))
    await backend.gateway_close()
    (folder / "gateway.db").chmod(0o644)
    out, errors = start(AS_NOBODY, folder, "read").communicate(timeout=60)
    assert out == "opened True\n", out + errors
    assert _names(folder) == ["gateway.db"]


def _error(code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("what SQLite said")
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_IOERR_WRITE, StoreUnavailableError),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailableError),
        (sqlite3.SQLITE_INTERRUPT, StoreUnavailableError),
        (sqlite3.SQLITE_NOMEM, StoreUnavailableError),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreBusyError),
        (sqlite3.SQLITE_PROTOCOL, StoreBusyError),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreUnavailableError),
        (sqlite3.SQLITE_IOERR_SHMSIZE, StoreFullError),
        (sqlite3.SQLITE_CORRUPT_INDEX, StoreCorruptError),
        (sqlite3.SQLITE_TOOBIG, WriteRejectedError),
    ],
)
def test_rare_codes_are_sorted_too(code: int, kind: type[StoreError]) -> None:
    """Extended codes count as their primary code unless they mean something else."""
    error = translate(_error(code, "SQLITE_RARE"), "mine")
    assert type(error) is kind
    assert error.backend == "mine"
    assert "what SQLite said, SQLITE_RARE" in str(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.InterfaceError("unsupported type"), WriteRejectedError),
        (sqlite3.OperationalError("Could not decode to UTF-8 column"), StoreCorruptError),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), StoreUnavailableError),
    ],
)
def test_errors_of_the_driver_itself(error: sqlite3.Error, kind: type[StoreError]) -> None:
    """What the driver raises without asking SQLite has no code and is sorted by its class."""
    with pytest.raises(kind) as caught, translated("mine"):
        raise error
    assert caught.value.__cause__ is error


def test_other_errors_pass(path: Path) -> None:
    """Only SQLite's errors are translated; a fault of the caller stays what it is."""
    thrown: Any = ValueError("mine")
    with pytest.raises(ValueError, match="mine"), translated("x"):
        raise thrown
    assert not path.exists()
