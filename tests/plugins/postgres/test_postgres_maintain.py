"""Upkeep of PostgreSQL stores, beside bots: partitions, retention, vacuum; and what a login may not do is said."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from gateway.backend import OpenContext
from gateway.errors import StoreReadOnlyError, StoreUnavailableError
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.row import Row
from gateway.records.stamp import Stamper
from gateway_postgres.maintain import maintain
from tests.plugins.postgres.operating import TENANTS, context_of, fill, rows_of_two
from tests.servers import Database

BOOKS = next(kind for kind in BUILTIN_KINDS if kind.name == "order_book_snapshots")


@pytest.fixture
def context(prepared_database: Database) -> OpenContext:
    """The bot's login, and an operator who may do everything."""
    return context_of(prepared_database.app_url, prepared_database.superuser_url)


def _books(*ages: timedelta) -> list[Row]:
    now = datetime.now(UTC)
    return [
        Stamper(tenant).stamp(
            BOOKS, BOOKS.model.model_validate({"timestamp": now - age, "condition_id": "m"})
        )
        for tenant in TENANTS
        for age in ages
    ]


def _count(database: Database, table: str, where: str = "true") -> Any:
    return database.execute(f"SELECT count(*) FROM {table} WHERE {where}")[0][0]  # noqa: S608 - of this test


def test_there_is_nothing_to_do_in_a_new_store(context: OpenContext) -> None:
    """Nothing is due, and nothing is done."""
    assert maintain(context, True) == []
    assert maintain(context, False) == []


def test_old_rows_go_and_others_stay(context: OpenContext, prepared_database: Database) -> None:
    """Rows past retention are removed for all tenants, the last days' stay, and a dry run changes nothing."""
    assert BOOKS.retention is not None
    asyncio.run(
        fill(context, _books(BOOKS.retention + timedelta(days=2), BOOKS.retention - timedelta(days=2)))
    )
    due = maintain(context, True)
    assert any(one.startswith("would remove 2 rows of order_book_snapshots") for one in due)
    assert _count(prepared_database, "bots_core.order_book_snapshots") == 4
    assert any(one.startswith("removed 2 rows of order_book_snapshots") for one in maintain(context, False))
    assert _count(prepared_database, "bots_core.order_book_snapshots") == 2
    assert not any("rows of order_book" in one for one in maintain(context, True))


def test_partitions_that_were_lost_are_made_again(context: OpenContext, prepared_database: Database) -> None:
    """And rows that fell into the default partition meanwhile are moved to where they belong, of all tenants."""
    prepared_database.execute(
        *(
            f"DROP TABLE bots_core.{name}"
            for (name,) in prepared_database.execute(
                "SELECT name FROM gateway.partition_bounds('bots_core.trades'::regclass)"
            )
        )
    )
    rows = rows_of_two(5)
    asyncio.run(_fill_read_only_schema(context, rows))
    in_default = "tableoid = 'bots_core.trades_default'::regclass"
    before = _count(prepared_database, "bots_core.trades")
    prepared_database.execute("ANALYZE bots_core.trades")
    done = maintain(context, False)
    assert any("trades" in one for one in done)
    assert _count(prepared_database, "bots_core.trades", in_default) == 0
    assert _count(prepared_database, "bots_core.trades") == before
    assert maintain(context, True) == []


async def _fill_read_only_schema(context: OpenContext, rows: list[Row]) -> None:
    """Fill without making partitions ahead, which opening a store does: in one transaction of the operator."""
    from gateway_postgres.operators import connected
    from gateway_postgres.portable import write_all

    newest = {(row.kind.name, row.tenant, row.key): row for row in sorted(rows, key=lambda row: row.stamp)}
    with connected(context) as connection, connection.transaction():
        write_all(connection, sorted(newest.values(), key=lambda row: row.kind.name))


def test_worn_tables_are_vacuumed(context: OpenContext, prepared_database: Database) -> None:
    """Dead rows are gone afterwards."""
    asyncio.run(fill(context, rows_of_two(200)))
    prepared_database.execute("DELETE FROM bots_core.trades", "SELECT pg_stat_force_next_flush()")
    assert any("would vacuum and analyse bots_core.trades_p" in one for one in maintain(context, True))
    done = maintain(context, False)
    assert any(one.startswith("vacuumed and analysed bots_core.trades_p") for one in done)
    dead = "SELECT sum(n_dead_tup) FROM pg_stat_all_tables WHERE relname LIKE 'trades_p%'"
    assert prepared_database.execute("SELECT pg_stat_force_next_flush()", dead)[0][0] == 0
    assert maintain(context, True) == []


def test_a_table_in_use_is_left_for_the_next_run(context: OpenContext, prepared_database: Database) -> None:
    """Nobody is waited for, and it is no failure."""
    asyncio.run(fill(context, rows_of_two(200)))
    prepared_database.execute("DELETE FROM bots_core.trades", "SELECT pg_stat_force_next_flush()")
    with psycopg.connect(prepared_database.superuser_url) as other:
        other.execute("LOCK TABLE bots_core.trades IN SHARE UPDATE EXCLUSIVE MODE")
        done = maintain(context, False)
        assert any("alone, for it is in use" in one for one in done)
        other.rollback()
    assert any("vacuumed and analysed bots_core.trades_p" in one for one in maintain(context, False))


@pytest.fixture
def operator_url(prepared_database: Database) -> Iterator[str]:
    """The login that the documentation tells an operator to have: with the owner's rights, and in the admin group."""
    name = f"operator_{secrets.token_hex(4)}"
    prepared_database.execute(
        f"CREATE ROLE {name} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD '{name}' IN ROLE gateway_admin, gw_owner"
    )
    parts = urlsplit(prepared_database.superuser_url)
    yield parts._replace(netloc=f"{name}:{name}@{parts.netloc.rpartition('@')[2]}").geturl()
    prepared_database.execute(f"DROP ROLE {name}")


def test_the_documented_login_may_do_everything(prepared_database: Database, operator_url: str) -> None:
    """No superuser is needed: rows of all tenants go, and worn tables are vacuumed."""
    assert BOOKS.retention is not None
    context = context_of(prepared_database.app_url, operator_url)
    asyncio.run(fill(context, [*rows_of_two(200), *_books(BOOKS.retention + timedelta(days=2))]))
    prepared_database.execute("DELETE FROM bots_core.trades", "SELECT pg_stat_force_next_flush()")
    done = maintain(context, False)
    assert any(one.startswith("removed 2 rows of order_book_snapshots") for one in done)
    assert any(one.startswith("vacuumed and analysed bots_core.trades_p") for one in done)
    assert maintain(context, True) == []


@pytest.mark.parametrize("login", ["app_url", "owner_url", "admin_url"])
def test_what_a_login_may_not_do_is_an_error(prepared_database: Database, login: str) -> None:
    """It names what was left undone; what could be done was done."""
    assert BOOKS.retention is not None
    context = context_of(prepared_database.app_url, getattr(prepared_database, login))
    asyncio.run(fill(context, [*rows_of_two(200), *_books(BOOKS.retention + timedelta(days=2))]))
    prepared_database.execute("DELETE FROM bots_core.trades", "SELECT pg_stat_force_next_flush()")
    with pytest.raises(StoreReadOnlyError, match="STORAGE_POSTGRES_ADMIN_URL") as caught:
        maintain(context, False)
    seen = login == "admin_url"
    assert ("removed 2 rows" in str(caught.value)) is seen
    assert _count(prepared_database, "bots_core.order_book_snapshots") == (0 if seen else 2)


def test_a_server_that_is_away_is_an_error() -> None:
    """And not an empty list of things done."""
    with pytest.raises(StoreUnavailableError):
        maintain(context_of("postgresql://bot@127.0.0.1:1/none"), True)
