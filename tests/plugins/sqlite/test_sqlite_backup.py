"""Backups of SQLite files: of one moment, verified, and never over rows."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.backend import OpenContext, WriteBatch
from gateway.backups import listed
from gateway.dump import DumpHeader, dumped, write_dump
from gateway.errors import (
    SchemaError,
    SchemaTooNewError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from gateway.records import TRADES, KindSpec, Row, Text, Time
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.kind import LogRecord
from gateway.records.stamp import Stamper
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.backup import SqliteBackup, backup_of
from gateway_sqlite.schema import schema_of

BOT = """
import asyncio, sys
from datetime import UTC, datetime
from gateway import Gateway
async def main():
    async with Gateway("sqlite", environ={}, env_file=None, data_dir=sys.argv[1]) as gateway:
        number = 0
        while True:
            await gateway.insert_trade(record_id=f"t{number:06d}", timestamp=datetime.now(UTC), market_name="BTC",
                                       action="buy", side="YES", price="0.5", amount=number)
            number += 1
            if number % 50 == 0:
                print(number, flush=True)
asyncio.run(main())
"""


class Parcel(LogRecord):
    """A kind that a bot declares itself."""

    at: Time
    label: Text


PARCELS = KindSpec("parcels", Parcel, time_field="at")
MakeContext = Callable[..., OpenContext]
OpenStore = Callable[..., Awaitable[SqliteBackend]]


@pytest.fixture
def backup(context: MakeContext) -> SqliteBackup:
    """What backs up the store of the test."""
    return backup_of(context())


async def _fill(opened: OpenStore, rows: Sequence[Row]) -> None:
    store = await opened()
    await store.gateway_write(WriteBatch(rows))
    await store.gateway_close()


def _rows_in(path: Path, table: str = "trades") -> int:
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()  # noqa: S608 - of this test
        return int(found)


@pytest.mark.anyio
async def test_a_backup_restores_to_the_same_rows(
    backup: SqliteBackup, opened: OpenStore, trades: Callable[[int], list[Row]], position: Callable[..., Row],
    path: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """What is restored into a new place is what was stored, tombstones and all."""
    deleted = Stamper().tombstone(TRADES, ("gone",), 0)
    rows = [*trades(1500), position("m1"), deleted]
    await _fill(opened, rows)
    target = tmp_path / "backups" / "sqlite-20261121T150102Z.db"
    made = backup.write(target)
    assert made.ok
    assert (made.path, made.size) == (target, target.stat().st_size)
    assert {name: count for name, count in made.rows.items() if count} == {"trades": 1501, "positions": 1}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert backup.verify(target).rows == made.rows
    assert [file.name for file in target.parent.iterdir()] == [target.name]

    for file in path.parent.glob("gateway.db*"):
        file.unlink()
    assert backup.restore(target).rows == made.rows
    store = await opened()
    assert await store.gateway_get(
        TRADES, deleted.tenant, [row.key for row in rows if row.kind is TRADES]
    ) == [row for row in rows if row.kind is TRADES]


def test_a_backup_beside_a_writing_bot_is_of_one_moment(
    backup: SqliteBackup, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """While a bot writes, each backup holds its rows up to some moment, without a gap, and the bot goes on."""
    bot = start(BOT, tmp_path)
    assert bot.stdout is not None
    assert bot.stdout.readline()
    sizes = []
    for number in range(3):
        target = tmp_path / f"copy{number}.db"
        made = backup.write(target)
        with closing(sqlite3.connect(target)) as connection:
            ids = [name for (name,) in connection.execute("SELECT record_id FROM trades ORDER BY record_id")]
        assert ids == [f"t{one:06d}" for one in range(len(ids))]
        assert len(ids) == made.rows["trades"]
        sizes.append(len(ids))
        assert bot.stdout.readline(), "the bot has stopped"
    assert sizes[0] >= 50
    assert sizes == sorted(set(sizes)), "the bot wrote nothing meanwhile"
    assert bot.poll() is None


@pytest.mark.anyio
async def test_damage_in_the_store_is_not_backed_up_in_silence(
    backup: SqliteBackup, opened: OpenStore, trades: Callable[[int], list[Row]], path: Path, tmp_path: Path
) -> None:
    """A row that does not give its digest makes the backup fail, and no file is left."""
    await _fill(opened, trades(3))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE trades SET price = '9.9' WHERE rowid = 2")
    with pytest.raises(StoreCorruptError, match="digest"):
        backup.write(tmp_path / "b" / "copy.db")
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.anyio
async def test_a_damaged_backup_is_found_and_not_restored(
    backup: SqliteBackup, opened: OpenStore, trades: Callable[[int], list[Row]], path: Path, tmp_path: Path
) -> None:
    """An edited row, and pages that were overwritten, are problems; nothing is made of such a backup."""
    await _fill(opened, trades(300))
    backup.write(tmp_path / "edited.db")
    backup.write(tmp_path / "torn.db")
    with closing(sqlite3.connect(tmp_path / "edited.db")) as connection, connection:
        connection.execute("UPDATE trades SET market_name = 'ETH' WHERE rowid = 5")
        connection.execute("UPDATE trades SET digest = 'text' WHERE rowid = 6")
    problems = backup.verify(tmp_path / "edited.db").problems
    assert len([one for one in problems if "does not give its digest" in one]) == 2
    with (tmp_path / "torn.db").open("r+b") as file:
        file.seek(8 * 4096)
        file.write(os.urandom(4096 * 3))
    assert backup.verify(tmp_path / "torn.db").problems
    (tmp_path / "cut.db").write_bytes((tmp_path / "edited.db").read_bytes()[: 4096 * 6])
    assert "read to its end" in backup.verify(tmp_path / "cut.db").problems[0]
    for name in ("edited.db", "torn.db", "cut.db"):
        for old in path.parent.glob("gateway.db*"):
            old.unlink()
        with pytest.raises(StoreCorruptError):
            backup.restore(tmp_path / name)
    assert list(path.parent.glob("gateway.db*")) == []


@pytest.mark.anyio
async def test_rows_are_never_written_over(
    backup: SqliteBackup, opened: OpenStore, trades: Callable[[int], list[Row]], path: Path, tmp_path: Path
) -> None:
    """A store with rows refuses a restore and keeps them; one without takes it, also while it is open."""
    await _fill(opened, trades(5))
    target = tmp_path / "copy.db"
    backup.write(target)
    with pytest.raises(SchemaError, match="holds rows"):
        backup.restore(target)
    assert _rows_in(path) == 5
    with pytest.raises(StoreReadOnlyError, match="itself"):
        backup.restore(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM trades")
    store = await opened()
    backup.restore(target)
    assert (await store.gateway_health()).ok
    assert _rows_in(path) == 5


def test_kinds_that_nobody_registered_are_not_lost(context: MakeContext, path: Path, tmp_path: Path) -> None:
    """Their rows are in the copy and are said to be unchecked; a restore that would lose them is refused."""
    with_parcels = replace(context(), kinds=(*BUILTIN_KINDS, PARCELS))
    schema_of(with_parcels).upgrade()
    row = Stamper().stamp(PARCELS, Parcel(at=datetime(2026, 1, 1, tzinfo=UTC), label="x"))
    names = ", ".join(("tenant_id", "version", "digest", "deleted", *PARCELS.field_names))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"INSERT INTO parcels ({names}) VALUES (?, ?, ?, 0, ?, ?, ?)",  # noqa: S608 - names of a kind
            (row.tenant, row.version, row.digest, *row.values),
        )
    target = tmp_path / "copy.db"
    assert backup_of(context()).write(target).unchecked == ("parcels",)
    assert backup_of(with_parcels).verify(target).unchecked == ()
    for file in path.parent.glob("gateway.db*"):
        file.unlink()
    with pytest.raises(SchemaError, match="parcels"):
        backup_of(context()).restore(target)
    assert backup_of(with_parcels).restore(target).rows["parcels"] == 1
    assert _rows_in(path, "parcels") == 1


@pytest.mark.anyio
async def test_a_backup_of_fewer_fields_is_restored(
    backup: SqliteBackup, opened: OpenStore, trades: Callable[[int], list[Row]], path: Path, tmp_path: Path
) -> None:
    """A copy made before a kind gained a field verifies and is restored; the field is empty."""
    await _fill(opened, trades(2))
    last = TRADES.fields[-1].name
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"ALTER TABLE trades DROP COLUMN {last}")
    assert backup.write(tmp_path / "old.db").rows["trades"] == 2
    for file in path.parent.glob("gateway.db*"):
        file.unlink()
    assert backup.restore(tmp_path / "old.db").ok
    assert _rows_in(path) == 2


@pytest.mark.anyio
async def test_a_backup_in_rows_is_restored_too(
    backup: SqliteBackup, opened: OpenStore, trades: Callable[[int], list[Row]], path: Path, tmp_path: Path
) -> None:
    """What another backend wrote comes back exactly; two rows of one key in it undo everything."""
    rows = trades(600)
    header = DumpHeader(datetime.now(UTC), "elsewhere", tuple(map(dumped, BUILTIN_KINDS)))
    source = tmp_path / "rows.jsonl.gz"
    write_dump(source, header, rows)
    assert backup.takes(source)
    backup.restore(source)
    store = await opened()
    assert await store.gateway_get(TRADES, rows[0].tenant, [row.key for row in rows]) == rows
    await store.gateway_close()

    for file in path.parent.glob("gateway.db*"):
        file.unlink()
    write_dump(source, header, [*rows, rows[0]])
    with pytest.raises(StoreCorruptError, match="not what the backup holds"):
        backup.restore(source)
    assert _rows_in(path) == 0


def test_what_is_no_backup_is_refused(backup: SqliteBackup, context: MakeContext, tmp_path: Path) -> None:
    """Text, a strange database, a missing file, a newer store and a store in use: each with its reason."""
    (tmp_path / "text").write_text("no database")
    assert not backup.takes(tmp_path / "text")
    with pytest.raises(StoreCorruptError, match="no backup"):
        backup.verify(tmp_path / "text")
    with closing(sqlite3.connect(tmp_path / "strange.db")) as connection, connection:
        connection.execute("CREATE TABLE trades (a)")
    with pytest.raises(StoreCorruptError, match="no store of the gateway"):
        backup.verify(tmp_path / "strange.db")
    with pytest.raises(StoreError, match="missing"):
        backup.takes(tmp_path / "missing.db")
    with pytest.raises(StoreUnavailableError, match="no store"):
        backup.write(tmp_path / "copy.db")
    schema_of(context()).upgrade()
    backup.write(tmp_path / "newer.db")
    shutil.copy(tmp_path / "newer.db", tmp_path / "used.db")
    (tmp_path / "used.db-wal").write_bytes(b"")
    with pytest.raises(StoreUnavailableError, match="in use"):
        backup.verify(tmp_path / "used.db")
    with closing(sqlite3.connect(tmp_path / "newer.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNewError):
        backup.verify(tmp_path / "newer.db")


KILLED = """
import os, signal, sys
from pathlib import Path
import gateway_sqlite.backup as module
from gateway.backend import OpenContext
from gateway.records.builtin import BUILTIN_KINDS
from gateway_sqlite.settings import SqliteSettings
real, calls = module._insert, 0
def insert(connection, rows):
    global calls
    calls += 1
    real(connection, rows)
    if calls == 2:
        os.kill(os.getpid(), signal.SIGKILL)
module._insert = insert
context = OpenContext("sqlite", SqliteSettings(), BUILTIN_KINDS, Path(sys.argv[1]))
module.backup_of(context).restore(Path(sys.argv[2]))
"""


@pytest.mark.anyio
async def test_a_killed_restore_leaves_nothing(
    backup: SqliteBackup, opened: OpenStore, trades: Callable[[int], list[Row]], path: Path, tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
) -> None:  # fmt: skip
    """Half a restore is none: the store is empty, and the restore can be repeated."""
    await _fill(opened, trades(1500))
    backup.write(tmp_path / "copy.db")
    for file in path.parent.glob("gateway.db*"):
        file.unlink()
    child = start(KILLED, tmp_path, tmp_path / "copy.db")
    assert child.wait() == -signal.SIGKILL
    assert _rows_in(path) == 0
    assert backup.restore(tmp_path / "copy.db").rows["trades"] == 1500


HELD = """
import sys
from pathlib import Path
import gateway_sqlite.backup as module
from gateway.backend import OpenContext
from gateway.records.builtin import BUILTIN_KINDS
from gateway_sqlite.settings import SqliteSettings
real = module.Copy.check
def check(*arguments):
    print("copied", flush=True)
    sys.stdin.readline()
    return real(*arguments)
module.Copy.check = check
context = OpenContext("sqlite", SqliteSettings(), BUILTIN_KINDS, Path(sys.argv[1]))
module.backup_of(context).write(Path(sys.argv[2]))
"""


@pytest.mark.anyio
async def test_a_killed_backup_leaves_nothing_that_looks_like_one(
    backup: SqliteBackup, opened: OpenStore, trades: Callable[[int], list[Row]], tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
) -> None:  # fmt: skip
    """What was copied and not verified has no name that anybody would restore, and the store is free."""
    await _fill(opened, trades(20))
    target = tmp_path / "b" / "sqlite-20261121T150102Z.db"
    child = start(HELD, tmp_path, target)
    assert child.stdout is not None
    assert child.stdout.readline() == "copied\n"
    child.kill()
    assert child.wait() == -signal.SIGKILL
    left = [file.name for file in target.parent.iterdir()]
    assert left
    assert listed(left) == []
    await _fill(opened, trades(1))
    assert backup.write(target).rows["trades"] == 21


def test_a_store_that_is_missing_makes_no_directory(backup: SqliteBackup, tmp_path: Path) -> None:
    """Nothing is left of a backup that could not begin."""
    with pytest.raises(StoreUnavailableError, match="no store"):
        backup.write(tmp_path / "b" / "copy.db")
    assert list(tmp_path.iterdir()) == []
