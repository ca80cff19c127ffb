"""Servers that restart, hang, or demand TLS: what a store on them does."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from gateway.backend import OpenContext, WriteBatch
from gateway.errors import StoreError, StoreTimeoutError, StoreUnavailableError
from gateway.records import TRADES, Row
from gateway.records.builtin import BUILTIN_KINDS
from gateway_postgres.backend import PostgresBackend
from gateway_postgres.settings import PostgresSettings
from tests.prepared import make_schema
from tests.servers import Database, MissingServerError, PostgresServer

Open = Callable[[OpenContext], Awaitable[PostgresBackend]]
Trades = Callable[[int], list[Row]]

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that tests may end, as no other test uses it."""
    with PostgresServer.wheel() as server:
        yield server


@pytest.fixture(scope="module")
def own_database(own_server: PostgresServer) -> Database:
    """A database on it with the schema."""
    database = own_server.database()
    make_schema(database)
    return database


@pytest.fixture
async def backend(own_database: Database, opened: Open, tmp_path: Path) -> PostgresBackend:
    """A store on that server, which gives a statement one second."""
    settings = PostgresSettings(url=own_database.app_url, command_timeout=1.0, connect_timeout=2.0)
    return await opened(OpenContext("pg", settings, BUILTIN_KINDS, tmp_path))


async def _read(backend: PostgresBackend, rows: list[Row]) -> list[Row | None]:
    return list(await backend.gateway_get(TRADES, rows[0].tenant, [row.key for row in rows]))


@pytest.mark.parametrize("ending", ["restart", "kill"])
async def test_a_store_outlives_its_server(
    backend: PostgresBackend, own_server: PostgresServer, trades: Trades, ending: str
) -> None:
    """While the server is down calls fail with a transient error; when it is back, they succeed, with every row."""
    before, during, after = ([row] for row in trades(3))
    await backend.gateway_write(WriteBatch(before))
    assert await _read(backend, before) == before
    if ending == "kill":
        own_server.kill()
    else:
        own_server.stop()
    with pytest.raises(StoreUnavailableError):
        await backend.gateway_write(WriteBatch(during))
    with pytest.raises(StoreUnavailableError):
        await _read(backend, before)
    assert not (await backend.gateway_health()).ok
    own_server.start()
    await backend.gateway_write(WriteBatch(after))
    assert await _read(backend, before + during + after) == [*before, None, *after]
    assert (await backend.gateway_health()).ok


async def test_a_restart_between_two_calls_is_not_felt_by_reads(
    backend: PostgresBackend, own_server: PostgresServer, trades: Trades
) -> None:
    """Idle connections that died meanwhile are replaced before a read is asked of them."""
    rows = trades(1)
    await backend.gateway_write(WriteBatch(rows))
    await asyncio.gather(*(_read(backend, rows) for _ in range(5)))
    own_server.stop()
    own_server.start()
    assert await asyncio.gather(*(_read(backend, rows) for _ in range(5))) == [rows] * 5


async def test_a_server_that_hangs_is_given_up_in_time(
    backend: PostgresBackend, own_server: PostgresServer, trades: Trades
) -> None:
    """A server that stands still costs each call its timeout and no more, and serves again when it goes on."""
    rows = trades(2)
    await backend.gateway_write(WriteBatch(rows[:1]))
    await _read(backend, rows[:1])
    stopped = _processes(own_server)
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(20):
            with pytest.raises(StoreTimeoutError):
                await backend.gateway_write(WriteBatch(rows))
            with pytest.raises(StoreError):
                await _read(backend, rows[:1])
    finally:
        for pid in reversed(stopped):
            os.kill(pid, signal.SIGCONT)
    await backend.gateway_write(WriteBatch(rows))
    assert await _read(backend, rows) == rows


def _processes(server: PostgresServer) -> list[int]:
    assert server.pid is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [server.pid, *map(int, children)]


# --- TLS -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_server() -> Iterator[PostgresServer]:
    """A server that refuses plain connections; its certificate is signed by an authority of its own."""
    try:
        made = PostgresServer.debian(tls=True)
    except MissingServerError as missing:
        pytest.skip(f"no server: {missing}")
    with made as server:
        yield server


@pytest.fixture(scope="module")
def tls_database(tls_server: PostgresServer) -> Database:
    """A database on it with the schema."""
    database = tls_server.database()
    make_schema(database)
    return database


@pytest.mark.parametrize("tls", ["prefer", "require", "verify-ca", "verify-full"])
async def test_every_mode_that_encrypts_gets_in(
    tls_database: Database, tls_server: PostgresServer, opened: Open, tmp_path: Path, tls: str
) -> None:
    """With the right authority each mode connects, and the server says that the connection is encrypted."""
    ca = {"tls_ca": str(tls_server.ca_file)} if tls.startswith("verify") else {}
    settings = PostgresSettings.model_validate({"url": tls_database.app_url, "tls": tls, **ca})
    backend = await opened(OpenContext("pg", settings, BUILTIN_KINDS, tmp_path))
    assert (await backend.gateway_health()).details["tls"] is True


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tls": "disable"}, "STORAGE_POSTGRES_TLS=require"),
        ({"tls": "verify-full", "tls_ca": "system"}, "certificate is not trusted"),
        # The same address, written in a way that the certificate does not know.
        ({"tls": "verify-full", "host": "127.1"}, "certificate is not trusted"),
    ],
)
async def test_what_is_not_safe_is_refused(
    tls_database: Database,
    tls_server: PostgresServer,
    opened: Open,
    tmp_path: Path,
    options: dict[str, str],
    words: str,
) -> None:
    """Plain text, a stranger's authority, and a certificate for another host end in one clear sentence each."""
    given = {"tls_ca": str(tls_server.ca_file)} if options["tls"] != "disable" else {}
    given |= options
    url = tls_database.app_url.replace("@127.0.0.1", f"@{given.pop('host', '127.0.0.1')}")
    settings = PostgresSettings.model_validate({"url": url, **given})
    with pytest.raises(StoreError, match=words):
        await opened(OpenContext("pg", settings, BUILTIN_KINDS, tmp_path))
