"""Backups of PostgreSQL stores: all tenants at one moment, exact, verified, and never over rows."""

from __future__ import annotations

import asyncio
import gzip
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.backend import OpenContext, WriteBatch
from gateway.dump import check_dump, rows_of, write_dump
from gateway.errors import (
    SchemaError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from gateway.records import TRADES, KindSpec, Row, Text, Time
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.kind import LogRecord
from gateway_postgres.backup import backup_of
from gateway_postgres.maintain import maintain
from gateway_postgres.operators import connected
from gateway_postgres.plugin import open_store
from gateway_postgres.schema import schema_of
from gateway_postgres.settings import PostgresSettings
from gateway_sqlite import backup as sqlite_backup
from gateway_sqlite.settings import SqliteSettings
from tests.plugins.postgres.operating import TENANTS, context_of, fill, rows_of_two
from tests.prepared import PreparedDatabases, make_schema
from tests.servers import Database, PgBouncer, TimescaleServer


class Parcel(LogRecord):
    """A kind that a bot declares itself."""

    at: Time
    label: Text


PARCELS = KindSpec("parcels", Parcel, time_field="at")


@pytest.fixture
def context(prepared_database: Database) -> OpenContext:
    """The bot's login, and an operator who is a member of the admin role."""
    return context_of(prepared_database.app_url, prepared_database.admin_url)


@pytest.fixture
def empty(prepared_databases: PreparedDatabases) -> Iterator[OpenContext]:
    """Another store with a schema and no rows."""
    with prepared_databases.fresh() as database:
        yield context_of(database.app_url, database.admin_url)


def _sorted(rows: Iterator[Row] | list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.kind.name, row.tenant, row.key))


def _last(rows: list[Row]) -> list[Row]:
    """Return what is stored after rows were written: the newest of each key."""
    newest: dict[tuple[str, str, object], Row] = {}
    for row in rows:
        place = (row.kind.name, row.tenant, row.key)
        if place not in newest or row.stamp > newest[place].stamp:
            newest[place] = row
    return _sorted(list(newest.values()))


@pytest.mark.anyio
async def test_every_row_of_every_tenant_comes_back_exactly(
    context: OpenContext, empty: OpenContext, tmp_path: Path
) -> None:
    """What is restored into another database is what was stored, digests, tombstones, odd JSON and all."""
    rows = rows_of_two()
    await fill(context, rows)
    target = tmp_path / "new" / "postgres-20261121T150102Z.jsonl.gz"
    made = backup_of(context).write(target)
    assert made.ok
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [file.name for file in target.parent.iterdir()] == [target.name]
    assert _sorted(rows_of(target, BUILTIN_KINDS)) == _last(rows)
    assert sum(made.rows.values()) == len(_last(rows))

    assert backup_of(empty).restore(target).rows == made.rows
    again = tmp_path / "again.jsonl.gz"
    backup_of(empty).write(again)
    assert _sorted(rows_of(again, BUILTIN_KINDS)) == _last(rows)


@pytest.mark.anyio
async def test_a_restored_log_keeps_to_its_newest_rows(
    context: OpenContext, empty: OpenContext, tmp_path: Path
) -> None:
    """A first write that is replayed after the restore, with another time, does not come back beside the newer row."""
    first, *_ = rows_of_two(1)
    later = first.values[1]
    assert isinstance(later, int)
    moved = first._replace(values=(first.values[0], later - 3_600_000_000, *first.values[2:]))
    from gateway.records.stamp import row_of

    newer = row_of(TRADES, first.tenant, first.version + 5, moved.values)
    await fill(context, [first, newer])
    target = tmp_path / "x.jsonl.gz"
    backup_of(context).write(target)
    backup_of(empty).restore(target)
    store = await open_store(empty)
    try:
        await store.gateway_write(WriteBatch([first]))
        assert await store.gateway_get(TRADES, first.tenant, [first.key]) == [newer]
    finally:
        await store.gateway_close()
    again = tmp_path / "again.jsonl.gz"
    assert backup_of(empty).write(again).rows["trades"] == 1


@pytest.mark.anyio
async def test_a_sqlite_store_restores_it_too(context: OpenContext, tmp_path: Path) -> None:
    """The rows are the same in another backend."""
    rows = rows_of_two()
    await fill(context, rows)
    source = tmp_path / "x.jsonl.gz"
    backup_of(context).write(source)
    beside = OpenContext("sqlite", SqliteSettings(), BUILTIN_KINDS, tmp_path)
    sqlite_backup.backup_of(beside).restore(source)
    copy = tmp_path / "copy.db"
    assert sqlite_backup.backup_of(beside).write(copy).rows == check_dump(source).rows


@pytest.mark.parametrize("login", ["owner_url", "app_url", "readonly_url"])
def test_a_login_that_does_not_see_all_rows_is_refused(
    prepared_database: Database, tmp_path: Path, login: str
) -> None:
    """Row security would leave rows out without a word, for the owner of the tables too."""
    context = context_of(prepared_database.app_url, getattr(prepared_database, login))
    with pytest.raises(StoreReadOnlyError, match="hides rows"):
        backup_of(context).write(tmp_path / "x.jsonl.gz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_a_policy_that_was_changed_is_noticed(prepared_database: Database, tmp_path: Path) -> None:
    """An admin policy that shows fewer rows than all, or a restrictive one, is no way to a whole backup."""
    context = context_of(prepared_database.app_url, prepared_database.admin_url)
    prepared_database.execute(
        f"ALTER POLICY admin_rows ON bots_core.trades USING (tenant_id = '{TENANTS[0]}')"
    )
    with pytest.raises(StoreReadOnlyError, match="trades"):
        backup_of(context).write(tmp_path / "x.jsonl.gz")
    prepared_database.execute(
        "ALTER POLICY admin_rows ON bots_core.trades USING (true)",
        "CREATE POLICY less ON bots_core.positions AS RESTRICTIVE USING (false)",
    )
    with pytest.raises(StoreReadOnlyError, match="positions"):
        backup_of(context).write(tmp_path / "x.jsonl.gz")
    as_superuser = context_of(prepared_database.app_url, prepared_database.superuser_url)
    assert backup_of(as_superuser).write(tmp_path / "x.jsonl.gz").ok


@pytest.mark.anyio
async def test_a_backup_is_of_one_moment(
    context: OpenContext, prepared_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written and removed while it is being made is not in it, and its sums agree."""
    await fill(context, rows_of_two(5))

    def interrupted(*arguments: object) -> object:
        prepared_database.execute(
            "DELETE FROM bots_core.trades", "UPDATE bots_core.positions SET digest = digest + 1"
        )
        return write_dump(*arguments)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr("gateway_postgres.backup.write_dump", interrupted)
    made = backup_of(context).write(tmp_path / "x.jsonl.gz")
    assert made.ok
    assert made.rows["trades"] == 10


@pytest.mark.anyio
async def test_damage_in_the_store_is_not_backed_up_in_silence(
    context: OpenContext, prepared_database: Database, tmp_path: Path
) -> None:
    """A row that does not give its digest makes the backup fail, and no file is left."""
    await fill(context, rows_of_two(5))
    prepared_database.execute("UPDATE bots_core.positions SET side = 'NO' WHERE condition_id = 'm0'")
    with pytest.raises(StoreCorruptError, match="digest"):
        backup_of(context).write(tmp_path / "x.jsonl.gz")
    assert list(await asyncio.to_thread(tmp_path.glob, "*")) == []


@pytest.mark.anyio
async def test_rows_are_never_written_over(context: OpenContext, tmp_path: Path) -> None:
    """A store with a single row refuses a restore."""
    rows = rows_of_two(2)
    await fill(context, rows)
    target = tmp_path / "x.jsonl.gz"
    backup_of(context).write(target)
    with pytest.raises(SchemaError, match="rows already"):
        backup_of(context).restore(target)
    backup_of(context).write(tmp_path / "again.jsonl.gz")
    assert _sorted(rows_of(tmp_path / "again.jsonl.gz", BUILTIN_KINDS)) == _last(rows)


def _edited(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"YES"', b'"NOO"') for line in lines]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "damage", [_edited, lambda lines: lines[:-1], lambda lines: [*lines[:2], *lines[3:]]]
)
async def test_a_damaged_backup_is_not_restored(
    context: OpenContext, empty: OpenContext, tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]]
) -> None:
    """The store stays empty."""
    await fill(context, rows_of_two(3))
    target = tmp_path / "x.jsonl.gz"
    backup_of(context).write(target)
    lines = gzip.decompress(target.read_bytes()).splitlines()
    target.write_bytes(gzip.compress(b"\n".join(damage(lines)) + b"\n"))
    assert not backup_of(empty).verify(target).ok
    with pytest.raises(StoreCorruptError):
        backup_of(empty).restore(target)
    assert sum(backup_of(empty).write(tmp_path / "y.jsonl.gz").rows.values()) == 0


def test_kinds_that_nobody_registered_are_not_lost(
    prepared_database: Database, empty: OpenContext, tmp_path: Path
) -> None:
    """Rows of an unknown kind stop a backup, and a restore; with the kind registered both work."""
    url, admin = prepared_database.app_url, prepared_database.superuser_url
    context, wider = context_of(url, admin), context_of(url, admin, kinds=(*BUILTIN_KINDS, PARCELS))
    schema_of(
        replace(wider, settings=wider.settings.model_copy(update={"admin_url": prepared_database.owner_url}))
    ).upgrade()
    assert backup_of(context).write(tmp_path / "without.jsonl.gz").ok
    prepared_database.execute(
        "INSERT INTO bots_core.parcels (tenant_id, version, digest, deleted, record_id, at, label) "
        "VALUES (gen_random_uuid(), 1, 1, false, 'x', now(), 'x')"
    )
    with pytest.raises(SchemaError, match="parcels"):
        backup_of(context).write(tmp_path / "x.jsonl.gz")
    prepared_database.execute("DELETE FROM bots_core.parcels")
    from gateway.records.stamp import Stamper
    from gateway_postgres.portable import write_all

    with connected(wider) as connection, connection.transaction():
        write_all(connection, [Stamper().stamp(PARCELS, Parcel(at=datetime.now(UTC), label="x"))])
    target = tmp_path / "wider.jsonl.gz"
    assert backup_of(wider).write(target).rows["parcels"] == 1
    assert backup_of(empty).verify(target).ok
    with pytest.raises(SchemaError, match="parcels"):
        backup_of(empty).restore(target)


@pytest.mark.anyio
async def test_two_rows_of_one_key_undo_the_whole_restore(empty: OpenContext, tmp_path: Path) -> None:
    """The message shows no value of a row, nor does the traceback."""
    import traceback

    from gateway.dump import DumpHeader, dumped, write_dump

    rows = rows_of_two(3)
    target = tmp_path / "x.jsonl.gz"
    write_dump(
        target, DumpHeader(datetime.now(UTC), "test", tuple(map(dumped, BUILTIN_KINDS))), [rows[0], rows[0]]
    )
    with pytest.raises(StoreError) as caught:
        backup_of(empty).restore(target)
    shown = "".join(traceback.format_exception(caught.value))
    assert str(rows[0].values[0]) not in shown
    assert sum(backup_of(empty).write(tmp_path / "y.jsonl.gz").rows.values()) == 0


def test_a_server_that_is_away_is_said(tmp_path: Path) -> None:
    """As the store being unavailable, without the password, and no file is left."""
    context = context_of("postgresql://bot:s3cret@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailableError) as caught:
        backup_of(context).write(tmp_path / "x.jsonl.gz")
    assert "s3cret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_it_works_through_a_pooler(
    prepared_database: Database, empty: OpenContext, pgbouncer: PgBouncer, tmp_path: Path
) -> None:
    """A backup and a restore are one transaction each, and keep nothing on the connection."""
    await fill(context_of(prepared_database.app_url), rows_of_two(3))
    admin = pgbouncer.url_of(prepared_database.admin_url)
    made = backup_of(context_of(prepared_database.app_url, admin)).write(tmp_path / "x.jsonl.gz")
    assert isinstance(empty.settings, PostgresSettings)
    through = {"admin_url": pgbouncer.url_of(str(empty.settings.admin_url))}
    settings = empty.settings.model_copy(update=through)
    assert backup_of(replace(empty, settings=settings)).restore(tmp_path / "x.jsonl.gz").rows == made.rows


def test_a_database_without_a_schema_is_said(postgres_database: Database, tmp_path: Path) -> None:
    """Rather than an empty backup."""
    with pytest.raises(SchemaError, match="upgrade"):
        backup_of(context_of(postgres_database.superuser_url)).write(tmp_path / "x.jsonl.gz")


@pytest.fixture
def hypertables(timescale: TimescaleServer) -> Iterator[OpenContext]:
    """A database with TimescaleDB, and an operator who may do everything."""
    database = timescale.database()
    try:
        make_schema(database)
        yield context_of(database.app_url, database.superuser_url)
    finally:
        database.drop()


@pytest.mark.anyio
async def test_hypertables_are_backed_up_like_tables(
    hypertables: OpenContext, empty: OpenContext, tmp_path: Path
) -> None:
    """Their chunks are no tables of unknown kinds; the rows go to a server without the extension, and back."""
    rows = rows_of_two(5)
    await fill(hypertables, rows)
    source, back = tmp_path / "x.jsonl.gz", tmp_path / "back.jsonl.gz"
    backup_of(hypertables).write(source)
    assert _sorted(rows_of(source, BUILTIN_KINDS)) == _last(rows)
    assert backup_of(empty).restore(source).ok
    backup_of(empty).write(back)
    with pytest.raises(SchemaError, match="rows already"):
        backup_of(hypertables).restore(back)
    with connected(hypertables) as connection:
        connection.execute("DELETE FROM bots_core.trades")
        connection.execute("DELETE FROM bots_core.positions")
        connection.execute("DELETE FROM gateway.moved_rows")
    assert backup_of(hypertables).restore(back).ok
    again = tmp_path / "again.jsonl.gz"
    backup_of(hypertables).write(again)
    assert _sorted(rows_of(again, BUILTIN_KINDS)) == _last(rows)
    maintain(hypertables, False)
    assert maintain(hypertables, True) == []
