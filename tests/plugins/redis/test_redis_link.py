"""The connection that all share: everybody gets his own answer, whatever others do and however it ends."""

from __future__ import annotations

import asyncio
import gc
import random
import time

import pytest

from gateway.cache.contract import End, EndAnswer, Miss
from gateway.errors import CacheError, CacheMovedError
from gateway_redis.cache import RedisCache
from tests.plugins.redis.redis_lab import LONG, becomes, mark, opened, settings
from tests.servers import FaultProxy, RedisServer


@pytest.mark.anyio
async def test_many_tasks_each_get_their_own_answer_while_others_give_up(valkey_server: RedisServer) -> None:
    """256 tasks on one connection, a third of them cancelled in the middle: no answer goes to the wrong one."""
    rng = random.Random(7)
    async with opened(valkey_server.url()) as held:
        incarnation = held.contact.incarnation
        names = [f"n{at}" for at in range(64)]
        await held.cache.begin(incarnation, names, "w", LONG)
        ends = [End(name, "w", mark(1), name.encode()) for name in names]
        assert set(await held.cache.end(incarnation, ends, LONG)) == {EndAnswer.STORED}
        wrong: list[str] = []

        async def reader(number: int) -> int:
            done = 0
            for _ in range(12):
                asked = rng.sample(names, rng.choice((1, 1, 7)))
                call = asyncio.ensure_future(held.cache.get(incarnation, asked, f"r{number}", LONG))
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
                    call.cancel()
                    await asyncio.gather(call, return_exceptions=True)
                    continue
                if list(await call) != [name.encode() for name in asked]:
                    wrong.append(f"{asked}")
                done += 1
            return done

        counts = await asyncio.gather(*(reader(number) for number in range(256)))
        assert not wrong
        assert sum(counts) > 1_000


@pytest.mark.anyio
async def test_a_server_that_does_not_answer_is_given_up_and_found_again(valkey_server: RedisServer) -> None:
    """Nobody waits longer than the command timeout, and once the network is back, so is the cache."""
    with FaultProxy(valkey_server.host, valkey_server.port) as proxy:
        async with opened(
            proxy.url_of(valkey_server.url()), command_timeout=0.3, connect_timeout=0.3
        ) as held:
            await held.put("a", 1)
            proxy.silence()
            began = time.monotonic()
            with pytest.raises(CacheError, match="in time"):
                await held.get("a")
            assert time.monotonic() - began < 5
            with pytest.raises(CacheError):
                await held.get("a")
            proxy.heal()
            assert await becomes(lambda: held.get("a"), lambda answer: answer == b"version 1")


@pytest.mark.anyio
async def test_a_half_open_connection_is_given_up(valkey_server: RedisServer) -> None:
    """The server is gone and nobody told the client: only silence shows it."""
    with FaultProxy(valkey_server.host, valkey_server.port) as proxy:
        async with opened(
            proxy.url_of(valkey_server.url()), command_timeout=0.2, connect_timeout=0.3
        ) as held:
            proxy.half_open()
            with pytest.raises(CacheError):
                await held.begin("a")
            proxy.heal()
            assert await becomes(lambda: held.get("a"), lambda answer: answer is Miss.LEASED)


@pytest.mark.anyio
async def test_an_absent_server_costs_little(own_server: RedisServer) -> None:
    """After a failure the next attempt waits; calls in between are refused at once and say when it is."""
    own_server.stop()
    cache = RedisCache(settings(own_server.url()))
    try:
        with pytest.raises(CacheError, match="cannot be reached"):
            await cache.contact()
        refused = 0
        began = time.monotonic()
        for _ in range(2_000):
            try:
                await cache.get("whoever", ["a"], "t", LONG)
            except CacheError as error:
                refused += "next attempt" in str(error)
        assert refused > 1_900
        assert time.monotonic() - began < 10
        assert not (await cache.health()).ok
        own_server.start()
        assert await becomes(cache.contact, lambda contact: bool(contact.incarnation))
        assert (await cache.health()).ok
    finally:
        await cache.close()


@pytest.mark.anyio
async def test_callers_share_one_attempt_to_connect(valkey_server: RedisServer) -> None:
    """A hundred tasks that start at once make one connection, and one who gives up does not spoil it for the rest."""
    with FaultProxy(valkey_server.host, valkey_server.port) as proxy:
        cache = RedisCache(settings(proxy.url_of(valkey_server.url())))
        try:
            calls = [asyncio.ensure_future(cache.contact()) for _ in range(100)]
            await asyncio.sleep(0)
            calls[0].cancel()
            found = await asyncio.gather(*calls[1:])
            assert len({contact.incarnation for contact in found}) == 1
            assert proxy.connections == 1
        finally:
            await cache.close()


@pytest.mark.anyio
async def test_too_many_questions_without_an_answer_are_refused(valkey_server: RedisServer) -> None:
    """Memory is bounded: beyond the bound a caller is told, and those before him still wait."""
    with FaultProxy(valkey_server.host, valkey_server.port) as proxy:
        async with opened(proxy.url_of(valkey_server.url()), command_timeout=30) as held:
            incarnation = held.contact.incarnation
            proxy.silence()
            names = ["a"]
            waiting = [
                asyncio.ensure_future(held.cache.get(incarnation, names, "t", LONG)) for _ in range(10_000)
            ]
            await asyncio.sleep(0)
            with pytest.raises(CacheError, match="too slow"):
                await held.get("one too many")
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.anyio
async def test_a_closed_cache_says_so_and_leaves_nothing(valkey_server: RedisServer) -> None:
    """Closing twice does nothing; every call after it is refused; no task and no socket is left over."""
    before = len(asyncio.all_tasks())
    async with opened(valkey_server.url()) as held:
        await held.cache.close()
        await held.cache.close()
        with pytest.raises(CacheError, match="closed"):
            await held.get("a")
        with pytest.raises(CacheError, match="closed"):
            await held.cache.contact()
        assert not (await held.cache.health()).ok
    assert len(asyncio.all_tasks()) == before
    gc.collect()  # a socket that was not closed would warn here, and warnings are errors


@pytest.mark.anyio
async def test_another_server_than_the_one_meant_is_not_asked(valkey_server: RedisServer) -> None:
    """Each operation names the server it is meant for, and does nothing on any other."""
    async with opened(valkey_server.url()) as held:
        await held.put("a", 1)
        right, held.contact = held.contact, held.contact._replace(incarnation="another")
        for call in (held.get("a"), held.fill("a", 2), held.begin("a"), held.end("a", 2)):
            with pytest.raises(CacheMovedError):
                await call
        held.contact = right
        assert await held.get("a") == b"version 1"
