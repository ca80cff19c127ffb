"""The PostgreSQL servers of the tests are what production has: passwords, roles without privileges, TLS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.servers import Database, MissingServerError, PgBouncer, PostgresServer, TimescaleServer


def test_every_login_is_itself(postgres_database: Database) -> None:
    """Each URL logs in as the role of its name, in the database of the test."""
    database = postgres_database
    urls = (database.owner_url, database.app_url, database.readonly_url, database.admin_url)
    for url in urls:
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT current_user, current_database()").fetchone()
        assert found == (urlsplit(url).username, database.name)


def test_no_login_is_above_the_rules(postgres_database: Database) -> None:
    """A test of row security that passes because the role bypasses it would prove nothing."""
    rows = postgres_database.execute(
        "SELECT rolname FROM pg_roles WHERE rolname ~ '^(gw|gateway)_' AND (rolsuper OR rolbypassrls)"
    )
    assert rows == []


def test_logins_are_in_their_groups(postgres_database: Database) -> None:
    """The groups carry the rights; the logins only belong to them."""
    rows = postgres_database.execute(
        "SELECT m.rolname, g.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member"
        " JOIN pg_roles g ON g.oid = a.roleid WHERE m.rolname ~ '^gw_' ORDER BY 1"
    )
    expected = [("gw_admin", "gateway_admin"), ("gw_app", "gateway_app"), ("gw_readonly", "gateway_readonly")]
    assert [pair for pair in rows if pair[0] != "gw_owner"] == expected


def test_a_wrong_password_is_refused(postgres_server: PostgresServer) -> None:
    """Passwords mean something: tests of secrets would otherwise pass with none."""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.url(user="gw_app", password="wrong"))  # noqa: S106 - it is wrong


def test_databases_are_apart(postgres_server: PostgresServer) -> None:
    """Two tests on one server see nothing of each other, and a dropped database is gone with its clients."""
    with postgres_server.fresh() as one, postgres_server.fresh() as other:
        assert one.name != other.name
        one.execute("CREATE TABLE only_here (n int)")
        assert other.execute("SELECT to_regclass('only_here')") == [(None,)]
        with psycopg.connect(one.app_url) as held:
            one.drop()
            with pytest.raises(psycopg.OperationalError):
                held.execute("SELECT 1")


def test_secrets_stay_out_of_reprs(postgres_database: Database) -> None:
    """Pytest prints fixtures when a test fails; a log of a run has no password in it."""
    shown = f"{postgres_database!r} {postgres_database.server!r}"
    assert not any(secret in shown for secret in postgres_database.server.passwords.values() if secret)


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server of this test alone, which it may kill."""
    try:
        server = PostgresServer.wheel()
    except MissingServerError as missing:
        pytest.skip(f"no server: {missing}")
    with server:
        yield server


def test_a_kill_loses_no_commit(own_server: PostgresServer) -> None:
    """What was acknowledged is there after a kill -9 in the middle of writing, although nothing forces the disk."""
    with own_server.fresh() as database:
        database.execute("CREATE TABLE written (n int)")
        acknowledged = 0
        enough = threading.Event()

        def write() -> None:
            nonlocal acknowledged
            with psycopg.connect(database.superuser_url, autocommit=True) as connection:
                while True:
                    connection.execute("INSERT INTO written VALUES (%s)", (acknowledged,))
                    acknowledged += 1
                    if acknowledged == 200:
                        enough.set()

        def until_killed() -> None:
            with pytest.raises(psycopg.OperationalError):
                write()

        writer = threading.Thread(target=until_killed)
        writer.start()
        assert enough.wait(30)
        own_server.kill()
        writer.join()
        own_server.start()
        ((count,),) = database.execute("SELECT count(*) FROM written")
        assert count in (acknowledged, acknowledged + 1)  # the last one may be stored and not acknowledged


def test_the_system_s_server_sorts_as_people_do(postgres15: PostgresServer) -> None:
    """A query that relies on the order of bytes without asking for it is found out here."""
    assert postgres15.execute("SELECT 'b' < 'A', 'b' < 'A' COLLATE \"C\"") == [(False, False)]
    assert postgres15.execute("SELECT 'a' < 'B', 'a' < 'B' COLLATE \"C\"") == [(True, False)]


def test_tls_is_required_and_verified() -> None:
    """With TLS the server refuses plain connections, and its certificate is good for its address."""
    try:
        server = PostgresServer.debian(tls=True)
    except MissingServerError as missing:
        pytest.skip(f"no server: {missing}")
    with server:
        verified = f"{server.url(user='gw_app')}?sslmode=verify-full&sslrootcert={server.ca_file}"
        with psycopg.connect(verified) as connection:
            found = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert found == (True,)
        with pytest.raises(psycopg.OperationalError, match="no encryption"):
            psycopg.connect(f"{server.url(user='gw_app')}?sslmode=disable")


def test_the_wheel_says_that_it_has_no_tls() -> None:
    """Asking for what a build lacks is a missing server, with the reason, not a plain connection."""
    from tests.servers.postgres_programs import wheel_programs

    try:
        programs = wheel_programs()
    except MissingServerError as missing:
        pytest.skip(f"no server: {missing}")
    with pytest.raises(MissingServerError, match="without it"):
        PostgresServer(programs, tls=True)


def test_clients_of_the_bouncer_share_connections(pgbouncer: PgBouncer, postgres_database: Database) -> None:
    """Five clients, one after the other, meet on fewer server connections: settings of one would reach another."""
    url = pgbouncer.url_of(postgres_database.app_url)
    clients = [psycopg.connect(url, autocommit=True) for _ in range(pgbouncer.pool_size + 1)]
    try:
        pids = {client.execute("SELECT pg_backend_pid()").fetchone() for client in clients}
    finally:
        for client in clients:
            client.close()
    assert 1 <= len(pids) < len(clients)


def test_the_bouncer_takes_no_startup_parameters(pgbouncer: PgBouncer, postgres_database: Database) -> None:
    """A client that sets things when it connects is refused, as behind most poolers in production."""
    url = f"{pgbouncer.url_of(postgres_database.app_url)}?options=-c%20search_path%3Dx"
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter"):
        psycopg.connect(url)


def test_timescale_makes_hypertables(timescale: TimescaleServer) -> None:
    """The extension works, and is missing in a database that was made without it."""
    with timescale.fresh() as database:
        database.execute("CREATE TABLE ticks (at timestamptz NOT NULL)")
        database.execute("SELECT create_hypertable('ticks', by_range('at'))")
    bare = timescale.database(extension=False)
    assert bare.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'") == []
    bare.drop()
