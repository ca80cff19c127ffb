"""A network that breaks between a gateway and its mirror: the bot notices nothing, and both stores agree afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway
from gateway.migration.verify import verify_kind
from gateway.mirror.contract import FeedOptions, FeedStatus
from gateway.mirror.facade import Mirrors
from gateway.records import DAILY_STATS, OPERATIONS, POSITIONS, TRADES, Trade
from tests.servers import Database, FaultProxy, QuestDbServer

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, tzinfo=UTC)
ONE = Decimal(1)
KINDS = (TRADES, POSITIONS, DAILY_STATS, OPERATIONS)
TASKS, ROUNDS = 16, 30
PATIENCE = 60.0
"""Seconds after which something that happens by itself should have happened."""
TIMEOUT = 3.0
"""Seconds after which a call to a store is given up here."""


@dataclass
class Scene:
    """A gateway whose mirror is behind a proxy."""

    gateway: Gateway
    proxies: tuple[FaultProxy, ...]
    primary: str
    mirror: str

    @property
    def mirrors(self) -> Mirrors:
        """The gateway's."""
        assert self.gateway.engine.mirrors is not None
        return self.gateway.engine.mirrors  # type: ignore[return-value] # it is the only implementation outside tests

    def feed(self) -> FeedStatus:
        """Return what the feed of the mirror is at."""
        return self.mirrors.feed(self.primary, self.mirror).status()

    def each(self, fault: Callable[[FaultProxy], None]) -> None:
        """Do something to every proxy of the mirror."""
        for proxy in self.proxies:
            fault(proxy)

    async def waiting(self) -> int:
        """Return whether changes wait for the mirror: 0 or 1."""
        stores, tenant = self.gateway.engine.stores, self.gateway.engine.stamper.tenant
        return len(await stores[self.primary].pending(self.mirror, tenant, 1))

    async def converged(self) -> None:
        """Wait until nothing waits for the mirror any more, without doing anything for it, and compare the stores."""

        async def arrived() -> bool:
            return not await self.waiting()

        await becomes(arrived)
        stores, tenant = self.gateway.engine.stores, self.gateway.engine.stamper.tenant
        for kind in KINDS:
            report = await verify_kind(stores[self.primary], stores[self.mirror], kind, tenant, deep=True)
            assert report.ok, report
            assert report.digests_equal, report


async def becomes(true: Callable[[], Awaitable[bool]], seconds: float = PATIENCE) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


@asynccontextmanager
async def opened(
    backends: str, environ: dict[str, str], directory: Path, proxies: tuple[FaultProxy, ...], **settings: Any
) -> AsyncIterator[Scene]:
    """Open a gateway whose mirror is behind proxies, and let it work a little, so that everything is connected."""
    primary, mirror = backends.split(",")
    settings = {"timeout": TIMEOUT, "shadow_timeout": TIMEOUT, **settings}
    async with Gateway(backends, data_dir=directory, environ=environ, env_file=None, **settings) as gateway:
        yield Scene(gateway, proxies, primary, mirror)


@pytest.fixture
def proxy(common_database: Database) -> Iterator[FaultProxy]:
    """Stand before PostgreSQL."""
    server = common_database.server
    with FaultProxy(server.host, server.port) as proxy:
        yield proxy


@pytest.fixture
async def scene(proxy: FaultProxy, environ: dict[str, str], tmp_path: Path) -> AsyncIterator[Scene]:
    """Open a gateway on a file, with PostgreSQL as its mirror."""
    through = {**environ, "STORAGE_POSTGRES_URL": proxy.url_of(environ["STORAGE_POSTGRES_URL"])}
    async with opened("sqlite,postgres", through, tmp_path, (proxy,)) as scene:
        yield scene


async def bot(gateway: Gateway, name: str, rounds: int, taken: list[float]) -> None:
    """Do what a bot does, and take down how many seconds each call took. A call that fails fails the test."""
    for at in range(rounds):
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: gateway.insert_trade(market_name=name, action="buy", side="YES", price=1, amount=1),
            lambda: gateway.save_position(condition_id="shared", side="YES", entry_price=1, opened_at=NOW),
            lambda: gateway.save_position(condition_id=name, side="YES", entry_price=1, opened_at=NOW),
            lambda: gateway.load_position("shared"),
        )
        for call in (
            calls if at % 10 else (*calls, lambda: gateway.update_daily_stats("2026-03-12", pnl_delta=1))
        ):
            began = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - began)


async def work(gateway: Gateway, rounds: int = ROUNDS) -> list[float]:
    """Let bots work side by side and return how many seconds each call took, in order."""
    taken: list[float] = []
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(bot(gateway, f"m{at}", rounds, taken) for at in range(TASKS)))
    return sorted(taken)


def p99(taken: list[float]) -> float:
    """Return what 99 of 100 calls did not take longer than."""
    return taken[len(taken) * 99 // 100]


def unhindered(calm: list[float], bad: list[float], cost: float = 0.4) -> None:
    """Make sure that calls took about as long as they did before: whoever waited for the mirror took longer.

    Args:
        calm: Seconds that calls took before.
        bad: Seconds that they take now.
        cost: Seconds that waiting for the mirror takes: a stall of a busy machine takes less than half of a timeout.
    """
    assert p99(bad) < max(5 * p99(calm) + 0.2, cost / 2), (p99(calm), p99(bad))


async def stays_unhindered(calm: list[float], scene: Scene) -> None:
    """Make sure of the same where the fault goes on: then calls are slow each time, and the machine is not."""
    for _ in range(2):
        bad = await work(scene.gateway)
        if p99(bad) < 5 * p99(calm) + 0.2:
            return
    unhindered(calm, await work(scene.gateway))


HANGING: dict[str, Callable[[FaultProxy], None]] = {
    "half open": FaultProxy.half_open,
    "partition": FaultProxy.silence,
    "cut off": FaultProxy.vanish,
    "not read": lambda proxy: proxy.throttle(0),
}
FAILING: dict[str, Callable[[FaultProxy], None]] = {
    "refused": FaultProxy.refuse,
    "flapping": lambda proxy: proxy.flap(0.02, 0.5),
}
SLOW: dict[str, Callable[[FaultProxy], None]] = {
    "delay": lambda proxy: proxy.delay(0.2),
    "slow reads": lambda proxy: proxy.throttle(20_000),
    "reset": FaultProxy.reset,
}


def _cases(faults: Mapping[str, object], *seldom: str) -> list[Any]:
    """Return the names of faults; those that show much the same as another are tried where there is time."""
    return [pytest.param(name, marks=pytest.mark.soak) if name in seldom else name for name in faults]


@pytest.mark.parametrize("name", _cases(HANGING, "half open", "not read"))
async def test_a_mirror_that_hangs_is_waited_for_by_nobody(scene: Scene, name: str) -> None:
    """Thousands of calls are served while nothing reaches the mirror; later it gets all of them by itself."""
    calm = await work(scene.gateway)
    await scene.mirrors.feed(scene.primary, scene.mirror).flush()
    before = scene.feed().written
    scene.each(HANGING[name])
    bad = await work(scene.gateway)
    assert scene.feed().written == before, "the mirror got something, so it did not hang"
    unhindered(calm, bad, TIMEOUT)
    await becomes(_open_circuit(scene))
    unhindered(calm, await work(scene.gateway), TIMEOUT)
    assert await scene.waiting()
    scene.each(FaultProxy.heal)
    await scene.converged()
    assert scene.feed().circuit == "closed"


def _open_circuit(scene: Scene) -> Callable[[], Awaitable[bool]]:
    async def is_open() -> bool:
        return scene.feed().circuit.startswith("open")

    return is_open


@pytest.mark.parametrize("name", FAILING)
async def test_a_mirror_that_fails_is_noticed_by_nobody(scene: Scene, name: str) -> None:
    """The circuit opens, calls go on as before, and later the mirror gets all by itself."""
    calm = await work(scene.gateway)
    scene.each(FAILING[name])
    while not scene.feed().circuit.startswith("open"):
        await work(scene.gateway, 5)
    await stays_unhindered(calm, scene)
    scene.each(FaultProxy.heal)
    await scene.converged()


@pytest.mark.parametrize("name", _cases(SLOW, "slow reads"))
async def test_a_mirror_that_is_slow_slows_nobody(scene: Scene, name: str) -> None:
    """Calls go on as before; the mirror gets everything, by feed or by relay."""
    calm = await work(scene.gateway)
    scene.each(SLOW[name])
    await stays_unhindered(calm, scene)
    scene.each(FaultProxy.heal)
    await scene.converged()


async def test_what_waits_in_memory_is_bounded(
    proxy: FaultProxy, environ: dict[str, str], tmp_path: Path
) -> None:
    """While a mirror hangs, no more rows than declared are held for it; the others are in the journal alone."""
    through = {**environ, "STORAGE_POSTGRES_URL": proxy.url_of(environ["STORAGE_POSTGRES_URL"])}
    bound, count = FeedOptions().rows, 24_000
    async with opened("sqlite,postgres", through, tmp_path, (proxy,), timeout=20.0) as scene:
        proxy.silence()
        trades = [
            Trade(timestamp=NOW, market_name="m", action="buy", side="YES", price=ONE, amount=Decimal(at))
            for at in range(1, count + 1)
        ]
        assert await scene.gateway.put_many(trades) == count
        status = scene.feed()
        assert 0 < status.waiting <= bound
        assert status.left >= count - bound
        proxy.heal()
        await scene.converged()


async def test_closing_while_the_mirror_hangs_is_bounded(
    proxy: FaultProxy, environ: dict[str, str], tmp_path: Path
) -> None:
    """A gateway with the usual timeouts closes within seconds, and the next one brings the mirror what was left."""
    through = {**environ, "STORAGE_POSTGRES_URL": proxy.url_of(environ["STORAGE_POSTGRES_URL"])}
    async with opened("sqlite,postgres", through, tmp_path, (proxy,), timeout=30.0) as scene:
        await work(scene.gateway, 5)
        proxy.silence()
        await work(scene.gateway, 5)
        began = time.monotonic()
        await scene.gateway.close()
        assert time.monotonic() - began < 20
    proxy.heal()
    async with opened("sqlite,postgres", through, tmp_path, (proxy,)) as scene:
        await scene.converged()
        assert await scene.gateway.get_trades(limit=1_000) != []


async def test_reads_that_are_compared_do_not_wait_for_a_mirror_that_hangs(
    proxy: FaultProxy, environ: dict[str, str], tmp_path: Path
) -> None:
    """All reads are compared; while the other store hangs they are as fast, and nothing is called different."""
    through = {**environ, "STORAGE_POSTGRES_URL": proxy.url_of(environ["STORAGE_POSTGRES_URL"])}
    settings = {"phase": "shadow_read", "shadow_sample": "1"}
    async with opened("sqlite,postgres", through, tmp_path, (proxy,), **settings) as scene:
        gateway = scene.gateway
        await work(gateway, 5)
        calm = await reads(gateway)
        proxy.silence()
        unhindered(calm, await reads(gateway), TIMEOUT)
        await becomes(_timed_out(gateway))
        unhindered(calm, await reads(gateway), TIMEOUT)
        proxy.heal()
        await scene.converged()
        assert gateway.counters.shadow_diverged == 0


def _timed_out(gateway: Gateway) -> Callable[[], Awaitable[bool]]:
    async def timed_out() -> bool:
        return gateway.counters.shadow_timed_out + gateway.counters.shadow_failed > 0

    return timed_out


async def reads(gateway: Gateway) -> list[float]:
    """Read as a bot does, and return how many seconds each call took, in order."""
    taken: list[float] = []

    async def read(at: int) -> None:
        for turn in range(30):
            began = time.perf_counter()
            if turn % 3:
                assert await gateway.load_position(f"m{at}") is not None
            else:
                assert len(await gateway.get_trades(limit=20)) == 20
            taken.append(time.perf_counter() - began)

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(read(at) for at in range(TASKS)))
    return sorted(taken)


@contextmanager
def before_questdb(server: QuestDbServer) -> Iterator[tuple[FaultProxy, FaultProxy]]:
    """Stand before both ports of QuestDB."""
    with FaultProxy(server.host, server.port) as http, FaultProxy(server.host, server.pg_port) as wire:
        yield http, wire


@pytest.mark.parametrize("name", [pytest.param("refused", marks=pytest.mark.soak), "partition"])
async def test_a_mirror_of_another_protocol(
    questdb: QuestDbServer, environ: dict[str, str], tmp_path: Path, name: str
) -> None:
    """QuestDB, written over HTTP and read over another port, is isolated and caught up with just the same."""
    with before_questdb(questdb) as (http, wire):
        url = f"questdb://admin:quest@{http.host}:{http.port}?pg_port={wire.port}"
        through = {**environ, "STORAGE_QUESTDB_URL": url}
        async with opened("postgres,questdb", through, tmp_path, (http, wire)) as scene:
            calm = await work(scene.gateway)
            scene.each({**HANGING, **FAILING}[name])
            unhindered(calm, await work(scene.gateway), TIMEOUT)
            await becomes(_open_circuit(scene))
            unhindered(calm, await work(scene.gateway), TIMEOUT)
            scene.each(FaultProxy.heal)
            await scene.converged()
