"""The network breaks within a script's call: the caller is told, and what he can still find is never out of date."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from gateway.cache.contract import EndAnswer, FillAnswer, Miss
from gateway.errors import CacheError
from gateway_redis.cache import RedisCache
from gateway_redis.scripts import BEGIN, END, FILL, GET, Script
from tests.plugins.redis.redis_lab import Holder, becomes, settings
from tests.servers import FaultProxy, RedisServer

CUTS = pytest.mark.parametrize(
    ("answer", "keep"),
    [(False, 0), (False, 3), (False, 60), (True, 0), (True, 3)],
    ids=["before the request", "in its name", "in its arguments", "before the answer", "in the answer"],
)
"""Where the connection is cut, and how many bytes from there still get through."""


@dataclass
class Lines:
    """One process whose network breaks, and another one whose network does not."""

    proxy: FaultProxy
    broken: Holder
    whole: Holder


@asynccontextmanager
async def lines(server: RedisServer) -> AsyncIterator[Lines]:
    """Open two caches on the same keys, one of them through a proxy."""
    with FaultProxy(server.host, server.port) as proxy:
        chosen = settings(server.url())
        through = chosen.model_copy(update={"url": proxy.url_of(server.url())})
        caches = RedisCache(through), RedisCache(chosen)
        try:
            yield Lines(proxy, *[Holder(cache, await cache.contact()) for cache in caches])
        finally:
            for cache in caches:
                await cache.close()


def _cut(proxy: FaultProxy, script: Script, keep: int, *, answer: bool) -> None:
    (proxy.cut_answer if answer else proxy.cut_request)(script.digest.encode(), keep)


async def _back(one: Holder) -> None:
    """Wait until a process reaches the server again; it is the same one."""
    before = one.contact
    assert await becomes(one.again, lambda contact: contact.incarnation == before.incarnation)


@pytest.mark.anyio
@CUTS
async def test_within_begin(valkey_server: RedisServer, keep: int, answer: bool) -> None:
    """The writer is told that it is not sure. If the fence stands, nobody is served until it is taken down."""
    async with lines(valkey_server) as held:
        await held.whole.put("a", 1)
        _cut(held.proxy, BEGIN, keep, answer=answer)
        with pytest.raises(CacheError):
            await held.broken.begin("a")
        held.proxy.wait_for_catch()
        assert await held.whole.get("a") == (Miss.FENCED if answer else b"version 1")
        await _back(held.broken)
        await held.broken.begin("a")
        assert await held.whole.get("a") is Miss.FENCED
        assert await held.broken.end("a", 2) is EndAnswer.STORED
        assert await held.whole.get("a") == b"version 2"


@pytest.mark.anyio
@CUTS
async def test_within_end(valkey_server: RedisServer, keep: int, answer: bool) -> None:
    """Either the fence still stands and nobody is served, or what was written is there; never what was before."""
    async with lines(valkey_server) as held:
        await held.whole.put("a", 1)
        await held.broken.begin("a")
        _cut(held.proxy, END, keep, answer=answer)
        with pytest.raises(CacheError):
            await held.broken.end("a", 2)
        held.proxy.wait_for_catch()
        assert await held.whole.get("a") == (b"version 2" if answer else Miss.FENCED)
        await _back(held.broken)
        # Sent again, as the core does: lost is the right answer where it had been taken down already.
        assert await held.broken.end("a", 2) is (EndAnswer.LOST if answer else EndAnswer.STORED)
        assert await held.whole.get("a") == (Miss.LEASED if answer else b"version 2")


@pytest.mark.anyio
@CUTS
async def test_within_get(valkey_server: RedisServer, keep: int, answer: bool) -> None:
    """A lease may have been given to somebody who does not know; others wait for it to run out, and a write ends it."""
    async with lines(valkey_server) as held:
        _cut(held.proxy, GET, keep, answer=answer)
        with pytest.raises(CacheError):
            await held.broken.get("a")
        held.proxy.wait_for_catch()
        assert await held.whole.get("a", "other") is (Miss.WAIT if answer else Miss.LEASED)
        await held.whole.put("a", 1)
        await _back(held.broken)
        assert await held.broken.get("a") == b"version 1"


@pytest.mark.anyio
@CUTS
async def test_within_fill(valkey_server: RedisServer, keep: int, answer: bool) -> None:
    """The value is kept, or the lease still stands; half a value is never kept."""
    async with lines(valkey_server) as held:
        assert await held.broken.get("a") is Miss.LEASED
        _cut(held.proxy, FILL, keep, answer=answer)
        with pytest.raises(CacheError):
            await held.broken.fill("a", 1)
        held.proxy.wait_for_catch()
        assert await held.whole.get("a") == (b"version 1" if answer else Miss.WAIT)
        await _back(held.broken)
        wanted = FillAnswer.REFUSED if answer else FillAnswer.STORED
        assert await held.broken.fill("a", 1) is wanted
        assert await held.whole.get("a") == b"version 1"


@pytest.mark.anyio
async def test_a_fill_that_arrives_late_is_refused(valkey_server: RedisServer) -> None:
    """It lay in the network while somebody wrote: neither the lease nor the floor lets it in."""
    async with lines(valkey_server) as held:
        assert await held.broken.get("a") is Miss.LEASED
        held.proxy.hold_request(FILL.digest.encode())
        late = asyncio.ensure_future(held.broken.fill("a", 1))
        await asyncio.to_thread(held.proxy.wait_for_catch)
        await held.whole.put("a", 2)
        held.proxy.release()
        assert await late is FillAnswer.REFUSED
        assert await held.whole.get("a") == b"version 2"


@pytest.mark.anyio
async def test_an_end_that_arrives_late_keeps_nothing_that_is_old(valkey_server: RedisServer) -> None:
    """Another writer came and went meanwhile; the late end takes its fence down and changes nothing else."""
    async with lines(valkey_server) as held:
        await held.broken.begin("a", "slow")
        held.proxy.hold_request(END.digest.encode())
        late = asyncio.ensure_future(held.broken.end("a", 1, "slow"))
        await asyncio.to_thread(held.proxy.wait_for_catch)
        await held.whole.begin("a", "quick")
        assert await held.whole.end("a", 2, "quick") is EndAnswer.LIFTED, "the slow one's fence still stands"
        held.proxy.release()
        assert await late is EndAnswer.LIFTED, "below the floor"
        assert await held.whole.get("a") is Miss.LEASED


@pytest.mark.anyio
async def test_a_begin_that_arrives_late_only_costs_reads(valkey_server: RedisServer) -> None:
    """Its writer gave up long ago; the fence stands until it runs out or is taken down."""
    async with lines(valkey_server) as held:
        await held.whole.put("a", 1)
        held.proxy.hold_request(BEGIN.digest.encode())
        late = asyncio.ensure_future(held.broken.begin("a", "gone"))
        await asyncio.to_thread(held.proxy.wait_for_catch)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        assert await held.whole.get("a") == b"version 1"
        held.proxy.release()
        await becomes(lambda: held.whole.get("a"), lambda answer: answer is Miss.FENCED)


@pytest.mark.anyio
async def test_within_a_call_for_many_entries(valkey_server: RedisServer) -> None:
    """Cut in the middle of fifty fences, the caller is told that not all stand, and may put them all up again."""
    async with lines(valkey_server) as held:
        names = [f"n{at}" for at in range(50)]
        held.proxy.cut_answer(BEGIN.digest.encode(), keep=40)
        with pytest.raises(CacheError):
            await held.broken.cache.begin(held.broken.contact.incarnation, names, "w", held.broken.terms)
        await _back(held.broken)
        await held.broken.cache.begin(held.broken.contact.incarnation, names, "w", held.broken.terms)
        found = await held.whole.cache.get(held.whole.contact.incarnation, names, "r", held.whole.terms)
        assert set(found) == {Miss.FENCED}
