"""Errors: what each of the server's means, in both drivers, and what is never shown."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import closing

import psycopg
import pytest

from gateway.errors import (
    SchemaError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreTimeoutError,
    StoreUnavailableError,
    WriteRejectedError,
)
from gateway_postgres.connections import Connection, Connector
from gateway_postgres.errors import lost_connection, translate, translated
from tests.servers import Database

MakeConnector = Callable[..., Connector]

STATES: dict[str, tuple[type[StoreError], bool]] = {
    "08006": (StoreUnavailableError, True),
    "22P02": (WriteRejectedError, False),
    "22003": (WriteRejectedError, False),
    "23505": (WriteRejectedError, False),
    "25006": (StoreReadOnlyError, False),
    "40001": (StoreBusyError, True),
    "40P01": (StoreBusyError, True),
    "42501": (StoreError, False),
    "42P01": (SchemaError, False),
    "42703": (SchemaError, False),
    "53100": (StoreFullError, False),
    "53200": (StoreBusyError, True),
    "53300": (StoreBusyError, True),
    "55P03": (StoreBusyError, True),
    "57014": (StoreTimeoutError, True),
    "57P01": (StoreUnavailableError, True),
    "57P03": (StoreUnavailableError, True),
    "58030": (StoreUnavailableError, True),
    "XX001": (StoreCorruptError, False),
    "P0001": (StoreError, False),
}
"""What the gateway makes of a state, and whether trying again can help."""


@pytest.fixture
async def connection(connector: MakeConnector) -> AsyncIterator[Connection]:
    """A connection of the application."""
    made = await connector().connect()
    yield made
    made.terminate()


def _raising(state: str) -> str:
    return (
        "DO $$ BEGIN RAISE EXCEPTION 'what happened' USING ERRCODE = "
        f"'{state}', DETAIL = 'Failing row contains (geheim).', HINT = 'geheim'; END $$"
    )


@pytest.mark.anyio
@pytest.mark.parametrize("state", STATES)
async def test_each_state_has_a_meaning(connection: Connection, state: str) -> None:
    """The server's states become the fitting errors, which name the store and the state."""
    kind, transient = STATES[state]
    with pytest.raises(StoreError) as caught, translated("pg"):
        await connection.execute(_raising(state))
    error = caught.value
    assert type(error) is kind
    assert error.transient is transient
    assert error.backend == "pg"
    assert state in str(error)
    assert str(error).startswith("pg: ")


def test_the_second_driver_means_the_same(postgres_database: Database) -> None:
    """Errors of psycopg for the same states become the same errors with the same advice."""
    with closing(psycopg.connect(postgres_database.app_url, autocommit=True)) as connection:
        for state, (kind, transient) in STATES.items():
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(_raising(state).encode())
            error = translate(caught.value, "pg")
            assert (type(error), error.transient) == (kind, transient), state


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (("gw_app:", "gw_app:falsch"), "compare user and password"),
        (("/{name}", "/no_such_base"), "no database of that name"),
    ],
)
def test_the_second_driver_names_the_same_causes(
    postgres_database: Database, parts: tuple[str, str], words: str
) -> None:
    """A login that libpq reports without a state is explained all the same."""
    old, new = parts
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(postgres_database.app_url.replace(old.format(name=postgres_database.name), new))
    assert words in str(translate(caught.value, "pg", user="gw_app"))


def test_a_server_that_is_down_is_the_same_to_the_second_driver() -> None:
    """Nothing listens: the store is unavailable, and trying again can help."""
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect("postgresql://u:geheim@127.0.0.1:1/d")
    error = translate(caught.value, "pg")
    assert isinstance(error, StoreUnavailableError)
    assert "geheim" not in str(error)


@pytest.mark.anyio
async def test_values_of_rows_are_not_shown(connection: Connection, postgres_database: Database) -> None:
    """Neither the error nor what it was raised from shows a value, in whatever part the server told it."""
    postgres_database.execute(
        "CREATE TABLE pile (n int PRIMARY KEY CHECK (n < 10))", "GRANT ALL ON pile TO gateway_app"
    )
    for statement in (
        "INSERT INTO pile VALUES (4711)",
        "INSERT INTO pile VALUES (1), (1)",
        "SELECT 'geheim'::int",
        _raising("23514"),
    ):
        with pytest.raises(WriteRejectedError) as caught, translated("pg"):
            await connection.execute(statement)
        shown = "".join(traceback.format_exception(caught.value))
        assert not [word for word in ("4711", "geheim", "(1)") if word in shown.replace(statement, "")]
    with pytest.raises(WriteRejectedError) as caught, translated("pg"):
        await connection.execute("SELECT $1::int", "geheim")
    assert "geheim" not in "".join(traceback.format_exception(caught.value)).replace('"geheim")', "")


@pytest.mark.anyio
async def test_a_missing_right_names_the_role(connection: Connection, postgres_database: Database) -> None:
    """Who lacks a right is named, and what to do depends on whether something was to be written."""
    postgres_database.execute("CREATE TABLE hidden (n int)")
    for writing, kind in ((False, StoreError), (True, StoreReadOnlyError)):
        with (
            pytest.raises(StoreError, match=r"'gw_app'.*gateway schema") as caught,
            translated("pg", user="gw_app", writing=writing),
        ):
            await connection.execute("SELECT * FROM hidden")
        assert type(caught.value) is kind


@pytest.mark.anyio
async def test_row_security_is_told_apart_from_missing_rights(
    connection: Connection, postgres_database: Database
) -> None:
    """A row that a policy refuses is that row's trouble and not the login's, though the state is the same."""
    postgres_database.execute(
        "CREATE TABLE mine (n int)",
        "ALTER TABLE mine ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY small ON mine USING (n < 5)",
        "GRANT ALL ON mine TO gateway_app",
    )
    with pytest.raises(WriteRejectedError, match="row level security"), translated("pg", writing=True):
        await connection.execute("INSERT INTO mine VALUES (7)")


@pytest.mark.anyio
async def test_a_deadlock_is_transient(connector: MakeConnector, postgres_database: Database) -> None:
    """Of two transactions that wait for each other one is told to try again, and the other is served."""
    postgres_database.execute(
        "CREATE TABLE pile (n int PRIMARY KEY)",
        "INSERT INTO pile VALUES (1), (2)",
        "GRANT ALL ON pile TO gateway_app",
    )
    both = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> StoreError | None:
        connection = await connector().connect()
        try:
            with translated("pg", writing=True):
                async with connection.transaction():
                    await _lock(connection, first)
                    await both.wait()
                    await _lock(connection, second)
        except StoreError as error:
            return error
        finally:
            await connection.close()
        return None

    one, other = await asyncio.gather(lock(1, 2), lock(2, 1))
    assert sorted((type(one), type(other)), key=str) == [type(None), StoreBusyError]


async def _lock(connection: Connection, number: int) -> None:
    await connection.execute("SELECT 1 FROM pile WHERE n = $1 FOR UPDATE", number)


@pytest.mark.anyio
async def test_too_many_connections_say_what_to_size(
    connector: MakeConnector, postgres_database: Database
) -> None:
    """A login with no connection left is told to size the pools, not to restart."""
    postgres_database.execute(f'ALTER DATABASE "{postgres_database.name}" CONNECTION LIMIT 1')
    held = await connector().connect()
    with pytest.raises(StoreBusyError, match="STORAGE_POSTGRES_POOL_SIZE") as caught:
        await connector().connect()
    assert caught.value.transient
    await held.close()


@pytest.mark.anyio
async def test_a_connection_that_the_server_ended_is_known_as_lost(
    connection: Connection, postgres_database: Database
) -> None:
    """However the end of a connection shows, another one may serve instead; a refused statement is no such end."""
    with pytest.raises(Exception, match="syntax") as refused:
        await connection.execute("SELEKT 1")
    assert not lost_connection(refused.value)
    postgres_database.execute(f"SELECT pg_terminate_backend({connection.get_server_pid()})")
    for _ in range(2):
        with pytest.raises(Exception, match=r".") as caught:
            await connection.execute("SELECT 1")
        assert lost_connection(caught.value)
        assert isinstance(translate(caught.value, "pg"), StoreUnavailableError)


def test_passwords_in_texts_are_hidden() -> None:
    """Whatever a driver quotes, the password of a URL in it is not passed on."""
    error = translate(OSError(5, "cannot open postgresql://u:geheim@h/d"), "pg")
    assert "geheim" not in str(error)
    assert "postgresql://u:***@h/d" in str(error)
