"""Writes that a store ends long after they were given up: no cached row may be out of date because of one."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway import Gateway
from gateway.errors import StoreBusyError, StoreTimeoutError
from tests.servers import Database, FaultProxy, PgBouncer, PostgresServer, RedisServer

OPENED = datetime(2026, 1, 5, tzinfo=UTC)
PATIENCE = 1.0
"""`STORAGE_TIMEOUT` of these bots, in seconds; a fence lasts two then."""
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
BUSY = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND state = 'active' AND query LIKE '%positions%'"""
AMOUNT = "SELECT amount::int FROM bots_core.positions WHERE condition_id = 'a'"


@asynccontextmanager
async def bots(path: Path, store: str, *variables: dict[str, str]) -> AsyncIterator[list[Gateway]]:
    """Open bots that give up soon and try nothing again."""
    common = {"STORAGE_TIMEOUT": str(PATIENCE), "STORAGE_CACHE_PERMIT": "0.3", "STORAGE_RETRY_SECONDS": "0"}
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Gateway(f"{store},redis", data_dir=path, environ={**common, **one}, env_file=None)
            )
            for one in variables
        ]


async def save(bot: Gateway, amount: int, key: str = "a") -> None:
    """Save a position."""
    await bot.save_position(
        condition_id=key, market_name="BTC", side="YES", entry_price="0.5", amount=amount, opened_at=OPENED
    )


async def amount_at(bot: Gateway) -> int:
    """Return what a bot reads."""
    found = await bot.load_position("a")
    assert found is not None
    assert found.amount is not None
    return int(found.amount)


async def served(bot: Gateway, patience: float = 40.0) -> int:
    """Read until the cache answers, and return what it said."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        before = await _hits(bot)
        found = await amount_at(bot)
        if await _hits(bot) > before:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"the cache did not answer: {(await bot.health()).details['cache']}")


async def _hits(bot: Gateway) -> int:
    return int((await bot.health()).details["counters"]["cache_hits"])


async def becomes(ask: Callable[[], Any], wanted: int) -> None:
    """Wait until a question has an answer."""
    until = time.monotonic() + 20
    while await ask() != wanted:
        assert time.monotonic() < until, "it did not come to pass"
        await asyncio.sleep(0.01)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("pooled", "bounded"),
    [(False, False), (True, False), (True, True)],
    ids=["direct", "pgbouncer", "pgbouncer, and the database has a timeout"],
)
async def test_a_statement_that_waits_for_a_lock_for_longer_than_the_fence(
    prepared_database: Database,
    postgres_server: PostgresServer,
    pgbouncer: PgBouncer,
    valkey_server: RedisServer,
    tmp_path: Path,
    pooled: bool,
    bounded: bool,
) -> None:
    """The bot is cut off while its statement waits: nobody can tell the server to stop, and it must not commit."""
    database = prepared_database
    if bounded:
        person = await asyncpg.connect(database.superuser_url)
        name = await person.fetchval("SELECT current_database()")
        await person.execute(f'ALTER DATABASE "{name}" SET statement_timeout = {round(PATIENCE * 1000)}')
        await person.close()
    before = pgbouncer if pooled else postgres_server
    url = pgbouncer.url_of(database.app_url) if pooled else database.app_url
    with FaultProxy(before.host, before.port) as proxy:
        cut = {"STORAGE_POSTGRES_URL": proxy.url_of(url), "STORAGE_REDIS_URL": valkey_server.url()}
        whole = {**cut, "STORAGE_POSTGRES_URL": database.app_url}
        async with bots(tmp_path, "postgres", cut, whole) as (lost, other):
            await save(lost, 1)
            assert await served(other) == 1
            person = await asyncpg.connect(database.superuser_url)
            holder = await asyncpg.connect(database.superuser_url)
            try:
                await holder.execute("BEGIN; SELECT 1 FROM bots_core.positions FOR UPDATE")
                writing = asyncio.create_task(save(lost, 2))
                await becomes(partial(person.fetchval, WAITING), 1)
                await asyncio.to_thread(proxy.silence)
                with pytest.raises(StoreTimeoutError):
                    await writing
                # Its fence has run out once the cache answers again; only now may the statement go on.
                assert await served(other) == 1
                await holder.execute("ROLLBACK")
                await becomes(partial(person.fetchval, BUSY), 0)
                assert await person.fetchval(AMOUNT) == 1
                assert await amount_at(other) == 1
            finally:
                await holder.close()
                await person.close()
                await asyncio.to_thread(proxy.heal)


@pytest.mark.anyio
async def test_a_file_that_another_process_holds_for_longer_than_the_fence(
    valkey_server: RedisServer, tmp_path: Path
) -> None:
    """The thread that waits for the file gives up with the bot, though it might wait for much longer by itself."""
    variables = {"STORAGE_REDIS_URL": valkey_server.url(), "STORAGE_REDIS_KEY_PREFIX": "late"}
    async with bots(tmp_path, "sqlite", variables, variables) as (lost, other):
        await save(lost, 1)
        assert await served(other) == 1
        with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises((StoreTimeoutError, StoreBusyError)):
                await save(lost, 2)
            assert await served(other) == 1
            holder.execute("ROLLBACK")
        await save(lost, 3, "b")  # one thread writes, so what was given up has ended before this
        stored = {one.condition_id: one.amount for one in await other.get_open_positions()}
        assert stored == {"a": 1, "b": 3}
        assert await amount_at(other) == 1
