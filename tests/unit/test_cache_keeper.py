"""The keeper and the outbox: looking at the rows in time, and never waiting for the cache longer than agreed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import pytest

from gateway.backend import Health, WriteBatch, WriteReceipt
from gateway.cache.authority import Authority
from gateway.cache.contract import Contact, End, EndAnswer, Fill, FillAnswer, Miss, Terms
from gateway.cache.keeper import Keeper, fence_for, never, pace_for
from gateway.cache.outbox import Outbox
from gateway.cache.permit import Epoch, State
from gateway.cache.terms import CacheOptions, TermsMaker
from gateway.errors import CacheError, StoreError, StoreTimeoutError, StoreUnavailableError
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.version import HybridClock
from gateway.telemetry import Counters
from gateway_memory.cache import CacheServer, MemoryCache
from gateway_memory.store import MemoryStore

pytestmark = pytest.mark.anyio
PACE = pace_for(0.1, 0.1)


class Shelf:
    """A store in memory that can be made slow, or fail."""

    def __init__(self, name: str = "shelf") -> None:
        self.name = name
        self.inner = MemoryStore(name, max_rows=100)
        self.failing: StoreError | None = None
        self.slow = 0.0

    async def get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Read, unless it fails."""
        await self._trouble()
        return await self.inner.gateway_get(kind, tenant, keys)

    async def write(self, batch: WriteBatch) -> WriteReceipt:
        """Write, unless it fails."""
        await self._trouble()
        return await self.inner.gateway_write(batch)

    async def _trouble(self) -> None:
        await asyncio.sleep(self.slow)
        if self.failing is not None:
            raise self.failing


def keeper_on(*shelves: Shelf, server: CacheServer | None = None, counters: Counters | None = None) -> Keeper:
    """Return a keeper that was not started."""
    cache = None if server is None else MemoryCache(server)
    return Keeper(shelves, cache, PACE, HybridClock(), counters)


async def until(holds: Callable[[], Any]) -> None:
    """Return as soon as something holds."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        await asyncio.sleep(0.01)


def state_of(authority: Authority) -> State | None:
    """Return what a row says, as far as is known."""
    return None if authority.known is None else authority.known.epoch.state


async def refuse(_: Epoch) -> bool:
    """Say that the cache cannot be told of a write."""
    return False


async def agree(_: Epoch) -> bool:
    """Say that the cache was told."""
    return True


async def test_a_row_is_opened_and_closed_for_everybody() -> None:
    """One keeper opens the row, another comes to read under the same epoch, and a writer that cannot announce closes it."""
    shelf, server = Shelf(), CacheServer()
    one, two = keeper_on(shelf, server=server), keeper_on(shelf, server=server)
    await one.start()
    await two.start()
    await until(lambda: one.readable() and two.readable())
    assert one.readable() == two.readable()
    began = time.monotonic()
    assert await one.before_write(one.authorities[0], refuse) is None
    assert time.monotonic() - began >= PACE.permit, "others may have been reading until then"
    assert two.readable() is None
    assert one.closed_some
    assert await one.before_write(one.authorities[0], refuse) is None
    await until(lambda: one.readable() and two.readable())
    await one.aclose()
    await two.aclose()


async def test_two_stores_are_open_together() -> None:
    """The rows of two stores come to name one epoch; while one is closed, nothing is read."""
    first, second, server = Shelf("first"), Shelf("second"), CacheServer()
    keeper = keeper_on(first, second, server=server)
    await keeper.start()
    await until(keeper.readable)
    homes = keeper.authorities
    assert await keeper.before_write(homes[1], agree) == keeper.readable()
    assert await keeper.before_write(homes[1], refuse) is None
    assert keeper.readable() is None
    assert homes[0].known is not None
    assert homes[0].known.epoch.state is State.OPEN
    await until(keeper.readable)
    first.failing = StoreUnavailableError("gone")
    await until(lambda: keeper.readable() is None)
    first.failing = None
    await until(keeper.readable)
    await keeper.aclose()


async def test_holding_keeps_the_row_closed() -> None:
    """While somebody holds it, nobody gets it open; afterwards it is opened again."""
    shelf, server = Shelf(), CacheServer()
    reader, holder = keeper_on(shelf, server=server), keeper_on(shelf)
    await reader.start()
    await until(reader.readable)
    await holder.keep_closed()
    assert reader.readable() is None
    end = time.monotonic() + 2
    while time.monotonic() < end:
        assert reader.readable() is None
        await asyncio.sleep(0.01)
    await holder.aclose()
    await until(reader.readable)
    async with reader.held():
        assert reader.readable() is None
    await until(reader.readable)
    await reader.aclose()


async def test_a_slow_announcement_is_made_again() -> None:
    """What was announced too long ago does not cover the write any more."""
    shelf, server = Shelf(), CacheServer()
    keeper = keeper_on(shelf, server=server)
    await keeper.start()
    await until(keeper.readable)
    calls = 0

    async def slow_at_first(_: Epoch) -> bool:
        nonlocal calls
        calls += 1
        await asyncio.sleep(PACE.lead * 1.2 if calls == 1 else 0)
        return True

    assert await keeper.before_write(keeper.authorities[0], slow_at_first) is not None
    assert calls == 2
    await keeper.aclose()


async def test_announcements_that_are_always_late_come_to_an_end() -> None:
    """A cache that is slow again and again is left aside, and closed for everybody."""
    shelf, server = Shelf(), CacheServer()
    keeper = keeper_on(shelf, server=server)
    await keeper.start()
    await until(keeper.readable)
    calls = 0

    async def slow(_: Epoch) -> bool:
        nonlocal calls
        calls += 1
        await asyncio.sleep(PACE.lead * 1.2)
        return True

    assert await keeper.before_write(keeper.authorities[0], slow) is None
    assert calls == 3
    assert keeper.closed_some
    await keeper.aclose()


async def test_who_holds_the_row_looks_again_before_each_change() -> None:
    """A holder that was stopped for so long that others opened the cache closes it before it goes on."""
    shelf, server = Shelf(), CacheServer()
    reader, holder = keeper_on(shelf, server=server), keeper_on(shelf)
    await reader.start()
    await until(reader.readable)
    async with holder.held() as ready:  # it was not started, so it watches nothing, as if it were stopped
        assert reader.readable() is None
        await until(reader.readable)
        await ready()
        assert reader.readable() is None
    await reader.aclose()


async def test_who_writes_for_longer_says_so_before_it_writes_beside_the_cache() -> None:
    """The row is opened by what it says, so it must not speak of shorter writes than are under way."""
    shelf, server = Shelf(), CacheServer()
    reader = keeper_on(shelf, server=server)
    await reader.start()
    await until(reader.readable)
    patient = Keeper([shelf], None, pace_for(0.1, 0.2), HybridClock())
    (home,) = patient.authorities
    assert await reader.before_write(reader.authorities[0], refuse) is None
    assert await patient.before_write(home, never) is None
    assert home.known is not None
    assert home.known.epoch.fence == pytest.approx(fence_for(0.2), abs=0.001)
    assert not patient.closed_some, "it was closed already"
    await reader.aclose()


async def test_a_store_that_cannot_answer_stops_the_write_with_its_own_error() -> None:
    """Whether the cache is used cannot be found out: the write fails, as it would have anyway."""
    shelf = Shelf()
    keeper = keeper_on(shelf)
    shelf.failing = StoreUnavailableError("gone")
    with pytest.raises(StoreUnavailableError, match="gone"):
        await keeper.before_write(keeper.authorities[0], agree)
    shelf.failing, shelf.slow = None, 2 * (PACE.permit + PACE.fence)
    keeper = Keeper([shelf], None, pace_for(0.001, 0.001), HybridClock())
    shelf.slow = 0.3
    with pytest.raises(StoreTimeoutError, match="STORAGE_CACHE_PERMIT"):
        await keeper.before_write(keeper.authorities[0], agree)


async def test_a_row_of_a_newer_release_counts_as_closed() -> None:
    """A state that this release does not know is not taken for open."""
    shelf = Shelf()
    authority = Authority(shelf, 0.1, HybridClock(), time.monotonic)
    await authority.look()
    assert authority.known is not None
    assert await authority.change(authority.known, Epoch(State.OPEN, "e", "i", 0.1, 1.0), "test")
    assert state_of(authority) is State.OPEN
    stale = authority.known
    assert await authority.change(stale, Epoch(State.CLOSED, "e", "i", 0.1, 1.0), "test")
    assert not await authority.change(stale, Epoch(State.OPEN, "e", "i", 0.1, 1.0), "test")
    assert state_of(authority) is State.CLOSED
    described = authority.describe()
    assert described is not None
    assert described["reason"] == "test"
    await authority.forget()
    await authority.look()
    assert authority.describe() is None


def test_fences_last_longer_than_calls() -> None:
    """A call is given up an eighth late at most, after it was announced the lead before."""
    for timeout in (0.1, 1.0, 30.0, 120.0):
        pace = pace_for(1.0, timeout)
        assert pace.fence == fence_for(timeout)
        assert pace.lead + 1.125 * timeout < pace.fence


class Stuck:
    """A cache whose calls never end, or fail."""

    def __init__(self, error: CacheError | None = None) -> None:
        self._error = error

    async def contact(self) -> Contact:
        """Answer nothing."""
        await self._never()

    async def get(
        self,
        incarnation: str,  # noqa: ARG002 - the contract's names
        names: Sequence[str],  # noqa: ARG002 - the same
        token: str,  # noqa: ARG002 - the same
        terms: Terms,  # noqa: ARG002 - the same
    ) -> Sequence[bytes | Miss]:
        """Answer nothing."""
        await self._never()

    async def fill(
        self,
        incarnation: str,  # noqa: ARG002 - the contract's names
        fills: Sequence[Fill],  # noqa: ARG002 - the same
        terms: Terms,  # noqa: ARG002 - the same
    ) -> Sequence[FillAnswer]:
        """Answer nothing."""
        await self._never()

    async def begin(
        self,
        incarnation: str,  # noqa: ARG002 - the contract's names
        names: Sequence[str],  # noqa: ARG002 - the same
        token: str,  # noqa: ARG002 - the same
        terms: Terms,  # noqa: ARG002 - the same
    ) -> None:
        """Answer nothing."""
        await self._never()

    async def end(
        self,
        incarnation: str,  # noqa: ARG002 - the contract's names
        ends: Sequence[End],  # noqa: ARG002 - the same
        terms: Terms,  # noqa: ARG002 - the same
    ) -> Sequence[EndAnswer]:
        """Answer nothing."""
        await self._never()

    async def health(self) -> Health:
        """Say so."""
        return Health(ok=False, summary="stuck")

    async def close(self) -> None:
        """Do nothing."""

    async def _never(self) -> NoReturn:
        if self._error is not None:
            raise self._error
        while True:
            await asyncio.Event().wait()


async def test_the_outbox_is_bounded_and_never_in_the_way() -> None:
    """What does not fit is left out and counted, and closing waits no longer than a call may take."""
    counters = Counters()
    terms = TermsMaker(CacheOptions(), keeper_on(Shelf()))
    outbox = Outbox(Stuck(), terms, 5, 0.1, counters)
    open_epoch = Epoch(State.OPEN, "e", "i", 1.0, 1.0)
    for at in range(20):
        outbox.post(open_epoch, End(str(at), "t", "", None))
    assert outbox.depth == 5
    assert counters.cache_dropped == 15
    began = time.monotonic()
    await outbox.close()
    assert time.monotonic() - began < 5
    failing = Outbox(Stuck(CacheError("gone")), terms, 5, 1.0, counters)
    failing.post(open_epoch, End("a", "t", "", None))
    failing.post(open_epoch, Fill("a", "t", "", b""))
    await failing.drained()
    await failing.close()
    assert counters.cache_errors >= 2


def test_terms_follow_the_epoch_and_the_server() -> None:
    """Fences last as agreed, floors longer, values a varied while; a server that may evict means probation."""
    keeper = keeper_on(Shelf())
    terms = TermsMaker(CacheOptions(ttl=100), keeper)
    agreed = Epoch(State.OPEN, "e", "i", 1.0, 46.0)
    assert terms.make(agreed).probation_ms == 46_000, "nobody knows, so it may"
    keeper.contact = Contact("i", evicts=False)
    made = [terms.make(agreed) for _ in range(50)]
    assert {(one.fence_ms, one.probation_ms) for one in made} == {(46_000, 0)}
    assert all(one.floor_ms > one.fence_ms and 90_000 <= one.value_ms <= 110_000 for one in made)
    assert len({one.value_ms for one in made}) > 10
