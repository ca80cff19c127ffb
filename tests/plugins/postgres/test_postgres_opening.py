"""Opening: what is looked at, what is refused without being touched, and what is made."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from gateway.backend import BackendSettings, Capability, OpenContext, WriteBatch
from gateway.errors import (
    ConfigurationError,
    SchemaError,
    SchemaTooNewError,
    StoreError,
    StoreReadOnlyError,
    StoreUnavailableError,
)
from gateway.records import TRADES, Row
from gateway_postgres.backend import PostgresBackend
from gateway_postgres.plugin import SPEC, gateway_backends, open_store
from tests.servers import Database, PgBouncer, PostgresServer

Context = Callable[..., OpenContext]
Open = Callable[[OpenContext], Awaitable[PostgresBackend]]
Trades = Callable[[int], list[Row]]

TABLES = "SELECT count(*) FROM pg_class WHERE relname = 'trades'"
OURS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def _pooled(backend: PostgresBackend) -> bool:
    return backend._connector.pooled


def test_the_plugin_brings_one_backend() -> None:
    """It is called postgres, answers to both schemes, and can do all that a store of rows can."""
    assert gateway_backends() == (SPEC,)
    assert SPEC.name == "postgres"
    assert SPEC.url_schemes == ("postgres", "postgresql")
    assert SPEC.capabilities == set(Capability) - {Capability.COLUMNS, Capability.SAMPLE}
    assert None not in (SPEC.schema, SPEC.backup, SPEC.examine, SPEC.maintain)


def test_the_plugin_is_imported_without_the_tools_of_the_operator() -> None:
    """A bot that opens a finished store never pays for SQLAlchemy, Alembic or the second driver."""
    code = (
        "import sys, gateway_postgres.plugin; "
        "print([name for name in ('sqlalchemy', 'alembic', 'psycopg') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.anyio
async def test_a_prepared_store_is_opened_written_and_read(
    context: Context, opened: Open, trades: Trades
) -> None:
    """The bot's login opens the store, writes and reads, and sees what another process wrote."""
    one, other = await opened(context()), await opened(context())
    rows = trades(3)
    await one.gateway_write(WriteBatch(rows))
    assert list(await other.gateway_get(TRADES, rows[0].tenant, [row.key for row in rows])) == rows


@pytest.mark.anyio
async def test_a_missing_schema_is_made_with_the_owners_login(
    context: Context, opened: Open, trades: Trades, postgres_database: Database
) -> None:
    """Where an admin URL is given, opening makes the tables, and the bot's login uses them."""
    made = context(url=postgres_database.app_url, admin_url=postgres_database.owner_url)
    backend, _ = await asyncio.gather(opened(made), opened(made))
    rows = trades(2)
    await backend.gateway_write(WriteBatch(rows))
    assert list(await backend.gateway_get(TRADES, rows[0].tenant, [rows[1].key])) == [rows[1]]
    assert postgres_database.execute(
        "SELECT DISTINCT tableowner FROM pg_tables WHERE tablename = 'trades'"
    ) == [("gw_owner",)]


@pytest.mark.anyio
async def test_a_login_that_may_not_make_the_schema_says_who_can(
    context: Context, opened: Open, postgres_database: Database
) -> None:
    """Without the owner's login the refusal names the command and the variable, and nothing is touched."""
    with pytest.raises(SchemaError, match=r"gateway schema upgrade.*STORAGE_POSTGRES_ADMIN_URL"):
        await opened(context(url=postgres_database.app_url))
    assert postgres_database.execute(TABLES) == [(0,)]
    assert postgres_database.execute(OURS) == [(0,)]


@pytest.mark.anyio
@pytest.mark.parametrize("options", [{"auto_schema": False}, {"read_only": True}])
async def test_a_schema_that_may_not_be_changed_is_not_made(
    context: Context, opened: Open, postgres_database: Database, options: dict[str, bool]
) -> None:
    """With auto_schema off, or opened to be read, a store without tables is refused."""
    url, admin = postgres_database.app_url, postgres_database.owner_url
    with pytest.raises(SchemaError, match="run `gateway schema upgrade`"):
        await opened(context(url=url, admin_url=admin, **options))
    assert postgres_database.execute(TABLES) == [(0,)]


@pytest.mark.anyio
async def test_a_newer_schema_is_refused(context: Context, opened: Open, prepared_database: Database) -> None:
    """What a newer gateway has made, an older one leaves alone, even as the owner."""
    prepared_database.execute("UPDATE gateway.alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNewError):
        await opened(context(admin_url=prepared_database.owner_url))


@pytest.mark.anyio
async def test_a_kind_without_a_table_is_missed(
    context: Context, opened: Open, prepared_database: Database
) -> None:
    """A table that was made for another declaration of a kind is not taken for the right one."""
    prepared_database.execute("DELETE FROM gateway.gateway_kinds WHERE name = 'trades'")
    with pytest.raises(SchemaError, match="trades"):
        await opened(context(auto_schema=False))


@pytest.mark.anyio
async def test_an_encoding_that_cannot_hold_every_text_is_refused(
    context: Context, opened: Open, postgres_server: PostgresServer, postgres_database: Database
) -> None:
    """A database in another encoding than UTF-8 is refused before anything is made in it."""
    name = f"{postgres_database.name}_ascii"
    postgres_server.execute(
        f"CREATE DATABASE \"{name}\" ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    try:
        with pytest.raises(ConfigurationError, match="ENCODING 'UTF8'"):
            await opened(context(url=postgres_server.url(name, "gw_app")))
    finally:
        postgres_server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.anyio
async def test_a_server_that_is_not_there_is_said_at_once(context: Context, opened: Open) -> None:
    """Opening does not wait for a server that nobody started."""
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            await opened(context(url="postgresql://u:pw@127.0.0.1:1/d"))


@pytest.mark.anyio
async def test_settings_of_another_backend_are_refused(context: Context) -> None:
    """A context that was made for another backend is a mistake of the caller's."""
    with pytest.raises(ConfigurationError, match="PostgresSettings"):
        await open_store(replace(context(), settings=BackendSettings()))


@pytest.mark.anyio
async def test_a_pooler_is_found(
    context: Context, opened: Open, prepared_database: Database, pgbouncer: PgBouncer
) -> None:
    """Directly no pooler is seen; through one it is, whatever number it makes up; a setting decides over both."""
    pooled = pgbouncer.url_of(prepared_database.app_url)
    assert not _pooled(await opened(context()))
    assert _pooled(await opened(context(url=pooled)))
    assert _pooled(await opened(context(pooler="yes")))
    assert _pooled(await opened(context(profile="pooler")))
    assert _pooled(await opened(context(url=prepared_database.app_url + "?pgbouncer=true")))
    assert not _pooled(await opened(context(url=pooled, pooler="no")))


@pytest.mark.anyio
async def test_the_profile_for_frozen_processes_keeps_no_connection(
    context: Context, opened: Open, trades: Trades, prepared_database: Database
) -> None:
    """After each operation nothing stays connected, and the next one connects anew."""
    backend = await opened(context(profile="serverless"))
    rows = trades(2)
    for row in rows:
        await backend.gateway_write(WriteBatch([row]))
        assert list(await backend.gateway_get(TRADES, row.tenant, [row.key])) == [row]
    await backend.gateway_close()
    assert prepared_database.execute(OURS) == [(0,)]


@pytest.mark.anyio
async def test_a_store_opened_to_be_read_takes_no_writes(
    context: Context, opened: Open, trades: Trades
) -> None:
    """It reads, refuses to write and to purge, and the server would refuse too."""
    rows = trades(1)
    writing = await opened(context())
    await writing.gateway_write(WriteBatch(rows))
    reading = await opened(context(read_only=True))
    assert list(await reading.gateway_get(TRADES, rows[0].tenant, [rows[0].key])) == rows
    with pytest.raises(StoreReadOnlyError):
        await reading.gateway_write(WriteBatch(trades(1)))
    assert (await reading.gateway_health()).ok


@pytest.mark.anyio
async def test_closing_leaves_no_connection(
    context: Context, opened: Open, trades: Trades, prepared_database: Database
) -> None:
    """After closing, the server has no connection of the store left, and every call raises."""
    backend = await opened(context())
    rows = trades(20)
    await asyncio.gather(
        *(backend.gateway_write(WriteBatch([row])) for row in rows),
        *(backend.gateway_get(TRADES, row.tenant, [row.key]) for row in rows),
    )
    await backend.gateway_close()
    await backend.gateway_close()
    assert prepared_database.execute(OURS) == [(0,)]
    with pytest.raises(StoreError):
        await backend.gateway_write(WriteBatch(rows))
    with pytest.raises(StoreError):
        await backend.gateway_get(TRADES, rows[0].tenant, [rows[0].key])


@pytest.mark.anyio
async def test_reads_during_a_close_end_or_raise(context: Context, opened: Open, trades: Trades) -> None:
    """A close in the middle of many calls answers each of them, and is over soon."""
    backend = await opened(context())
    rows = trades(1)
    await backend.gateway_write(WriteBatch(rows))
    reads = [
        asyncio.create_task(backend.gateway_get(TRADES, rows[0].tenant, [rows[0].key])) for _ in range(40)
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await backend.gateway_close()
        answers = await asyncio.gather(*reads, return_exceptions=True)
    assert all(isinstance(answer, StoreError) or answer == rows for answer in answers)


@pytest.mark.anyio
async def test_partitions_are_made_when_a_store_is_opened(
    context: Context, opened: Open, prepared_database: Database
) -> None:
    """Partitions that are missing ahead are there after opening, made by a login that may not make tables itself."""
    parts = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'trades_p%' ORDER BY relname"
    before = prepared_database.execute(parts)
    prepared_database.execute(f"DROP TABLE bots_core.{before[-1][0]}")
    backend = await opened(context())
    assert backend._chores is not None
    await backend._chores.finished()
    assert prepared_database.execute(parts) == before


@pytest.mark.anyio
async def test_partitions_that_cannot_be_made_cost_nothing_but_a_word(
    context: Context, opened: Open, trades: Trades, prepared_database: Database
) -> None:
    """The store opens and takes writes all the same, and its health says what is wrong."""
    prepared_database.execute("REVOKE ALL ON FUNCTION gateway.make_partitions() FROM PUBLIC, gateway_app")
    backend = await opened(context())
    assert backend._chores is not None
    await backend._chores.finished()
    rows = trades(1)
    await backend.gateway_write(WriteBatch(rows))
    health = await backend.gateway_health()
    assert health.ok
    assert "partitions could not be made" in health.summary
    assert "make_partitions" in str(health.details["partitions_error"])
