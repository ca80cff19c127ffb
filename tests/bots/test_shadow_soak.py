"""Shadow reads for hours of a bot's life: a whole gateway, live writes, a mirror that lags and fails, nothing false.

STORAGE_TEST_COMPARISONS says how many reads are compared in a soak run, a million by default.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from gateway import Gateway
from gateway.errors import StoreUnavailableError
from gateway.hookspecs import BackendCall, hookimpl
from gateway.migration.verify import verify_kind
from gateway.records import DAILY_STATS, POSITIONS, TRADES
from tests.mirrors import drained
from tests.servers import Database, FaultProxy

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, tzinfo=UTC)
FEW, MANY = 24, 480
"""Markets: with few of them nearly all that is read was written just now; with many a run of hours ends sooner."""
ENDED: Final = ("match", "lagging", "diverged", "unstable", "failed", "timed_out")
AHEAD: Final = 400
"""Reads that are offered and not compared yet, at most: more would be dropped, and count for nothing."""
GROWTH: Final = 64.0
"""Megabytes that the process may grow by once it is warm."""


class Lag:
    """A plugin that lets writes to one store wait, and some of them fail, or fail after they were done."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._random = random.Random(7)
        self.writes = 0
        self.failed = 0

    @hookimpl
    def gateway_wrap(self, call: BackendCall) -> AbstractAsyncContextManager[None] | None:
        """Be in the way of writes."""
        if call.backend != self._store or not call.hook.startswith("gateway_write"):
            return None
        return self._delayed()

    @asynccontextmanager
    async def _delayed(self) -> AsyncIterator[None]:
        luck = self._random.random()
        self.writes += 1
        await asyncio.sleep(luck / 10)
        if luck < 0.01:
            self.failed += 1
            raise StoreUnavailableError("unreachable")
        yield
        if luck > 0.99:
            self.failed += 1
            raise StoreUnavailableError("the answer was lost")


class Life:
    """Bots that write and read, as fast as reads are compared.

    Args:
        gateway: Compares all that is read.
        seed: Of what they do.
        markets: How many they trade in.
    """

    def __init__(self, gateway: Gateway, seed: int, markets: int = FEW) -> None:
        self.gateway = gateway
        self.markets = tuple(f"m{at:03}" for at in range(markets))
        self.random = random.Random(seed)
        self.stop = asyncio.Event()
        self.offered = 0
        self.purged = 0
        self.written = 0
        self.memory: list[float] = []

    @property
    def compared(self) -> int:
        """How many comparisons came to an end."""
        return sum(getattr(self.gateway.counters, f"shadow_{name}") for name in ENDED)

    async def writer(self) -> None:
        """Write until told to stop, so that what is read was often written just now."""
        gateway, chance = self.gateway, self.random
        while not self.stop.is_set():
            market, drawn = chance.choice(self.markets), chance.random()
            if drawn < 0.5:
                price = chance.randrange(1, 99)
                await gateway.save_position(condition_id=market, side="YES", entry_price=price, opened_at=NOW)
            elif drawn < 0.6:
                await gateway.close_position(market, "take-profit")
            elif drawn < 0.65:
                await gateway.delete("positions", market)
            elif drawn < 0.7:
                await gateway.update_daily_stats("2026-03-12", trade_count_delta=1, pnl_delta=1)
            else:
                await gateway.insert_trade(market_name=market, action="buy", side="YES", price=1, amount=1)
            self.written += 1
            await asyncio.sleep(chance.random() / 50)

    async def reader(self) -> None:
        """Read until told to stop, never further ahead of the comparisons than they may wait."""
        gateway, chance = self.gateway, self.random
        listings = 0.1 * FEW / len(self.markets)  # each of them lists the positions of all markets
        while not self.stop.is_set():
            counters = gateway.counters
            if self.offered - self.compared - counters.shadow_dropped >= AHEAD:
                await asyncio.sleep(0.002)
                continue
            self.offered += 1
            market, drawn = chance.choice(self.markets), chance.random()
            if drawn < 0.05:
                await gateway.get("daily_stats", "2026-03-12")
            elif drawn < 0.05 + listings / 2:
                await gateway.get_open_positions()
            elif drawn < 0.05 + listings:
                await gateway.get_trades(limit=10)
            else:
                await gateway.get("positions", market)

    async def purger(self) -> None:
        """Remove old trades now and then; what is written meanwhile is younger."""
        while not await self._stops(2.0):
            before = datetime.now(UTC) - timedelta(seconds=self.random.randrange(5, 40))
            self.purged += await self.gateway.engine.purge(TRADES, before)

    async def _stops(self, seconds: float) -> bool:
        """Wait for a while, and tell whether it is time to stop."""
        try:
            async with asyncio.timeout(seconds):
                return await self.stop.wait()
        except TimeoutError:
            return False

    async def live(self, comparisons: int) -> float:
        """Live until so many reads were compared; return how many were compared a second."""
        work = [self.writer() for _ in range(3)] + [self.reader() for _ in range(8)] + [self.purger()]
        tasks = [asyncio.create_task(one) for one in work]
        began, first = time.monotonic(), self.compared
        told = 0
        try:
            while self.compared - first < comparisons:
                done, _ = await asyncio.wait(tasks, timeout=0.25, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    one.result()  # none of them ends before it is told to
                if 20 * (self.compared - first) // comparisons > told:
                    told += 1
                    self.memory.append(memory())
                    if comparisons > 10_000:
                        sys.stderr.write(f"{self.told()}\n")
        finally:
            self.stop.set()
            await asyncio.gather(*tasks)
        return (self.compared - first) / (time.monotonic() - began)

    async def settled(self) -> None:
        """Let everything arrive, and every comparison end."""
        await drained(self.gateway)
        shadow = self.gateway._shadow
        assert shadow is not None
        async with asyncio.timeout(330):
            await shadow.drain()

    def told(self) -> str:
        """Return how it went, for people."""
        counters = self.gateway.counters
        ends = ", ".join(f"{name} {getattr(counters, f'shadow_{name}'):,}" for name in ENDED)
        return (
            f"{self.compared:,} comparisons ({ends}; dropped {counters.shadow_dropped:,}), {self.written:,} writes, "
            f"{self.purged:,} rows purged, megabytes {self.memory[0]:.0f} to {self.memory[-1]:.0f}"
        )


def memory() -> float:
    """Return the megabytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@asynccontextmanager
async def opened(backends: str, directory: Path, **more: Any) -> AsyncIterator[Gateway]:
    """Open a gateway that compares every read."""
    settings = {"environ": {}, "phase": "shadow_read", "shadow_sample": "1", "shadow_timeout": 20.0, **more}
    async with Gateway(backends, data_dir=directory, env_file=None, **settings) as gateway:
        yield gateway


async def unquestioned(life: Life) -> None:
    """Make sure that the mirror lagged, that nothing was called different, and that nothing was."""
    await life.settled()
    counters, shadow = life.gateway.counters, life.gateway._shadow
    assert shadow is not None
    await shadow._divergences.flush()
    assert shadow._divergences.listed(10) == (), life.told()
    assert counters.shadow_diverged == 0, life.told()
    assert counters.shadow_match > 0
    assert counters.shadow_lagging > 0, "the mirror was never behind, so nothing was tried"
    one, other = life.gateway.engine.stores.values()
    for kind in (POSITIONS, TRADES, DAILY_STATS):
        report = await verify_kind(one, other, kind, life.gateway.engine.stamper.tenant, deep=True)
        assert report.ok, report


async def soaked(life: Life) -> None:
    """Live through as many comparisons as are asked for, and say how it went."""
    rate = await life.live(int(os.environ.get("STORAGE_TEST_COMPARISONS", "1000000")))
    await unquestioned(life)
    sys.stderr.write(f"\n{life.told()}, {rate:,.0f} comparisons a second\n")
    warm = max(life.memory[: max(1, len(life.memory) // 4)])
    assert life.memory[-1] - warm < GROWTH, life.memory


def files(directory: Path) -> str:
    """Return two SQLite files, as in STORAGE_BACKENDS."""
    return f"old=sqlite:{directory}/old.db,new=sqlite:{directory}/new.db"


@contextmanager
def slow_network(database: Database) -> Iterator[str]:
    """Give the URL of a database behind a network that is slow."""
    with FaultProxy(database.server.host, database.server.port) as proxy:
        proxy.delay(0.005)
        yield proxy.url_of(database.app_url)


async def test_a_lagging_mirror_of_a_whole_gateway_is_never_called_diverged(tmp_path: Path) -> None:
    """Under writes, deletions, deltas and purges, with a mirror that is late and sometimes fails."""
    lag = Lag("new")
    async with opened(files(tmp_path), tmp_path, plugins=[lag]) as gateway:
        life = Life(gateway, seed=3)
        await life.live(2_000)
        await unquestioned(life)
        assert lag.writes


@pytest.mark.soak
@pytest.mark.timeout(14_400)
async def test_a_million_comparisons_report_nothing_false(tmp_path: Path) -> None:
    """Two files, of which one is up to a tenth of a second behind, and now and then fails and is behind for longer."""
    lag = Lag("new")
    async with opened(files(tmp_path), tmp_path, plugins=[lag]) as gateway:
        await soaked(Life(gateway, seed=1, markets=MANY))
        assert lag.failed


@pytest.mark.soak
@pytest.mark.timeout(14_400)
async def test_a_million_comparisons_with_a_server_report_nothing_false(
    common_database: Database, tmp_path: Path
) -> None:
    """A file, and PostgreSQL behind a slow network."""
    with slow_network(common_database) as url:
        environ = {"STORAGE_POSTGRES_URL": url}
        async with opened("sqlite,postgres", tmp_path, environ=environ, plugins=[Lag("postgres")]) as gateway:
            await soaked(Life(gateway, seed=2, markets=MANY))
