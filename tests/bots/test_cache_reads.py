"""A bot with a cache: the same answers, whatever happens to the cache."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway import Gateway
from gateway.backend import BackendSettings, BackendSpec, Health, OpenContext, WriteBatch
from gateway.cache.contract import Contact, End, EndAnswer, Fill, FillAnswer, Miss, Terms
from gateway.cache.keeper import fence_for
from gateway.errors import CacheError, ConfigurationError, InvalidRecordError, StoreTimeoutError
from gateway.hookspecs import BackendCall, hookimpl
from gateway.records import POSITIONS, Position
from gateway.records.row import Row
from gateway.unfinished import outlives
from gateway_memory.cache import CacheServer, MemoryCache
from tests.open_cache import copied, prepared_file

pytestmark = pytest.mark.anyio
T = TypeVar("T")
NOW = datetime(2026, 3, 12, tzinfo=UTC)
QUICK: dict[str, Any] = {"timeout": 0.5, "cache_permit": 0.15, "env_file": None, "environ": {}}
"""Settings with which the cache opens within two seconds."""
LIFE = "prepared"
"""The first life of every test's server, for which the cache is open in the file that the test begins with."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in front of which the cache is open."""
    return prepared_file(tmp_path_factory.mktemp("prepared"), LIFE, **QUICK)


@pytest.fixture(autouse=True)
def _begun(prepared: Path, tmp_path: Path) -> None:
    """Let each test begin with a copy of it."""
    copied(prepared, tmp_path)


class FlakyCache:
    """A connection to a server that is slow, fails, or is cut off.

    Attributes:
        down: Whether nothing gets through.
        slow: Seconds that a call takes at most.
        failing: Share of the calls that fail, half of them after the server has done what was asked.
    """

    def __init__(self, server: CacheServer, chance: random.Random) -> None:
        self._inner = MemoryCache(server)
        self._chance = chance
        self.down = False
        self.slow = 0.0
        self.failing = 0.0

    async def contact(self) -> Contact:
        """Pass the question on."""
        return await self._through(self._inner.contact)

    async def get(
        self, incarnation: str, names: Sequence[str], token: str, terms: Terms
    ) -> Sequence[bytes | Miss]:
        """Pass the question on."""
        return await self._through(lambda: self._inner.get(incarnation, names, token, terms))

    async def fill(self, incarnation: str, fills: Sequence[Fill], terms: Terms) -> Sequence[FillAnswer]:
        """Pass the fills on."""
        return await self._through(lambda: self._inner.fill(incarnation, fills, terms))

    async def begin(self, incarnation: str, names: Sequence[str], token: str, terms: Terms) -> None:
        """Pass the announcement on."""
        await self._through(lambda: self._inner.begin(incarnation, names, token, terms))

    async def end(self, incarnation: str, ends: Sequence[End], terms: Terms) -> Sequence[EndAnswer]:
        """Pass the ends on."""
        return await self._through(lambda: self._inner.end(incarnation, ends, terms))

    async def health(self) -> Health:
        """Say whether it is down."""
        return Health(not self.down, "cut off" if self.down else "up")

    async def close(self) -> None:
        """Close the connection."""
        await self._inner.close()

    async def _through(self, call: Callable[[], Awaitable[T]]) -> T:
        await self._linger()
        if self.down or self._chance.random() < self.failing / 2:
            raise CacheError("the request was lost")
        answer = await call()
        await self._linger()
        if self._is_cut() or self._chance.random() < self.failing / 2:
            raise CacheError("the answer was lost")
        return answer

    def _is_cut(self) -> bool:
        return self.down

    async def _linger(self) -> None:
        if self.slow:
            await asyncio.sleep(self.slow * self._chance.random() ** 4)


class FlakyPlugin:
    """Brings the backend `flaky`, all of whose connections lead to one server."""

    def __init__(self, seed: int = 0, *, evicts: bool = False) -> None:
        self.server = CacheServer(evicts=evicts)
        self.server.incarnation = LIFE
        self.connections: list[FlakyCache] = []
        self._chance = random.Random(seed)

    @hookimpl
    def gateway_backends(self) -> tuple[BackendSpec, ...]:
        """Bring it."""
        return (
            BackendSpec(
                "flaky", "Fails", settings=BackendSettings, store_of_record=False, open_cache=self._open
            ),
        )

    async def _open(self, _: OpenContext) -> FlakyCache:
        self.connections.append(FlakyCache(self.server, self._chance))
        return self.connections[-1]


@asynccontextmanager
async def fleet(path: Path, plugin: FlakyPlugin, size: int, **settings: Any) -> AsyncIterator[list[Gateway]]:
    """Open gateways that share a SQLite file and a cache, and wait until the cache is open."""
    async with AsyncExitStack() as stack:
        gateways = [
            await stack.enter_async_context(
                Gateway("sqlite,flaky", plugins=[plugin], data_dir=path, **{**QUICK, **settings})
            )
            for _ in range(size)
        ]
        await opened(*gateways)
        yield gateways


async def opened(*gateways: Gateway) -> None:
    """Return once every gateway may read from the cache."""
    for gateway in gateways:
        await eventually(partial(in_use, gateway))


async def eventually(holds: Callable[[], bool]) -> None:
    """Return as soon as something holds; fail if it does not within half a minute."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        await asyncio.sleep(0.01)


def status(gateway: Gateway) -> dict[str, Any]:
    """Return what the cache says of itself."""
    assert gateway.engine.cache is not None
    return gateway.engine.cache.status()


def in_use(gateway: Gateway) -> bool:
    """Tell whether a gateway may read from the cache at this moment."""
    return bool(status(gateway)["in_use"])


async def save(gateway: Gateway, key: str, price: int) -> int:
    """Save a position and return its version."""
    ack = await gateway.save_position(condition_id=key, side="YES", entry_price=Decimal(price), opened_at=NOW)
    return ack.version


async def price(gateway: Gateway, key: str) -> Decimal | None:
    """Return a position's price, read by key."""
    position = await gateway.load_position(key)
    return None if position is None else position.entry_price


async def settled(gateway: Gateway) -> None:
    """Return once everything meant for the cache is sent."""
    assert gateway.engine.cache is not None
    await gateway.engine.cache.drained()


async def hits_of(gateway: Gateway, key: str) -> int:
    """Read a key until the cache answers, and return how many hits were counted before."""
    before = gateway.counters.cache_hits
    while gateway.counters.cache_hits == before:
        await gateway.load_position(key)
        await settled(gateway)
        await asyncio.sleep(0.01)
    return before


async def test_what_was_read_or_written_comes_from_the_cache(tmp_path: Path) -> None:
    """The second read is a hit, also in another gateway; so is a read after a write; and so is `there is none`."""
    async with fleet(tmp_path, FlakyPlugin(), 2) as (one, two):
        await save(one, "a", 1)
        await hits_of(one, "a")
        before = two.counters.cache_hits
        assert await price(two, "a") == 1
        assert two.counters.cache_hits == before + 1
        await hits_of(two, "nothing")
        assert await two.load_position("nothing") is None
        await save(two, "a", 2)
        await settled(two)
        assert two.counters.cache_written >= 1
        before = one.counters.cache_hits
        assert await price(one, "a") == 2
        assert one.counters.cache_hits == before + 1


async def test_every_way_of_writing_is_seen_at_once(tmp_path: Path) -> None:
    """Saving, closing, deleting, adding to a day and storing many at once are seen by another gateway's next read."""
    async with fleet(tmp_path, FlakyPlugin(), 2) as (one, two):
        await save(one, "a", 1)
        await hits_of(two, "a")
        await one.close_position("a", "take-profit")
        closed = await two.load_position("a")
        assert closed is not None
        assert closed.close_reason == "take-profit"
        await hits_of(two, "a")
        assert await one.delete("positions", "a")
        assert await two.load_position("a") is None
        await one.update_daily_stats("2026-03-12", pnl_delta=1)
        for total in range(2, 30):
            await one.update_daily_stats("2026-03-12", pnl_delta=1)
            stats = await two.get_or_create_daily_stats("2026-03-12")
            assert stats.current_pnl == total
            if total % 7 == 0:
                await settled(one)
        record = await one.get("positions", "a")
        assert record is None
        positions = [
            Position(condition_id=f"m{at}", side="YES", entry_price=Decimal(at), opened_at=NOW)
            for at in range(50)
        ]
        assert await one.put_many(positions) == 50
        assert [await price(two, f"m{at}") for at in range(50)] == list(range(50))


async def test_a_cache_that_is_gone_costs_one_wait_and_no_error(tmp_path: Path) -> None:
    """Reads and writes go on, the first write after at most two permits; and the cache is used again when it is back."""
    plugin = FlakyPlugin()
    async with fleet(tmp_path, plugin, 2) as (one, two):
        await save(one, "a", 1)
        await hits_of(two, "a")
        for connection in plugin.connections:
            connection.down = True
        assert await price(two, "a") == 1
        began = time.monotonic()
        await save(one, "a", 2)
        assert time.monotonic() - began < 5
        assert await price(two, "a") == 2
        assert one.counters.cache_closings == 1
        began = time.monotonic()
        for at in range(20):
            await save(one, "a", 3 + at)
            assert await price(two, "a") == 3 + at
        assert time.monotonic() - began < 5, "only the first write waits"
        health = await one.health()
        assert health.ok, "a cache that is down is nothing that a bot has to stop for"
        assert not health.details["cache"]["ok"]
        for connection in plugin.connections:
            connection.down = False
        await opened(one, two)
        await hits_of(two, "a")
        assert await price(two, "a") == 22


async def test_who_cannot_reach_the_cache_keeps_others_from_reading_it(tmp_path: Path) -> None:
    """One process writes cut off from the cache while another could still read from it: it does not."""
    plugin = FlakyPlugin()
    async with fleet(tmp_path, plugin, 2) as (one, two):
        await save(one, "a", 1)
        await hits_of(two, "a")
        plugin.connections[0].down = True
        for at in range(2, 12):
            await save(one, "a", at)
            assert await price(two, "a") == at
        assert not in_use(two)


async def test_a_server_that_comes_back_with_old_entries_is_not_believed(tmp_path: Path) -> None:
    """Entries of the life before are never seen, since it is another server that has them."""
    plugin = FlakyPlugin()
    async with fleet(tmp_path, plugin, 2) as (one, two):
        await save(one, "a", 1)
        await hits_of(two, "a")
        old = dict(plugin.server._entries)  # as a snapshot on disk would hold them
        await save(one, "a", 2)
        plugin.server.restart()
        plugin.server._entries.update(old)
        assert await price(two, "a") == 2
        await eventually(lambda: not in_use(two))
        await opened(one, two)
        assert await price(two, "a") == 2


async def test_a_write_whose_outcome_is_unknown_leaves_nothing_old(tmp_path: Path) -> None:
    """A writer that is cancelled in the middle leaves its fence, so that no old row can be read afterwards."""
    async with fleet(tmp_path, FlakyPlugin(), 2) as (one, two):
        await save(one, "a", 1)
        await hits_of(two, "a")
        least = 1
        for at in range(2, 40):
            writing = asyncio.create_task(save(one, "a", at))
            await asyncio.sleep(0.0005 * (at % 5))
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            found = await price(two, "a")
            assert found is not None
            assert found >= least
            least = int(found)


class Straggler:
    """Work of the store that goes on after its caller has given up, for as long as the test likes."""

    def __init__(self) -> None:
        self.holding = False
        self.works: list[asyncio.Future[None]] = []

    @hookimpl
    def gateway_wrap(self, call: BackendCall) -> object:
        """Let writes of positions hang."""
        return self._around(call)

    @asynccontextmanager
    async def _around(self, call: BackendCall) -> AsyncIterator[None]:
        if self.holding and call.hook == "gateway_write" and _writes_positions(call.payload):
            work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                self.works.append(work)
                outlives(work)
                raise
        yield


def _writes_positions(batch: WriteBatch) -> bool:
    return any(isinstance(step, Row) and step.kind is POSITIONS for step in batch.steps)


async def test_a_write_that_goes_on_after_it_was_given_up_keeps_its_fence(tmp_path: Path) -> None:
    """For longer than a fence lasts nobody gets the row from the cache, and once the write has ended everybody does."""
    plugin, straggler = FlakyPlugin(), Straggler()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(
            Gateway("sqlite,flaky", plugins=[plugin, straggler], data_dir=tmp_path, retry_seconds=0, **QUICK)
        )
        two = await stack.enter_async_context(
            Gateway("sqlite,flaky", plugins=[plugin], data_dir=tmp_path, **QUICK)
        )
        await opened(one, two)
        await save(one, "a", 1)
        await hits_of(two, "a")
        straggler.holding = True
        with pytest.raises(StoreTimeoutError):
            await save(one, "a", 2)
        straggler.holding = False
        (work,) = straggler.works
        hits, until = two.counters.cache_hits, time.monotonic() + 2 * fence_for(QUICK["timeout"])
        while time.monotonic() < until:
            assert await price(two, "a") == 1
            await asyncio.sleep(0.05)
        assert two.counters.cache_hits == hits
        work.set_result(None)
        await hits_of(two, "a")


async def test_a_write_beside_the_closed_cache_that_goes_on_keeps_it_closed(tmp_path: Path) -> None:
    """It was announced to nobody, so nobody may begin to read before it has ended."""
    plugin, straggler = FlakyPlugin(), Straggler()
    settings = {**QUICK, "retry_seconds": 0}
    async with Gateway("sqlite,flaky", plugins=[plugin, straggler], data_dir=tmp_path, **settings) as one:
        (cache,) = plugin.connections
        cache.down = straggler.holding = True
        with pytest.raises(StoreTimeoutError):
            await save(one, "a", 1)
        cache.down = straggler.holding = False
        until = time.monotonic() + 3.8
        while time.monotonic() < until:
            assert not in_use(one)
            await asyncio.sleep(0.05)
        straggler.works[0].set_result(None)
        await opened(one)


async def test_a_purge_beside_the_cache_is_seen(tmp_path: Path) -> None:
    """Rows that are removed by age are gone for readers of the cache, too."""
    async with fleet(tmp_path, FlakyPlugin(), 2) as (one, two):
        await save(one, "a", 1)
        await hits_of(two, "a")
        await one.engine.purge(POSITIONS, datetime(2027, 1, 1, tzinfo=UTC))
        assert await two.load_position("a") is None


async def test_large_rows_are_not_cached(tmp_path: Path) -> None:
    """A row beyond the bound is read from the store each time, and counted."""
    async with fleet(tmp_path, FlakyPlugin(), 1, cache_value_bytes=200) as (one,):
        await one.save_position(
            condition_id="big", side="YES", entry_price=1, opened_at=NOW, extra={"note": "x" * 500}
        )
        for _ in range(5):
            assert await price(one, "big") == 1
            await settled(one)
        assert one.counters.cache_hits == 0
        assert one.counters.cache_too_large >= 1


async def test_kinds_can_be_left_out(tmp_path: Path) -> None:
    """Only the named kinds are cached; a kind that allows no cache cannot be named."""
    async with fleet(tmp_path, FlakyPlugin(), 1, cache_kinds="bot_state") as (one,):
        await save(one, "a", 1)
        for _ in range(5):
            await price(one, "a")
        assert one.counters.cache_hits == one.counters.cache_misses == 0
    with pytest.raises(ConfigurationError, match="'trades', which allows no cache"):
        Gateway("memory,memory_cache", cache_kinds="trades", env_file=None, environ={})
    with pytest.raises(ConfigurationError, match="STORAGE_TIMEOUT=600 is too long for a cache"):
        Gateway("memory,memory_cache", timeout=600, env_file=None, environ={})


async def test_the_row_of_the_cache_is_the_gateways_own(tmp_path: Path) -> None:
    """A bot can look at it, and cannot write it."""
    async with fleet(tmp_path, FlakyPlugin(), 1) as (one,):
        record: Any = await one.get("cache_epochs", "main")
        assert record.state == "open"
        with pytest.raises(InvalidRecordError, match="the gateway alone writes it"):
            await one.put(record)
        with pytest.raises(InvalidRecordError):
            await one.delete("cache_epochs", "main")
        with pytest.raises(InvalidRecordError):
            await one.put_many([record])


@pytest.mark.parametrize("seed", range(3))
async def test_no_read_is_older_than_what_was_known_before_it_began(tmp_path: Path, seed: int) -> None:
    """Many tasks, several gateways, random delays, losses and restarts: reads of a position never go back."""
    plugin = FlakyPlugin(seed, evicts=seed != 0)
    chance = random.Random(seed)
    known: dict[str, int] = {}

    async def write(gateway: Gateway, key: str) -> None:
        version = await save(gateway, key, chance.randrange(1000))
        known[key] = max(known.get(key, 0), version)

    async def read(gateway: Gateway, key: str, *, direct: bool) -> None:
        least = known.get(key, 0)
        if direct:
            tenant = gateway.engine.stamper.tenant
            (row,) = await gateway.engine.stores["sqlite"].get(POSITIONS, tenant, ((key,),))
        else:
            row = await gateway.engine.get(POSITIONS, (key,))
        version = 0 if row is None else row.version
        assert version >= least, f"{key} of {gateway!r} went back"
        known[key] = max(known.get(key, 0), version)

    async with fleet(tmp_path, plugin, 3) as cached:
        over = asyncio.Event()

        async def live() -> None:
            while not over.is_set():
                key = f"k{chance.randrange(4)}"
                if chance.random() < 0.15:
                    await write(chance.choice(cached), key)
                else:
                    await read(chance.choice(cached), key, direct=chance.random() < 0.1)
                await asyncio.sleep(0.002 * chance.random())

        async def used() -> None:
            """Wait until the cache is of use again: rows come from it, and writers leave theirs in it."""
            hits, written = (sum(all_) for all_ in _uses(cached))
            await eventually(
                lambda: sum(_uses(cached)[0]) > hits + 50 and sum(_uses(cached)[1]) > written + 5
            )

        async def trouble() -> None:
            await used()
            for fate in chance.sample(
                ["slow"] * 4 + ["evict"] * 2 * plugin.server.evicts + ["restart", "cut"], k=6
            ):
                one = chance.choice(plugin.connections)
                match fate:
                    case "restart":
                        plugin.server.restart(keep=True)
                    case "evict":
                        plugin.server.evict()
                    case "cut":
                        one.down = True
                        await asyncio.sleep(0.6)
                        one.down = False
                    case _:
                        one.slow, one.failing = 0.05 * chance.random(), 0.02 * chance.random()
                await asyncio.sleep(0.5 * chance.random())
            for one in plugin.connections:
                one.slow = one.failing = 0.0
            await used()
            over.set()

        await asyncio.gather(trouble(), *(live() for _ in range(16)))


def _uses(gateways: Sequence[Gateway]) -> tuple[list[int], list[int]]:
    """Return each gateway's hits, and its rows that writers left in the cache."""
    return [one.counters.cache_hits for one in gateways], [one.counters.cache_written for one in gateways]
