"""Servers and connections that die while bots write: no acknowledged write is lost, and none counts twice."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway import Gateway
from gateway.errors import StoreUnavailableError
from tests.plugins.postgres.crowd import Crowd, agrees, are_clear
from tests.prepared import environ_of, make_schema
from tests.servers import Database, PgBouncer, PostgresServer

pytestmark = pytest.mark.anyio
ROUNDS: Final = 3


@pytest.fixture(scope="module")
def mortal() -> Iterator[PostgresServer]:
    """A server of this file's own, since others would not like it killed."""
    with PostgresServer.wheel() as server:
        yield server


@pytest.fixture(scope="module")
def mortal_database(mortal: PostgresServer) -> Iterator[Database]:
    """A database on it; each test is a tenant of its own there."""
    with mortal.fresh() as made:
        make_schema(made)
        yield made
        mortal.start()


@pytest.fixture
def database(mortal: PostgresServer, mortal_database: Database) -> Database:
    """The database, with its server alive."""
    mortal.start()
    return mortal_database


def opened(url: str, directory: Path, **settings: str) -> Gateway:
    """Return a gateway on a PostgreSQL store, not open yet."""
    chosen = environ_of(url, tenant=str(uuid.uuid4()), **settings)
    return Gateway("postgres", data_dir=directory, environ=chosen, env_file=None)


async def crash(server: PostgresServer) -> None:
    """Kill every process of the server with SIGKILL, then start it again on what it left."""
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


@pytest.mark.parametrize("patience", ["0", "30"], ids=["refused", "waiting"])
async def test_a_killed_server_loses_nothing_and_doubles_nothing(
    mortal: PostgresServer, database: Database, tmp_path: Path, patience: str
) -> None:
    """64 writers live through several crashes: what was acknowledged is there once; the rest waited or was told."""
    chance = random.Random(int(patience))

    async def story(crowd: Crowd) -> None:
        for _ in range(ROUNDS):
            await crowd.more(chance.randrange(200, 900))
            await crash(mortal)
        await crowd.more(300)

    async with opened(database.app_url, tmp_path, retry_seconds=patience) as gateway:
        ledger = await Crowd(gateway).live(story)
        await agrees(gateway, ledger)
    are_clear(ledger.errors, database.app_url)
    # Without patience each crash is told to those whose write was under way; with it nobody hears of it.
    assert bool(ledger.errors) == (patience == "0")


async def test_a_killed_server_behind_a_pooler(
    mortal: PostgresServer, database: Database, tmp_path: Path
) -> None:
    """The same through PgBouncer, which stays up and loses its connections to the server."""

    async def story(crowd: Crowd) -> None:
        await crowd.more(500)
        await crash(mortal)
        await crowd.more(500)

    with PgBouncer(mortal) as bouncer:
        async with opened(bouncer.url_of(database.app_url), tmp_path, retry_seconds="30") as gateway:
            ledger = await Crowd(gateway).live(story)
            await agrees(gateway, ledger)
    are_clear(ledger.errors, database.app_url)


async def test_connections_that_are_terminated_again_and_again(database: Database, tmp_path: Path) -> None:
    """An administrator who ends the bot's connections while they write costs time, and no write."""

    def terminate() -> None:
        database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gw_app'")

    async def story(crowd: Crowd) -> None:
        for _ in range(12):
            await crowd.more(60)
            await asyncio.to_thread(terminate)
        await crowd.more(300)

    async with opened(database.app_url, tmp_path, retry_seconds="30") as gateway:
        ledger = await Crowd(gateway).live(story)
        await agrees(gateway, ledger)
    assert not ledger.errors


async def test_a_server_that_is_away_at_the_start_is_named(
    mortal: PostgresServer, database: Database, tmp_path: Path
) -> None:
    """Opening fails with one clear error, within seconds, alone and as the one that leads; afterwards it works."""
    await asyncio.to_thread(mortal.stop)
    for backends in ("postgres", "postgres,sqlite"):
        gateway = Gateway(backends, data_dir=tmp_path, environ=environ_of(database.app_url), env_file=None)
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match=f"postgres: .*{mortal.port}") as caught:
            await gateway.open()
        assert time.monotonic() - began < 5
        are_clear([caught.value], database.app_url)
    await asyncio.to_thread(mortal.start)
    async with opened(database.app_url, tmp_path) as gateway:
        assert (await gateway.health()).ok


async def test_reads_and_health_while_the_server_is_away(
    mortal: PostgresServer, database: Database, tmp_path: Path
) -> None:
    """A bot that stays open is told that the store is down, never that there is nothing, and goes on afterwards."""
    async with opened(database.app_url, tmp_path, retry_seconds="0") as gateway:
        await gateway.insert_trade(market_name="M", action="buy", side="YES", price=1, amount=1)
        await asyncio.to_thread(mortal.kill)
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                await gateway.get_trades()
            with pytest.raises(StoreUnavailableError):
                await gateway.load_position("none")
            with pytest.raises(StoreUnavailableError):
                await gateway.insert_trade(market_name="M", action="buy", side="YES", price=1, amount=1)
        health = await gateway.health()
        assert not health.ok
        assert str(mortal.port) in health.backends["postgres"].summary
        await asyncio.to_thread(mortal.start)
        assert len(await gateway.get_trades()) == 1
        assert (await gateway.health()).ok
