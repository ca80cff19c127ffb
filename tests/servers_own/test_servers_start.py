"""Every server starts, answers, comes back after a stop and a kill, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.servers import (
    MissingServerError,
    PgBouncer,
    PostgresServer,
    QuestDbServer,
    Server,
    TimescaleServer,
    ValkeyServer,
)

OPTIONAL = "no server, which CI may lack: "

MAKERS: dict[str, tuple[Callable[[], Server], str]] = {
    "postgres18": (PostgresServer.wheel, "no server: "),
    "postgres15": (PostgresServer.debian, "no server: "),
    "timescale": (TimescaleServer.default, OPTIONAL),
    "valkey": (ValkeyServer.default, "no server: "),
    "questdb": (QuestDbServer.default, "no server: "),
}


def _answer(server: Any) -> object:
    match server:
        case PostgresServer():
            return server.execute("SELECT 40 + 2")[0][0]
        case ValkeyServer():
            return 42 if server.call("PING") == "+PONG" else None
        case QuestDbServer():
            return server.query("SELECT 40 + 2")[0][0]
    raise AssertionError(server)


@pytest.fixture(params=MAKERS)
def server(request: pytest.FixtureRequest) -> Server:
    """A server of each kind, not started."""
    make, prefix = MAKERS[request.param]
    try:
        made = make()
    except MissingServerError as missing:
        pytest.skip(f"{prefix}{missing}")
    if made.given:
        pytest.skip("no server: this test starts and ends servers, and this one was given by URL")
    return made


def test_a_server_lives_and_is_gone(server: Server, record_property: Callable[[str, object], None]) -> None:
    """It answers after a start, a restart and a kill, on one port; then neither process nor files are left."""
    with server:
        assert _answer(server) == 42
        port, first = server.port, server.pid
        server.restart()
        assert _answer(server) == 42
        server.kill()
        assert not server.running
        server.start()
        assert _answer(server) == 42
        assert (server.port, server.pid) != (port, first)
        assert server.port == port
        directory = server.directory
        record_property("ready in seconds", round(server.started_in, 3))
    assert not server.running
    assert not directory.exists()
    assert repr(server).endswith("not running>")


def test_an_origin_says_what_and_from_where(server: Server) -> None:
    """Whoever reads the summary of a run knows the version and the package."""
    assert server.origin.version[0].isdigit()
    assert len(server.origin.obtained.split()) > 1


def test_two_servers_of_one_kind_do_not_meet(postgres_server: PostgresServer) -> None:
    """Each has a port and files of its own: what is in one is not in the other."""
    postgres_server._must_be_ours("starts a second one")
    with PostgresServer.default() as other, other.fresh() as database:
        assert other.port != postgres_server.port
        names = "SELECT datname FROM pg_database"
        assert (database.name,) in other.execute(names)
        assert (database.name,) not in postgres_server.execute(names)


def test_a_server_that_cannot_start_says_why() -> None:
    """The error has the end of the server's log, and nothing stays behind."""
    server = PostgresServer.wheel(settings={"shared_buffers": "nonsense"})
    with pytest.raises(Exception, match=r"(?s)ended at once.*shared_buffers"), server:
        pytest.fail("started all the same")
    assert not server.running


def test_a_bouncer_comes_back(postgres_server: PostgresServer) -> None:
    """PgBouncer answers on its old port after a kill."""
    with PgBouncer(postgres_server) as bouncer:
        bouncer._must_be_ours("kills the bouncer")
        port = bouncer.port
        bouncer.kill()
        bouncer.start()
        assert (bouncer.running, bouncer.port) == (True, port)
