"""A server that the developer already has: used by its URL, given the roles, and never ended by a test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.servers import MissingServerError, PgBouncer, PostgresServer, QuestDbServer, ValkeyServer
from tests.servers.places import reachable_copy, server_user
from tests.servers.postgres_programs import WHEEL_PARTS, Programs, wheel_programs


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, postgres_server: PostgresServer) -> PostgresServer:
    """The suite's own server, as if it were the developer's; other logins than the suite's are made on it."""
    postgres_server._must_be_ours("gives it away")
    monkeypatch.setenv("STORAGE_TEST_POSTGRES_URL", postgres_server.url())
    return PostgresServer.default()


def test_a_given_server_is_used(postgres15: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version is asked, the logins are made with passwords that every test process agrees on, and it stays up."""
    own = postgres15.passwords
    monkeypatch.setenv("STORAGE_TEST_POSTGRES_URL", postgres15.url())
    try:
        for _ in range(2):  # a second process finds the roles there
            with PostgresServer.default() as server, server.fresh() as database:
                assert server.given
                assert "STORAGE_TEST_POSTGRES_URL" in str(server.origin)
                assert server.origin.version == postgres15.origin.version
                psycopg.connect(database.app_url).close()
    finally:
        alter = [f"ALTER ROLE {name} PASSWORD '{own[name]}'" for name in own]
        postgres15.execute(*alter)
    assert postgres15.running


@pytest.mark.parametrize("ending", [PostgresServer.kill, PostgresServer.stop, PostgresServer.restart])
def test_a_given_server_is_never_ended(
    given: PostgresServer, ending: Callable[[PostgresServer], None]
) -> None:
    """A test that wants to is skipped and counted; the developer's data are not its own."""
    with pytest.raises(pytest.skip.Exception, match=r"^no server: this test .* was given by URL"):
        ending(given)


def test_the_others_can_be_given_too(given: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable names its server, with what a URL says of it."""
    monkeypatch.setenv("STORAGE_TEST_PGBOUNCER_URL", "postgresql://127.0.0.1:6544/postgres")
    monkeypatch.setenv("STORAGE_TEST_VALKEY_URL", "redis://:pass%40word@127.0.0.1:6399")
    monkeypatch.setenv("STORAGE_TEST_QUESTDB_URL", "http://127.0.0.1:9001?pg_port=8813")
    assert PgBouncer(given).url_of("postgresql://u:p%40@h:1/d") == "postgresql://u:p%40@127.0.0.1:6544/d"
    assert ValkeyServer.default().url(2) == "redis://:pass%40word@127.0.0.1:6399/2"
    questdb = QuestDbServer.default()
    assert (questdb.http_url, questdb.pg_port, questdb.given) == ("http://127.0.0.1:9001", 8813, True)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of this test alone that every user can read; pytest's own directories are private."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        monkeypatch.setenv("XDG_CACHE_HOME", made)
        yield Path(made)


def test_programs_out_of_reach_are_copied(tmp_path: Path, cache: Path) -> None:
    """A checkout below a private directory works as root too: the server's user runs a copy that it can read."""
    try:
        base = wheel_programs().binaries.parents[2]
    except MissingServerError as missing:
        pytest.skip(f"no server: {missing}")
    for part in WHEEL_PARTS:
        shutil.copytree(base / part, tmp_path / part, symlinks=True)
    usable = reachable_copy(tmp_path, WHEEL_PARTS, "copied")
    assert reachable_copy(tmp_path, WHEEL_PARTS, "copied") == usable  # the second time it is there
    assert usable == (tmp_path if server_user() is None else cache / "storage-gateway" / "copied")
    assert Programs(usable / WHEEL_PARTS[0] / "bin", "copied").version() == wheel_programs().version()
