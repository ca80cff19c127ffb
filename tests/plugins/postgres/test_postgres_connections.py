"""Connections: what is set on them, what becomes of those that fail, and that callers never share a transaction."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.errors import (
    ConfigurationError,
    GatewayError,
    InvalidRecordError,
    StoreBusyError,
    StoreError,
    StoreReadOnlyError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from gateway_postgres.connections import Connection, Connector, Writer
from gateway_postgres.pools import Readers
from tests.servers import Database, PgBouncer, PostgresServer

MakeConnector = Callable[..., Connector]
MakeWriter = Callable[..., Awaitable[Writer]]
MakeReaders = Callable[..., Awaitable[Readers]]

pytestmark = pytest.mark.anyio

PID = "SELECT pg_backend_pid()"
TENANT = "SELECT current_setting('app.tenant_id', true)"


@pytest.fixture(autouse=True)
def pile(postgres_database: Database) -> None:
    """A table that the application may write."""
    postgres_database.execute(
        "CREATE TABLE pile (n int PRIMARY KEY, tag text)", "GRANT ALL ON pile TO gateway_app"
    )


async def _pid(connection: Connection) -> int:
    return int(await connection.fetchval(PID))


async def _insert(connection: Connection, number: int) -> None:
    await connection.execute("INSERT INTO pile VALUES ($1) ON CONFLICT DO NOTHING", number)


def _piled(database: Database) -> list[int]:
    return [row[0] for row in database.execute("SELECT n FROM pile ORDER BY n")]


async def _blocked(database: Database) -> None:
    """Return once a connection waits for a lock."""
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while not await asyncio.to_thread(database.execute, query):
        pass


# --- connections -----------------------------------------------------------------------------------------------


async def test_times_are_microseconds_both_ways(connector: MakeConnector) -> None:
    """Times go in and come out as whole microseconds since 1970, alone and in arrays, without loss."""
    connection = await connector().connect()
    for micros in (0, 1, -1, 1_700_000_000_123_456, -62_135_596_800_000_000, 253_402_300_799_999_999):
        assert await connection.fetchval("SELECT $1::timestamptz", micros) == micros
    assert await connection.fetchval("SELECT $1::timestamptz[]", [5, None]) == [5, None]
    assert await connection.fetchval("SELECT '1970-01-01 00:00:01+00'::timestamptz") == 1_000_000
    await connection.close()


async def test_the_server_sees_who_is_connected(connector: MakeConnector) -> None:
    """The server's list of connections names the gateway and the store, or what the URL says instead."""
    connection = await connector().connect()
    assert await connection.fetchval("SHOW application_name") == "storage-gateway pg"
    await connection.close()


async def test_a_read_only_store_cannot_write(connector: MakeConnector) -> None:
    """The server itself refuses writes on the connections of a store that was opened to be read."""
    connection = await connector(read_only=True).connect()
    assert await connection.fetchval("SHOW transaction_read_only") == "on"
    await connection.close()


async def test_of_several_servers_the_one_that_takes_writes_is_used(
    connector: MakeConnector, postgres_database: Database, postgres_server: PostgresServer
) -> None:
    """A server that is not there is passed over, without a word from the caller."""
    url = postgres_database.app_url.replace(
        f"@{postgres_server.host}", f"@{postgres_server.host}:1,{postgres_server.host}"
    )
    connection = await connector(url=url).connect()
    assert await _pid(connection)
    await connection.close()


async def test_attempts_at_a_server_that_is_down_are_spaced_out(connector: MakeConnector) -> None:
    """Each failure is told at once, and the next attempt begins only after a pause that grows."""
    opens = connector(url="postgresql://u:pw@127.0.0.1:1/d")
    begun = asyncio.get_running_loop().time()
    for _ in range(4):
        with pytest.raises(StoreUnavailableError):
            await opens.connect()
    # Three pauses of 0.1, 0.2 and 0.4 s, each shortened by half at most.
    assert asyncio.get_running_loop().time() - begun >= 0.35


# --- the writer ------------------------------------------------------------------------------------------------


async def test_the_writer_keeps_its_connection(writer: MakeWriter) -> None:
    """Call after call uses one connection, also when the server refused one of them."""
    held = await writer()
    first = await held.run(_pid)
    with pytest.raises(StoreError):
        await held.run(lambda connection: connection.execute("SELECT 1/0"))
    with pytest.raises(StoreError):
        await held.run(_fail_in_transaction)
    assert await held.run(_pid) == first


async def _fail_in_transaction(connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute("SELECT no_such_column")


async def test_writers_take_turns(writer: MakeWriter, postgres_database: Database) -> None:
    """Many callers at once are served one after the other, and each gets its own answer."""
    held = await writer()

    async def double(connection: Connection, number: int) -> int:
        await _insert(connection, number)
        return int(await connection.fetchval("SELECT $1::int * 2", number))

    answers = await asyncio.gather(*(held.run(double, number) for number in range(50)))
    assert answers == [number * 2 for number in range(50)]
    assert _piled(postgres_database) == list(range(50))


async def test_a_transaction_left_open_does_not_reach_the_next_caller(
    writer: MakeWriter, postgres_database: Database
) -> None:
    """A call that fails with its transaction open costs the connection; what it wrote is rolled back."""
    held = await writer()

    async def leave_open(connection: Connection) -> None:
        await connection.execute("BEGIN")
        await _insert(connection, 1)
        raise InvalidRecordError("stop")

    with pytest.raises(InvalidRecordError):
        await held.run(leave_open)
    await held.run(_insert, 2)
    assert _piled(postgres_database) == [2]


async def test_a_cancelled_write_is_ended_on_the_server(
    writer: MakeWriter, postgres_database: Database
) -> None:
    """A write that waits for a lock and is cancelled does not go on waiting in the server, nor happen later."""
    held, other = await writer(), await writer()
    locked, release = asyncio.Event(), asyncio.Event()

    async def hold(connection: Connection) -> None:
        async with connection.transaction():
            await connection.execute("LOCK TABLE pile IN ACCESS EXCLUSIVE MODE")
            locked.set()
            await release.wait()

    holding = asyncio.create_task(other.run(hold))
    await locked.wait()
    waiting = asyncio.create_task(held.run(_insert, 1))
    await _blocked(postgres_database)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    await holding
    await held.run(_insert, 2)
    assert _piled(postgres_database) == [2]


async def test_a_statement_that_takes_too_long_is_given_up(
    writer: MakeWriter, connector: MakeConnector, postgres_database: Database
) -> None:
    """After the command timeout the caller gets a transient error, and the next call is served."""
    held = await writer(connector(command_timeout=0.2))
    with pytest.raises(StoreTimeoutError):
        await held.run(lambda connection: connection.execute("SELECT pg_sleep(60)"))
    await held.run(_insert, 1)
    assert _piled(postgres_database) == [1]
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
    )
    assert postgres_database.execute(query) == [(0,)]


async def test_a_lost_connection_is_replaced(writer: MakeWriter, postgres_database: Database) -> None:
    """When the server ends a connection, one call may fail with a transient error, and the next one is served."""
    held = await writer()
    pid = await held.run(_pid)
    postgres_database.execute(f"SELECT pg_terminate_backend({pid})")
    # Whether the end was noticed before the next call depends on which comes first.
    with contextlib.suppress(StoreUnavailableError):
        assert await held.run(_pid) != pid
    assert await held.run(_pid) != pid


async def test_a_writer_that_keeps_nothing_leaves_nothing(
    writer: MakeWriter, postgres_database: Database
) -> None:
    """Without a pool each round of calls opens a connection and closes it; callers in a row share one."""
    held = await writer(keep=False)
    pids = set(await asyncio.gather(*(held.run(_pid) for _ in range(5))))
    assert len(pids) == 1
    assert await held.run(_pid) not in pids
    await held.close()
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'storage-gateway pg'"
    assert postgres_database.execute(query) == [(0,)]


async def test_a_closed_writer_refuses(writer: MakeWriter) -> None:
    """After closing, which may be done twice, calls raise and do not connect again."""
    held = await writer()
    await held.run(_pid)
    await held.close()
    await held.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await held.run(_pid)


async def test_closing_does_not_wait_for_ever(writer: MakeWriter, connector: MakeConnector) -> None:
    """A call that is stuck in the server cannot hold up the end of a bot."""
    held = await writer(connector(command_timeout=60))
    begun = asyncio.Event()

    async def sleep(connection: Connection) -> None:
        begun.set()
        await connection.execute("SELECT pg_sleep(60)")

    stuck = asyncio.create_task(held.run(sleep))
    await begun.wait()
    async with asyncio.timeout(10):
        await held.close()
        with pytest.raises(StoreError):
            await stuck


# --- readers ---------------------------------------------------------------------------------------------------


async def test_each_read_sees_its_own_tenant(readers: MakeReaders) -> None:
    """Hundreds of transactions on few connections: each has its own tenant, and none of the one before."""
    pool = await readers(kept=2, extra=1)

    async def read(tenant: str) -> str:
        async with pool.transaction(tenant) as connection:
            return str(await connection.fetchval(TENANT))

    tenants = [str(uuid.uuid4()) for _ in range(300)]
    assert await asyncio.gather(*map(read, tenants)) == tenants
    async with pool.transaction(None) as connection:
        assert await connection.fetchval(TENANT) in (None, "")
    assert pool.facts()["pool_open"] <= 3


@pytest.mark.parametrize("tenant", ["", "x'; DROP TABLE pile; --", "00000000-0000-0000-0000-00000000000'"])
async def test_a_tenant_is_a_uuid_and_nothing_else(readers: MakeReaders, tenant: str) -> None:
    """The tenant stands in a statement's text, so anything but a UUID is refused before it gets there."""
    pool = await readers()
    with pytest.raises(InvalidRecordError, match="UUID"):
        async with pool.transaction(tenant):
            pytest.fail("this must not begin")


async def test_reading_transactions_cannot_write(readers: MakeReaders, postgres_database: Database) -> None:
    """Nothing that reads can change a row, whatever it sends."""
    pool = await readers()
    with pytest.raises(StoreReadOnlyError):
        async with pool.transaction(str(uuid.uuid4())) as connection:
            await _insert(connection, 1)
    assert _piled(postgres_database) == []


async def test_a_failed_read_leaves_a_clean_connection(readers: MakeReaders) -> None:
    """After a refused statement the same connection serves the next caller, in a transaction of its own."""
    pool = await readers(kept=1, extra=0)
    async with pool.transaction(None) as connection:
        pid = await _pid(connection)
    with pytest.raises(StoreError):
        async with pool.transaction(str(uuid.uuid4())) as connection:
            await connection.execute("SELECT 1/0")
    async with pool.transaction(None) as connection:
        assert await _pid(connection) == pid
        assert await connection.fetchval(TENANT) in (None, "")


async def test_the_pool_is_bounded_and_says_so(readers: MakeReaders) -> None:
    """When all connections are taken, the next caller waits, and then gets an error that names the setting."""
    pool = await readers(kept=1, extra=1, timeout=0.1)
    async with pool.transaction(None), pool.transaction(None):
        with pytest.raises(StoreBusyError, match="STORAGE_POSTGRES_POOL_SIZE"):
            async with pool.transaction(None):
                pytest.fail("there is no third")
    async with pool.transaction(None) as connection:
        assert await _pid(connection)


async def test_callers_who_wait_are_served_in_their_order(readers: MakeReaders) -> None:
    """The connection goes to whoever waits longest, past those who gave up."""
    pool = await readers(kept=1, extra=0)
    served: list[int] = []

    async def read(number: int) -> None:
        async with pool.transaction(None):
            served.append(number)

    async with pool.transaction(None):
        tasks = [asyncio.create_task(read(number)) for number in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert served == [1, 3, 4]


async def test_a_cancelled_read_gives_its_place_back(readers: MakeReaders) -> None:
    """Reads that are cancelled at any moment cost no place in the pool."""
    pool = await readers(kept=1, extra=1)

    async def read() -> None:
        async with pool.transaction(str(uuid.uuid4())) as connection:
            await connection.execute("SELECT pg_sleep(0.001)")

    for turns in range(30):
        tasks = [asyncio.create_task(read()) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with pool.transaction(None), pool.transaction(None) as connection:
        assert await _pid(connection)
    assert pool.facts()["pool_open"] <= 2


async def test_idle_connections_that_died_are_replaced_unseen(
    readers: MakeReaders, postgres_database: Database
) -> None:
    """After the server ended every idle connection, the next reads succeed all the same."""
    pool = await readers(kept=2, extra=0)

    async def read() -> int:
        async with pool.transaction(None) as connection:
            return await _pid(connection)

    before = set(await asyncio.gather(read(), read()))
    postgres_database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'storage-gateway pg'"
    )
    after = set(await asyncio.gather(read(), read(), read()))
    assert not before & after


async def test_a_read_outside_transactions_survives_dead_connections(
    readers: MakeReaders, postgres_database: Database
) -> None:
    """A single statement is read again on another connection when the one it got turns out to be dead."""
    pool = await readers(kept=2, extra=0)
    before = set(await asyncio.gather(pool.run(_pid), pool.run(_pid)))
    postgres_database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'storage-gateway pg'"
    )
    after = set(await asyncio.gather(pool.run(_pid), pool.run(_pid), pool.run(_pid)))
    assert not before & after
    assert pool.facts()["pool_open"] <= 2


async def test_a_read_outside_transactions_leaves_none_open(readers: MakeReaders) -> None:
    """What fails is translated and leaves a clean connection; what begins a transaction loses its connection."""
    pool = await readers(kept=1, extra=0)

    async def fail(connection: Connection) -> None:
        await connection.execute("SELECT 1/0")

    async def begin(connection: Connection) -> None:
        await connection.execute("BEGIN")
        raise InvalidRecordError("on purpose")

    first = await pool.run(_pid)
    with pytest.raises(StoreError, match="pg:"):
        await pool.run(fail)
    assert await pool.run(_pid) == first
    with pytest.raises(InvalidRecordError, match="on purpose"):
        await pool.run(begin)
    assert await pool.run(_pid) != first


async def test_connections_beyond_those_kept_end_with_serverless(
    readers: MakeReaders, postgres_database: Database
) -> None:
    """A pool that keeps nothing has no connection open once nobody reads."""
    pool = await readers(kept=0, extra=3)

    async def read() -> None:
        async with pool.transaction(None) as connection:
            await _pid(connection)

    await asyncio.gather(*(read() for _ in range(6)))
    await pool.close()
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'storage-gateway pg'"
    assert postgres_database.execute(query) == [(0,)]


async def test_a_closed_pool_refuses(readers: MakeReaders) -> None:
    """After closing, which may be done twice, reads raise; whoever waited is told."""
    pool = await readers(kept=1, extra=0)
    async with pool.transaction(None):
        waiting = asyncio.create_task(_read(pool))
        await asyncio.sleep(0)
        closing = asyncio.create_task(pool.close())
        with pytest.raises(StoreUnavailableError):
            await waiting
    await closing
    await pool.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await _read(pool)


async def _read(pool: Readers) -> None:
    async with pool.transaction(None) as connection:
        await _pid(connection)


# --- behind a pooler -------------------------------------------------------------------------------------------


async def test_statements_of_pooled_clients_never_mix(connector: MakeConnector, pooled_url: str) -> None:
    """Many clients on few server connections: every statement outside a transaction gets its own parameters.

    Parsing and executing are two round trips; a pooler that gave the server to another client in between would make
    one client execute the other's statement.
    """
    opens = connector(url=pooled_url, pooled=True)

    async def client(number: int) -> set[int]:
        connection = await opens.connect()
        pids: set[int] = set()
        for turn in range(60):
            if number % 2:
                row = await connection.fetchrow(
                    f"SELECT $1::text || '-{number}', pg_backend_pid()", str(turn)
                )
                assert row is not None
                assert row[0] == f"{turn}-{number}"
            else:
                row = await connection.fetchrow(f"SELECT $1::int8 + {number}, pg_backend_pid()", turn)
                assert row is not None
                assert row[0] == turn + number
            pids.add(row[1])
        await connection.close()
        return pids

    seen = await asyncio.gather(*(client(number) for number in range(12)))
    # The test means something only if clients moved between servers.
    assert max(map(len, seen)) > 1


async def test_tenants_of_pooled_readers_never_mix(
    connector: MakeConnector, readers: MakeReaders, pooled_url: str
) -> None:
    """Through a pooler, each transaction has its own tenant, and outside of one there is none."""
    pool = await readers(connector(url=pooled_url, pooled=True), kept=12, extra=0)

    async def read(number: int) -> None:
        tenant = str(uuid.UUID(int=number))
        async with pool.transaction(tenant if number % 3 else None) as connection:
            found = await connection.fetchval(TENANT)
            assert (found or "") == (tenant if number % 3 else "")

    await asyncio.gather(*(read(number) for number in range(300)))


async def test_an_unnoticed_pooler_is_found_out(
    connector: MakeConnector, readers: MakeReaders, pooled_url: str
) -> None:
    """Where prepared statements were used and a pooler came in between, the first failure ends that."""
    opens = connector(url=pooled_url, pooled=False)
    pool = await readers(opens, kept=12, extra=0)

    async def read(number: int) -> None:
        async with pool.transaction(None) as connection:
            await connection.fetchval("SELECT $1::int", number)

    failures: list[GatewayError] = []
    for _ in range(200):
        results = await asyncio.gather(*(read(number) for number in range(24)), return_exceptions=True)
        failures += [error for error in results if isinstance(error, GatewayError)]
        assert all(result is None or isinstance(result, GatewayError) for result in results)
        if failures:
            break
    assert failures, "prepared statements worked behind a pooler, so nothing was tested"
    assert all(error.transient for error in failures)
    assert opens.pooled
    fresh = await readers(opens, kept=4, extra=0)
    async with fresh.transaction(None) as connection:
        assert await connection.fetchval("SELECT $1::int", 1) == 1


async def test_a_pooler_that_is_restarted_is_found_again(
    connector: MakeConnector, writer: MakeWriter, postgres_server: PostgresServer, postgres_database: Database
) -> None:
    """While nothing listens, calls fail with a transient error; once it listens again, they succeed."""
    with PgBouncer(postgres_server) as bouncer:
        held = await writer(connector(url=bouncer.url_of(postgres_database.app_url), pooled=True))
        await held.run(_insert, 1)
        bouncer.stop()
        with pytest.raises(StoreUnavailableError):
            await held.run(_insert, 2)
        bouncer.start()
        await held.run(_insert, 3)
    assert _piled(postgres_database) == [1, 3]


# --- what cannot be connected to -------------------------------------------------------------------------------


def _other(url: str, **parts: str) -> str:
    head, _, database = url.rpartition("/")
    login, _, place = head.rpartition("@")
    user, _, password = login.removeprefix("postgresql://").partition(":")
    given: dict[str, Any] = {
        "user": user,
        "password": password,
        "place": place,
        "database": database,
        **parts,
    }
    return "postgresql://{user}:{password}@{place}/{database}".format(**given)


@pytest.mark.parametrize(
    ("parts", "kind", "words"),
    [
        ({"password": "falsch"}, StoreError, "compare user and password"),
        ({"user": "nobody_here"}, StoreError, "compare user and password"),
        ({"database": "no_such_base"}, StoreError, "no database of that name"),
        ({"place": "127.0.0.1:1"}, StoreUnavailableError, "cannot be reached"),
        ({"place": "no-such-host.invalid"}, StoreUnavailableError, "cannot be reached"),
        ({"database": "d?sslmode=require"}, StoreError, "TLS"),
    ],
)
async def test_what_cannot_be_connected_to_is_said_without_the_password(
    connector: MakeConnector,
    postgres_database: Database,
    parts: dict[str, str],
    kind: type[StoreError],
    words: str,
) -> None:
    """Each cause has its own sentence, and the password is in none of them."""
    url = _other(postgres_database.app_url, **parts)
    secret = "falsch" if "password" in parts else _password_in(postgres_database.app_url)
    with pytest.raises(kind, match=words) as caught:
        await connector(url=url).connect()
    error: BaseException | None = caught.value
    while error is not None:
        assert secret not in str(error) + repr(error)
        error = error.__cause__


def _password_in(url: str) -> str:
    return url.partition("://")[2].partition("@")[0].partition(":")[2]


async def test_pgbouncer_names_the_same_causes(connector: MakeConnector, pooled_url: str) -> None:
    """PgBouncer's own errors, which have one code for nearly everything, mean the same."""
    for parts, words in (
        ({"password": "falsch"}, "compare user and password"),
        ({"user": "nobody_here"}, "compare user and password"),
        ({"database": "no_such_base"}, "no database of that name"),
    ):
        with pytest.raises(StoreError, match=words):
            await connector(url=_other(pooled_url, **parts), pooled=True).connect()


async def test_a_target_that_does_not_exist_is_refused(
    connector: MakeConnector, postgres_database: Database
) -> None:
    """Asking for a standby where there is only a primary is told as such."""
    with pytest.raises((StoreError, ConfigurationError)):
        await connector(url=postgres_database.app_url + "?target_session_attrs=standby").connect()
