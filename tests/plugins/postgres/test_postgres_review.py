"""Servers that are stuck, crowded, demoted or hidden behind a pooler, lost answers, and what URLs may hold."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import psycopg
import pytest

from gateway import Gateway
from gateway.errors import (
    ConfigurationError,
    GatewayError,
    StoreBusyError,
    StoreError,
    StoreReadOnlyError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from gateway.redaction import redact
from gateway_postgres.address import Login, parse_address
from gateway_postgres.connections import Connection, Connector, Writer
from gateway_postgres.errors import translate
from gateway_postgres.passfile import find_password
from gateway_postgres.pools import Readers
from gateway_postgres.settings import PostgresSettings
from gateway_postgres.work import transaction
from tests.prepared import environ_of
from tests.servers import Database

MakeConnector = Callable[..., Connector]
MakeWriter = Callable[..., Awaitable[Writer]]
MakeReaders = Callable[..., Awaitable[Readers]]

NOW: Final = datetime(2026, 3, 12, 11, tzinfo=UTC)
OURS: Final = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'storage-gateway pg' AND datname = current_database()"


@pytest.fixture
def pile(postgres_database: Database) -> Database:
    """The database with a table that the application may write."""
    postgres_database.execute("CREATE TABLE pile (n int PRIMARY KEY)", "GRANT ALL ON pile TO gateway_app")
    return postgres_database


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"postgresql://u:pw@127.0.0.1:{listening.getsockname()[1]}/d"


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Hold a process of the server still: it neither answers nor ends."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def _pid(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT pg_backend_pid()"))


async def _insert(connection: Connection, number: int) -> None:
    await connection.execute("INSERT INTO pile VALUES ($1) ON CONFLICT DO NOTHING", number)


async def _read(pool: Readers) -> int:
    async with pool.transaction(None) as connection:
        return await _pid(connection)


# --- a server that is stuck --------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_pool_is_closed_although_a_commit_is_never_answered(readers: MakeReaders) -> None:
    """The close raises nothing, is over within seconds, and leaves neither a connection nor a task."""
    pool = await readers(kept=1, extra=0)
    begun = time.monotonic()
    async with pool.transaction(None) as connection:
        stuck = stopped(await _pid(connection))
        stuck.__enter__()
    try:
        await pool.close()
    finally:
        stuck.__exit__(None, None, None)
    assert time.monotonic() - begun < 8
    assert connection.is_closed()
    assert pool.facts()["pool_open"] == 0
    assert not pool._tasks


@pytest.mark.anyio
async def test_a_pool_that_is_closed_while_it_connects_tells_its_callers(
    connector: MakeConnector, readers: MakeReaders, silent: str
) -> None:
    """They get the gateway's own error, soon, and are not cancelled."""
    pool = await readers(connector(url=silent), kept=1, extra=0)
    task = asyncio.create_task(_read(pool))
    await asyncio.sleep(0)  # the task begins to connect
    async with asyncio.timeout(8):
        await pool.close()
        with pytest.raises(StoreUnavailableError, match="closed"):
            await task
    assert not pool._tasks


@pytest.mark.anyio
async def test_a_writer_that_is_closed_while_it_connects_tells_its_callers(
    connector: MakeConnector, writer: MakeWriter, silent: str
) -> None:
    """The one that made it connect and the one behind it get the gateway's own error, and are not cancelled."""
    held = await writer(connector(url=silent))
    tasks = [asyncio.create_task(held.run(_pid)) for _ in range(2)]
    await asyncio.sleep(0)  # the tasks begin
    async with asyncio.timeout(8):
        await held.close()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailableError] * 2


@pytest.mark.anyio
async def test_a_transaction_is_given_up_at_once_although_the_server_is_stuck(
    writer: MakeWriter, pile: Database
) -> None:
    """A caller with a deadline does not wait for a rollback that nobody answers, and nothing of it is kept."""
    held = await writer()
    stuck = stopped(await held.run(_pid))
    reached = asyncio.Event()

    async def work(connection: Connection) -> None:
        async with transaction(connection):
            await _insert(connection, 1)
            stuck.__enter__()
            reached.set()
            await _insert(connection, 2)

    task = asyncio.create_task(held.run(work))
    await reached.wait()
    begun = time.monotonic()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=10)
    stuck.__exit__(None, None, None)
    assert done
    assert task.cancelled()
    assert time.monotonic() - begun < 2
    # The next caller has another connection; the first one's rows are gone with its transaction.
    await held.run(_insert, 3)
    assert pile.execute("SELECT n FROM pile") == [(3,)]


@pytest.mark.anyio
async def test_a_server_that_lets_nobody_in_is_not_called_a_small_pool(
    connector: MakeConnector, readers: MakeReaders, silent: str
) -> None:
    """Who waits behind others that are connecting is told that the server is the cause, not how to size the pool."""
    pool = await readers(connector(url=silent), kept=1, extra=0, timeout=0.2)
    first = asyncio.create_task(_read(pool))
    await asyncio.sleep(0)  # it begins to connect
    with pytest.raises(StoreTimeoutError, match="did not let anybody in"):
        await _read(pool)
    first.cancel()
    await asyncio.wait({first})


@pytest.mark.anyio
async def test_idle_connections_are_probed(connector: MakeConnector) -> None:
    """A connection that the network has forgotten is noticed by the system, not by the call that needs it."""
    connection = await connector().connect()
    transport: Any = getattr(connection, "_transport", None)
    held = transport.get_extra_info("socket")
    assert held.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    await connection.close()


# --- several servers ---------------------------------------------------------------------------------------------


def _with_place_first(url: str, place: str) -> str:
    head, _, rest = url.rpartition("@")
    return f"{head}@{place},{rest}"


@pytest.mark.anyio
async def test_a_server_that_says_nothing_does_not_use_up_the_time_of_the_next(
    connector: MakeConnector, postgres_database: Database, silent: str
) -> None:
    """A host that is off, as after a failover, costs its timeout once; then the one that served comes first."""
    url = _with_place_first(postgres_database.app_url, silent.partition("@")[2].partition("/")[0])
    opens = connector(url=url, connect_timeout=1)
    for limit in (5.0, 0.9):
        async with asyncio.timeout(limit):
            connection = await opens.connect()
        assert await _pid(connection)
        await connection.close()


@pytest.mark.anyio
async def test_a_store_opened_to_be_read_finds_the_server_that_takes_writes(
    connector: MakeConnector, postgres_database: Database
) -> None:
    """What keeps this connection from writing does not make the server look like a standby."""
    opens = connector(url=f"{postgres_database.app_url}?target_session_attrs=read-write", read_only=True)
    connection = await opens.connect()
    assert await connection.fetchval("SHOW transaction_read_only") == "on"
    await connection.close()


@pytest.mark.anyio
async def test_the_operator_and_the_bot_ask_for_the_same_of_several_servers(
    connector: MakeConnector, postgres_database: Database
) -> None:
    """A server that takes no writes is passed over by both, and the error says why none was left."""
    postgres_database.execute(
        f'ALTER DATABASE "{postgres_database.name}" SET default_transaction_read_only = on'
    )
    place = postgres_database.app_url.partition("@")[2].partition("/")[0]
    url = _with_place_first(postgres_database.app_url, place)
    with pytest.raises(StoreUnavailableError, match="target_session_attrs"):
        await connector(url=url).connect()
    with pytest.raises(psycopg.OperationalError, match="read-only") as caught:
        psycopg.connect(**PostgresSettings(url=url).address().psycopg_arguments())
    assert "target_session_attrs" in str(translate(caught.value, "pg"))


@pytest.mark.anyio
async def test_where_there_is_no_standby_any_server_is_second_choice(
    connector: MakeConnector, postgres_database: Database
) -> None:
    """As in libpq: `prefer-standby` looks at all servers for one, then takes what there is."""
    connection = await connector(
        url=f"{postgres_database.app_url}?target_session_attrs=prefer-standby"
    ).connect()
    assert await _pid(connection)
    await connection.close()


# --- an answer that is lost ----------------------------------------------------------------------------------------


class Cutter:
    """Stands between a bot and its server, and cuts the connection in place of one answer.

    Args:
        port: The server's.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.answer: bytes | None = None
        """What the server says is held back once, and the connection is cut; None afterwards."""

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        await self._listening.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_connection("127.0.0.1", self._server_port)
        asking = asyncio.create_task(self._pass_on(reader, questions))
        try:
            while said := await answers.read(65_536):
                if self.answer is not None and self.answer in said:
                    self.answer = None
                    writer.transport.abort()
                    break
                writer.write(said)
        finally:
            asking.cancel()
            questions.close()
            writer.close()

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while asked := await reader.read(65_536):
                writer.write(asked)
        writer.close()


@pytest.mark.anyio
async def test_a_write_whose_answer_was_lost_is_applied_once_and_answered_as_such(
    prepared_database: Database, tmp_path: Path
) -> None:
    """The server commits and the connection breaks before it can say so: the repetition finds it done."""
    server = prepared_database.server
    async with Cutter(server.port) as cutter:
        url = prepared_database.app_url.replace(f":{server.port}/", f":{cutter.port}/")
        environ = environ_of(url, retry_seconds="30")
        async with Gateway("postgres", data_dir=tmp_path, environ=environ, env_file=None) as gateway:
            await gateway.save_position(condition_id="c", side="YES", entry_price=1, opened_at=NOW)
            calls: list[tuple[bytes, Callable[[], Awaitable[Any]]]] = [
                (b"INSERT 0 1\0", lambda: gateway.insert_trade(market_name="M", action="buy", side="YES", price=1, amount=1)),
                (b"COMMIT\0", lambda: gateway.update_daily_stats("2026-03-12", trade_count_delta=1)),
                (b"COMMIT\0", lambda: gateway.close_position("c", "why", pnl=1)),
                (b"COMMIT\0", lambda: gateway.record_event(record_id="own", session_id="s", event_type="e")),
                (b"COMMIT\0", lambda: gateway.delete("positions", "c")),
            ]  # fmt: skip
            answers = []
            for answer, call in calls:
                cutter.answer = answer
                answers.append(await call())
                assert cutter.answer is None, f"{answer!r} was never said, so nothing was tested"
            _, stats, closed, _, deleted = answers
            assert (stats.total_trades, closed.close_reason, deleted) == (1, "why", True)
            assert len(await gateway.get_trades()) == 1
            assert (await gateway.get_or_create_daily_stats("2026-03-12")).total_trades == 1
            assert len(await gateway.query("closed_positions")) == 1
            assert len(await gateway.get_events()) == 1


# --- a server that is crowded, demoted, or behind a pooler ---------------------------------------------------------


@pytest.fixture
def few(postgres_database: Database) -> Iterator[str]:
    """The URL of a login that may have one connection."""
    name = f"few_{postgres_database.name}"
    postgres_database.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'Few-9f3a' CONNECTION LIMIT 1")
    place = postgres_database.app_url.rpartition("@")[2]
    yield f"postgresql://{name}:Few-9f3a@{place}"
    postgres_database.execute(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{name}'",  # noqa: S608 - made above
        f"DROP ROLE {name}",
    )


@pytest.mark.anyio
async def test_attempts_at_a_crowded_server_are_spaced_out(connector: MakeConnector, few: str) -> None:
    """A server without a connection left is not fallen upon: attempt after attempt, each waits longer."""
    opens = connector(url=few)
    held = await opens.connect()
    begun = asyncio.get_running_loop().time()
    for _ in range(4):
        with pytest.raises(StoreBusyError):
            await opens.connect()
    # Three pauses of 0.1, 0.2 and 0.4 s, each shortened by half at most.
    assert asyncio.get_running_loop().time() - begun >= 0.35
    await held.close()


@pytest.mark.anyio
async def test_a_writer_looks_for_another_server_when_its_own_takes_no_more_writes(
    writer: MakeWriter, pile: Database
) -> None:
    """After a failover that leaves connections open, the next write goes to whom the address now leads."""
    held = await writer()
    await held.run(lambda connection: connection.execute("SET default_transaction_read_only = on"))
    with pytest.raises(StoreReadOnlyError):
        await held.run(_insert, 1)
    await held.run(_insert, 2)
    assert pile.execute("SELECT n FROM pile") == [(2,)]


@pytest.mark.anyio
@pytest.mark.usefixtures("pile")
async def test_a_store_gets_well_once_a_pooler_was_found_out(
    connector: MakeConnector, readers: MakeReaders, writer: MakeWriter, pooled_url: str
) -> None:
    """Connections that keep prepared statements behind a pooler fail once each, and are replaced."""
    opens = connector(url=pooled_url, pooled=False)
    pool = await readers(opens, kept=12, extra=0)
    writers = [await writer(opens) for _ in range(8)]

    async def ask(number: int) -> None:
        async with pool.transaction(None) as connection:
            await connection.fetchval("SELECT $1::int", number)

    async def everybody() -> int:
        work = [
            *(ask(number) for number in range(24)),
            *(held.run(_insert, at) for at, held in enumerate(writers)),
        ]
        answers = await asyncio.gather(*work, return_exceptions=True)
        assert all(answer is None or isinstance(answer, GatewayError) for answer in answers)
        return sum(answer is not None for answer in answers)

    failures = [await everybody() for _ in range(60)]
    assert sum(failures) > 0, "prepared statements worked behind a pooler, so nothing was tested"
    assert sum(failures) <= 12 + 8
    assert opens.pooled


@pytest.mark.anyio
async def test_a_refused_write_leaves_no_connection_of_a_frozen_process(
    writer: MakeWriter, pile: Database
) -> None:
    """Where no connection is kept, none is after an error either."""
    held = await writer(keep=False)
    with pytest.raises(StoreError):
        await held.run(lambda connection: connection.execute("SELECT 1/0"))
    async with asyncio.timeout(5):
        while await asyncio.to_thread(pile.execute, OURS) != [(0,)]:
            pass  # until it has said goodbye


# --- addresses and password files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:ge?heim@h/d",
        "postgresql://u:ge?heim=x@h/d",
        "postgresql://u@h/d?password=ge&heim",
        "postgresql://u@h/d?password=ge&heim&channel_binding=require",
    ],
)
def test_what_may_be_a_piece_of_the_password_is_not_shown(url: str) -> None:
    """A password with a ? or & that was not percent-encoded looks like an option that nobody knows."""
    with pytest.raises(ConfigurationError, match="piece of the password") as caught:
        PostgresSettings(url=url).endpoints()
    assert "heim" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sqlite,postgres:postgresql://u:ge heim@h/d", "sqlite,postgres:postgresql://u:***@h/d"),
        ("old=sqlite:/a.db,new=postgres:postgresql://u:ge heim@h/d", "old=sqlite:/a.db,new=postgres:postgresql://u:***@h/d"),
        ("postgresql://u@h/d?password=ge heim&sslmode=require", "postgresql://u@h/d?password=***&sslmode=require"),
        ("postgresql://u@h/d?password=ge&heim", "postgresql://u@h/d?password=***"),
        ("{'password': 'ge heim', 'user': 'u'}", "{'password': '***', 'user': 'u'}"),
        ('{"admin_password": "ge\\"heim"}', '{"admin_password": "***"}'),
    ],
)  # fmt: skip
def test_passwords_that_were_not_encoded_are_hidden_wherever_a_location_is_shown(
    text: str, expected: str
) -> None:
    """`gateway config` shows the list of stores and their URLs as they were written, but for the passwords."""
    assert redact(text) == expected


def test_a_long_text_is_redacted_at_once() -> None:
    """A row's text in an error must not stop the bot while a password is looked for in it."""
    begun = time.process_time()
    redact("a" * 200_000 + "://@")
    assert time.process_time() - begun < 1


def test_a_plus_sign_in_an_option_is_one() -> None:
    """As in libpq; a password must not change with who reads the URL."""
    assert parse_address("postgresql://u@h/d?password=a+b%20c", Login(), {}).password == "a+b c"  # noqa: S105 - made up


@pytest.mark.parametrize(
    ("url", "environ"),
    [
        ("postgresql://u:p@/d?host=::1", {}),
        ("postgresql://u:p@/d", {"PGHOST": "::1"}),
        ("postgresql://u:p@/d?host=[::1]:5432", {}),
    ],
)
def test_an_ipv6_address_outside_of_the_authority_needs_no_brackets(
    url: str, environ: dict[str, str]
) -> None:
    """As in libpq, where a host that is named by itself has no port behind it."""
    found = parse_address(url, Login(), environ)
    assert (found.hosts, found.ports) == (("::1",), (5432,))


def test_both_drivers_go_to_the_host_of_the_url(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that only libpq knows does not lead the operator's commands to another server than the bot."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.9")
    arguments = PostgresSettings(url=postgres_database.owner_url).address().psycopg_arguments()
    with psycopg.connect(**arguments) as connection:
        assert connection.info.hostaddr == postgres_database.server.host


@pytest.mark.anyio
async def test_a_client_certificate_that_is_none_is_named(connector: MakeConnector, tmp_path: Path) -> None:
    """The gateway's own error, with the file, also where the machine's authorities are trusted."""
    file = tmp_path / "client.pem"
    file.write_text("no certificate\n")
    opens = connector(
        url="postgresql://u:p@127.0.0.1/d", tls="verify-full", tls_ca="system", tls_cert=str(file)
    )
    with pytest.raises(ConfigurationError, match=r"client\.pem"):
        await opens.connect()


def test_a_password_file_in_another_encoding_is_read_all_the_same(tmp_path: Path) -> None:
    """A line that is not UTF-8 is passed over; the others count, whatever ends a line elsewhere."""
    file = tmp_path / "pgpass"
    file.write_bytes(b"# R\xe9sum\xe9\nh:5432:d:u:a\x0bb\xc2\x85c\r\n")
    file.chmod(0o600)
    assert find_password(file, ["h"], [5432], "d", "u") == "a\x0bb\x85c"


def test_a_line_for_the_directory_of_a_socket_fits(tmp_path: Path) -> None:
    """A socket is found by its directory, and by the name localhost too, as libpq does with the usual one."""
    file = tmp_path / "pgpass"
    file.write_text("/run/here:5432:d:u:one\nlocalhost:*:*:*:two\n")
    file.chmod(0o600)
    assert find_password(file, ["/run/here"], [5432], "d", "u") == "one"
    assert find_password(file, ["/run/postgresql"], [5432], "d", "u") == "two"
    assert find_password(file, ["h"], [5432], "d", "u") is None


def test_a_process_without_a_home_has_no_password_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers whose user nobody knows: the address is read, without a password."""

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert parse_address("postgresql://u@h/d", Login(), {}).password is None
