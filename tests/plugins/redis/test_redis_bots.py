"""Bots whose cache misbehaves: what they read is never older than what was acknowledged or read before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway
from gateway_redis.cache import RedisCache
from gateway_redis.settings import RedisSettings
from tests.open_cache import incarnation_of, open_cache
from tests.servers import Database, FaultProxy, RedisServer

KEYS = ("a", "b", "c")
OPENED = datetime(2026, 1, 5, tzinfo=UTC)
PATIENCE, PERMIT = 2.0, 0.15
"""`STORAGE_TIMEOUT` and `STORAGE_CACHE_PERMIT`, in seconds: after a fault the cache is open again within seven."""


@dataclass
class Truth:
    """What every reader may rely on, by key: the greatest amount acknowledged, or read, so far."""

    least: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KEYS, 0))
    reads: int = 0
    writes: int = 0
    slowest_read: float = 0.0
    slowest_write: float = 0.0
    goal: tuple[int, int, asyncio.Event] | None = None

    async def after(self, reads: int, writes: int) -> None:
        """Wait until so many more reads and writes were made."""
        self.goal = (self.reads + reads, self.writes + writes, asyncio.Event())
        await self.goal[2].wait()

    def count(self, *, reads: int = 0, writes: int = 0) -> None:
        """Count what was made."""
        self.reads += reads
        self.writes += writes
        if self.goal is not None and self.reads >= self.goal[0] and self.writes >= self.goal[1]:
            self.goal[2].set()

    def known(self, key: str, amount: int) -> None:
        """Note an amount that nobody may fall behind from now on."""
        self.least[key] = max(self.least[key], amount)


async def _write(bot: Gateway, key: str, amount: int, truth: Truth) -> None:
    began = time.monotonic()
    await bot.save_position(
        condition_id=key, market_name="BTC", side="YES", entry_price="0.5", amount=amount, opened_at=OPENED
    )
    truth.known(key, amount)
    truth.count(writes=1)
    truth.slowest_write = max(truth.slowest_write, time.monotonic() - began)


async def _read(bot: Gateway, key: str, truth: Truth) -> None:
    least, began = truth.least[key], time.monotonic()
    found = await bot.load_position(key)
    truth.slowest_read = max(truth.slowest_read, time.monotonic() - began)
    assert found is not None
    assert found.amount is not None
    assert int(found.amount) >= least, f"{key}: read {found.amount} after {least} was known"
    truth.known(key, int(found.amount))
    truth.count(reads=1)


async def _trade(
    bots: list[Gateway], truth: Truth, faults: list[Callable[[], object]], each: int = 150
) -> None:
    """Let bots write and read, and let one thing after the other go wrong, each after so many more reads."""
    done = asyncio.Event()

    async def writer(key: str) -> None:
        amount = truth.least[key]
        while not done.is_set():
            amount += 1
            await _write(bots[amount % len(bots)], key, amount, truth)

    async def reader(bot: Gateway, key: str) -> None:
        while not done.is_set():
            await _read(bot, key, truth)

    async def fate() -> None:
        for fault in (*faults, lambda: None):
            await asyncio.to_thread(fault)
            # So many writes that each bot made some, since it is a write that notices that others must not read.
            await truth.after(each, 2 * len(KEYS))
        done.set()

    async with asyncio.TaskGroup() as tasks:
        for key in KEYS:
            tasks.create_task(writer(key))
            for bot in bots:
                tasks.create_task(reader(bot, key))
        tasks.create_task(fate())


@pytest.fixture
def served() -> Iterator[tuple[RedisServer, FaultProxy]]:
    """A server of the test's own, and a proxy before it."""
    with RedisServer.made() as server, FaultProxy(server.host, server.port) as proxy:
        yield server, proxy


@asynccontextmanager
async def two_bots(directory: Path, database: Database, *urls: str) -> AsyncIterator[list[Gateway]]:
    """Open bots on one database, each with its own way to the cache, and wait until the cache serves all of them."""
    variables = {
        "STORAGE_POSTGRES_URL": database.app_url,
        "STORAGE_REDIS_COMMAND_TIMEOUT": "0.5",
        "STORAGE_REDIS_CONNECT_TIMEOUT": "0.5",
        "STORAGE_TIMEOUT": str(PATIENCE),
        "STORAGE_CACHE_PERMIT": str(PERMIT),
    }
    await already_open(database, directory, urls[0])
    bots = [
        Gateway(
            "postgres,redis",
            data_dir=directory / str(at),
            environ={**variables, "STORAGE_REDIS_URL": url},
            env_file=None,
        )
        for at, url in enumerate(urls)
    ]
    try:
        for bot in bots:
            await bot.open()
        truth = Truth()
        for key in KEYS:
            await _write(bots[0], key, 0, truth)
        await _used(bots)
        yield bots
    finally:
        for bot in bots:
            await bot.close()


async def already_open(database: Database, directory: Path, url: str) -> None:
    """Have the stores say that the cache is open, which no bot has used yet."""
    incarnation = await incarnation_of(RedisCache(RedisSettings(url=url)))
    environ = {"STORAGE_POSTGRES_URL": database.app_url}
    async with Gateway("postgres", data_dir=directory / "before", environ=environ, env_file=None) as plain:
        await open_cache(plain, incarnation, timeout=PATIENCE, permit=PERMIT)


async def _counters(bot: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = (await bot.health()).details["counters"]
    return found


async def _used(bots: list[Gateway], patience: float = 60.0) -> None:
    """Wait until every bot has an answer of the cache."""
    before = [(await _counters(bot))["cache_hits"] for bot in bots]
    until = time.monotonic() + patience
    while True:
        for bot in bots:
            for key in KEYS:
                await bot.load_position(key)
        hits = [(await _counters(bot))["cache_hits"] for bot in bots]
        if all(now > then for now, then in zip(hits, before, strict=True)):
            return
        assert time.monotonic() < until, f"the cache is not used: {[await bot.health() for bot in bots]}"
        await asyncio.sleep(0.02)


@pytest.mark.anyio
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "fault", ["emptied", "scripts forgotten", "killed", "network down", "slow", "half open", "cut"]
)
async def test_whatever_happens_to_the_cache(
    served: tuple[RedisServer, FaultProxy], prepared_database: Database, tmp_path: Path, fault: str
) -> None:
    """Two bots, one behind a bad network: no error, no old answer, and the cache is used again afterwards."""
    server, proxy = served

    def restart() -> None:
        server.kill()
        server.start()

    faults: dict[str, list[Callable[[], object]]] = {
        "emptied": [lambda: server.ask("FLUSHALL")] * 3,
        "scripts forgotten": [lambda: server.ask("SCRIPT", "FLUSH")] * 3,
        "killed": [restart, restart],
        "network down": [proxy.silence, proxy.heal, proxy.refuse, proxy.heal],
        "slow": [lambda: proxy.delay(0.2), proxy.heal],
        "half open": [proxy.half_open, proxy.heal],
        "cut": [lambda: proxy.cut_answer(b"EVALSHA", 2), lambda: proxy.cut_request(b"EVALSHA", 20)] * 3,
    }
    urls = (server.url(), proxy.url_of(server.url()))
    async with two_bots(tmp_path, prepared_database, *urls) as bots:
        truth = Truth()
        await _trade(bots, truth, faults[fault])
        assert truth.writes > 0
        # A loaded machine is slow too; what must not be is a wait for the cache's own timeouts, call after call.
        assert truth.slowest_read < 3
        assert truth.slowest_write < 10
        proxy.heal()
        await _used(bots)
        health = await bots[1].health()
        assert health.ok


@pytest.mark.anyio
@pytest.mark.timeout(180)
async def test_under_eviction(prepared_database: Database, tmp_path: Path) -> None:
    """A server too small for what others put there evicts all the time, fences too; the bots notice nothing."""
    lines = ["maxmemory 4mb", "maxmemory-policy allkeys-random"]
    with RedisServer.made(lines=lines) as server:

        def crowd() -> None:
            client = server.client()
            try:
                with client.pipeline(transaction=False) as pipe:
                    for at in range(400):
                        pipe.set(f"others{time.monotonic_ns()}{at}", "x" * 20_000)
                    pipe.execute()
            finally:
                client.close()

        async with two_bots(tmp_path, prepared_database, server.url(), server.url()) as bots:
            await _trade(bots, Truth(), [crowd] * 6)
            assert int(server.ask("INFO", "stats")["evicted_keys"]) > 100
            assert (await bots[0].health()).ok


@pytest.mark.anyio
async def test_a_cache_that_is_away_at_the_start_costs_no_more_than_a_warning(
    prepared_database: Database, tmp_path: Path
) -> None:
    """The bot opens, writes and reads; its health is good, and says that the cache is not."""
    with RedisServer.made() as server:
        server.stop()
        variables = {"STORAGE_POSTGRES_URL": prepared_database.app_url, "STORAGE_REDIS_URL": server.url()}
        async with Gateway("postgres,redis", data_dir=tmp_path, environ=variables, env_file=None) as bot:
            truth = Truth()
            await _write(bot, "a", 1, truth)
            await _read(bot, "a", truth)
            health = await bot.health()
            assert health.ok
            assert not health.details["cache"]["ok"]
            assert server.password not in str(health)
