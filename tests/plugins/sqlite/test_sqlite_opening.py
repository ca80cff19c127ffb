"""Opening: what is looked at, what is refused without being touched, and what is created."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.backend import BackendSettings, Capability, OpenContext, WriteBatch
from gateway.errors import (
    ConfigurationError,
    SchemaError,
    SchemaTooNewError,
    StoreBusyError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from gateway.records import TRADES, KindSpec, LogRecord, Row, Text, Time
from gateway_sqlite import plugin
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.plugin import SPEC, gateway_backends, open_store

Context = Callable[..., OpenContext]
Open = Callable[..., Awaitable[SqliteBackend]]
Trades = Callable[[int], list[Row]]


class Parcel(LogRecord):
    """A kind that a bot brings."""

    at: Time
    label: Text


PARCELS = KindSpec("parcels", Parcel, time_field="at")


def _open_and_close(context: OpenContext) -> None:
    async def go() -> None:
        backend = await open_store(context)
        await backend.gateway_close()

    asyncio.run(go())


def _refused(context: OpenContext, kind: type[StoreError], match: str, path: Path) -> None:
    """Opening raises, and neither the file nor its directory changes."""
    before = path.read_bytes() if path.exists() else None
    names = sorted(entry.name for entry in path.parent.iterdir())
    with pytest.raises(kind, match=match):
        _open_and_close(context)
    assert (path.read_bytes() if path.exists() else None) == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == names


def _execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_the_plugin_brings_one_backend() -> None:
    """It is called sqlite, and declares what it can do."""
    assert gateway_backends() == (SPEC,)
    assert SPEC.name == "sqlite"
    assert SPEC.url_schemes == ("sqlite",)
    assert SPEC.capabilities == set(Capability) - {Capability.COLUMNS, Capability.SAMPLE}


def test_opening_creates_a_private_file(context: Context, path: Path) -> None:
    """The file, the log and the directories that were missing are the owner's alone."""
    place = path.parent / "new" / "deeper" / "x.db"

    async def go() -> list[int]:
        backend = await open_store(context(url=str(place)))
        modes = [entry.stat().st_mode & 0o077 for entry in place.parent.iterdir()]
        await backend.gateway_close()
        return modes

    assert asyncio.run(go()) == [0, 0, 0], "the file, the log and its index"
    assert [entry.name for entry in place.parent.iterdir()] == ["x.db"], "closing tidies up"


def test_opening_again_needs_no_alembic(context: Context, path: Path) -> None:
    """Once the schema is there, opening imports neither SQLAlchemy nor Alembic, which would cost 0.3 s."""
    _open_and_close(context())
    code = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from gateway.backend import OpenContext\nfrom gateway.records.builtin import BUILTIN_KINDS\n"
        "from gateway_sqlite.plugin import SPEC\n"
        "context = OpenContext('sqlite', SPEC.settings(), BUILTIN_KINDS, Path(sys.argv[1]))\n"
        "async def go():\n    backend = await SPEC.open(context)\n    await backend.gateway_close()\n"
        "asyncio.run(go())\n"
        "print(sorted({'sqlalchemy', 'alembic'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path.parent)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_a_missing_store_cannot_be_read(context: Context, path: Path) -> None:
    """Read-only opening creates nothing and says that there is no store."""
    _refused(context(read_only=True), StoreUnavailableError, "there is no store at", path)


def test_a_newer_schema_is_not_touched(context: Context, path: Path) -> None:
    """An older gateway keeps its hands off, whether it came to write or to read."""
    _open_and_close(context())
    _execute(path, "UPDATE alembic_version SET version_num = '0042'")
    for read_only in (False, True):
        _refused(
            context(read_only=read_only), SchemaTooNewError, r"sqlite: .*0042.*upgrade storage-gateway", path
        )


def test_a_look_reads_what_is_still_in_the_log(context: Context, path: Path) -> None:
    """A store that a killed process left behind is judged by its log too, which may hold the newer schema."""
    _open_and_close(context())
    code = (
        "import os, signal, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute(\"UPDATE alembic_version SET version_num = '0042'\")\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -9
    assert path.with_name("gateway.db-wal").exists()
    _refused(context(), SchemaTooNewError, "0042", path)


def test_an_old_schema_is_not_upgraded_where_that_is_switched_off(context: Context, path: Path) -> None:
    """Without auto_schema the message names the command."""
    path.touch()
    _refused(context(auto_schema=False), SchemaError, "no schema yet; run `gateway schema upgrade`", path)
    _refused(context(read_only=True), SchemaError, "gateway schema upgrade", path)


def test_a_new_kind_gets_its_table(context: Context, path: Path) -> None:
    """A kind registered since the last opening finds its table; a reader without the right to make it says so."""
    _open_and_close(context())
    more = replace(context(), kinds=(*context().kinds, PARCELS))
    _refused(replace(more, read_only=True), SchemaError, "not up to date for parcels", path)
    _open_and_close(more)
    _open_and_close(replace(more, read_only=True))


def test_a_kind_that_changed_its_key_is_refused(context: Context, path: Path) -> None:
    """A table that no longer fits is left as it is."""
    _open_and_close(replace(context(), kinds=(PARCELS,)))
    _execute(path, "DROP TABLE parcels")
    _execute(path, "CREATE TABLE parcels (tenant_id TEXT, record_id TEXT PRIMARY KEY)")
    _execute(path, "DELETE FROM gateway_kinds")
    _refused(replace(context(), kinds=(PARCELS,)), SchemaError, "keyed by record_id", path)


def test_a_directory_is_no_store(context: Context, path: Path) -> None:
    """A path that is a directory, or leads through a file, is named."""
    path.mkdir()
    with pytest.raises(StoreUnavailableError, match="is a directory"):
        _open_and_close(context())
    blocked = path.parent / "file"
    blocked.touch()
    with pytest.raises(StoreError, match="cannot create"):
        _open_and_close(context(url=str(blocked / "x.db")))


def test_other_settings_are_refused(context: Context) -> None:
    """A context of another backend is a mistake of the caller."""
    with pytest.raises(ConfigurationError, match="SqliteSettings"):
        _open_and_close(replace(context(), settings=BackendSettings()))


@pytest.mark.anyio
async def test_reading_only_reads(opened: Open, trades: Trades) -> None:
    """A read-only store answers and refuses to write or purge; a live writer beside it goes on."""
    writer = await opened()
    rows = trades(3)
    await writer.gateway_write(WriteBatch(rows[:2]))
    reader = await opened(read_only=True)
    assert await reader.gateway_get(TRADES, rows[0].tenant, [row.key for row in rows]) == [*rows[:2], None]
    await writer.gateway_write(WriteBatch(rows[2:]))
    assert await reader.gateway_get(TRADES, rows[0].tenant, [row.key for row in rows]) == rows
    with pytest.raises(StoreReadOnlyError, match="opened to be read only"):
        await reader.gateway_write(WriteBatch(rows))
    assert (await reader.gateway_health()).ok


@pytest.mark.anyio
async def test_settings_reach_the_connections(opened: Open) -> None:
    """Each setting is in force on the connection it is meant for."""
    backend = await opened(
        synchronous="FULL", busy_timeout=1.5, cache_kib=1000, wal_autocheckpoint=50, readers=3
    )

    def pragmas(connection: sqlite3.Connection) -> dict[str, object]:
        names = (
            "synchronous",
            "busy_timeout",
            "cache_size",
            "wal_autocheckpoint",
            "journal_mode",
            "query_only",
        )
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    assert await backend._writing().run(pragmas) == {
        "synchronous": 2,
        "busy_timeout": 1500,
        "cache_size": -1000,
        "wal_autocheckpoint": 200,
        "journal_mode": "wal",
        "query_only": 0,
    }
    reader = await backend._readers.run(pragmas)
    assert (reader["query_only"], reader["busy_timeout"]) == (1, 1500)
    assert len(backend._readers._connections) == 3


@pytest.mark.anyio
async def test_the_log_has_its_length_from_the_start(opened: Open, path: Path, trades: Trades) -> None:
    """The log file is grown once, without a trace in the store, and is gone after closing."""
    backend = await opened(wal_autocheckpoint=300)
    log = path.with_name("gateway.db-wal")
    assert await asyncio.to_thread(lambda: log.stat().st_size) >= 300 * 4096
    names = await backend._readers.run(
        lambda connection: [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    )
    assert "trades" in names
    assert "gateway_filler" not in names
    await backend.gateway_write(WriteBatch(trades(1)))
    await backend.gateway_close()
    assert not await asyncio.to_thread(log.exists)


@pytest.mark.anyio
async def test_a_busy_store_can_be_opened(opened: Open, trades: Trades) -> None:
    """Another writer in the middle of a transaction does not keep the store from opening."""
    first = await opened()
    await first._writing().run(sqlite3.Connection.execute, "BEGIN IMMEDIATE")
    second = await opened(busy_timeout=0.05, wal_autocheckpoint=5000)
    with pytest.raises(StoreBusyError):
        await second.gateway_write(WriteBatch(trades(1)))
    await first._writing().run(sqlite3.Connection.execute, "ROLLBACK")


def test_a_failure_while_connecting_leaves_nothing_open(context: Context, path: Path) -> None:
    """When a later connection cannot be opened, the earlier ones are closed again."""
    _open_and_close(context())

    async def go() -> None:
        def broken(*_: object, **__: object) -> Callable[[], sqlite3.Connection]:
            return lambda: sqlite3.connect(f"file:{path.parent}/none/x.db?mode=ro", uri=True)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plugin, "reader_connector", broken)
            with pytest.raises(StoreUnavailableError, match="sqlite: "):
                await open_store(context())

    asyncio.run(go())
    assert [entry.name for entry in path.parent.iterdir()] == ["gateway.db"], "the last one closed tidied up"
