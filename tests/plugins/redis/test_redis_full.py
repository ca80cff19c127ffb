"""A server that is full: with a policy that refuses, and with one that evicts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.cache.contract import EndAnswer, FillAnswer, Miss
from gateway.errors import CacheError
from tests.plugins.redis.redis_lab import LONG, becomes, opened
from tests.servers import RedisServer

LIMIT = 4 * 1024 * 1024


@pytest.fixture
def full() -> Iterator[RedisServer]:
    """A server whose memory is used up by others, and that refuses to evict."""
    with RedisServer.made(lines=["maxmemory-policy noeviction"]) as server:
        yield server


def _fill_up(server: RedisServer) -> None:
    server.ask("SET", "others", "x" * 1_000_000)
    used = int(server.ask("INFO", "memory")["used_memory"])
    server.ask("CONFIG", "SET", "maxmemory", used - 500_000)


@pytest.mark.anyio
async def test_a_full_server_still_takes_fences_and_lifts_them(full: RedisServer) -> None:
    """Writes go on as they should: the old value goes, and the new one is left out for want of room."""
    async with opened(full.url()) as held:
        await held.put("a", 1)
        incarnation = held.contact.incarnation
        _fill_up(full)
        await held.begin("a")
        assert await held.end("a", 2) is EndAnswer.LIFTED, "the value was not taken, the fence is down"
        with pytest.raises(CacheError, match="full"):
            await held.get("a")
        full.ask("DEL", "others")
        assert await held.get("a") is Miss.LEASED
        assert await held.fill("a", 1) is FillAnswer.REFUSED, "the floor was raised all the same"
        assert (await held.again()).incarnation == incarnation


@pytest.mark.anyio
async def test_entries_that_are_evicted_are_unknown(own_server: RedisServer) -> None:
    """Under allkeys-lru old entries go; an evicted fence cannot let an old value in, because young entries serve none."""
    own_server.ask("CONFIG", "SET", "maxmemory", LIMIT, "maxmemory-policy", "allkeys-lru")
    terms = LONG._replace(fence_ms=60_000, probation_ms=60_000)
    async with opened(own_server.url(), terms) as held:
        assert held.contact.evicts
        await held.begin("a")
        for at in range(100):
            own_server.ask("SET", f"others{at}", "x" * 100_000)
        assert int(own_server.ask("INFO", "stats")["evicted_keys"]) > 0
        own_server.ask("DEL", f"{held.cache._prefix}:a")  # type: ignore[attr-defined]
        assert await held.get("a") is Miss.FENCED, "as if the fence were still there"
        assert await held.end("a", 2) is EndAnswer.LOST
        assert await held.get("a") is Miss.FENCED


@pytest.mark.anyio
async def test_an_evicting_server_serves_entries_that_stayed(own_server: RedisServer) -> None:
    """Probation over, an entry is served, and stays as long as it is read."""
    own_server.ask("CONFIG", "SET", "maxmemory", LIMIT, "maxmemory-policy", "allkeys-lru")
    terms = LONG._replace(fence_ms=40, probation_ms=40, value_ms=100)
    async with opened(own_server.url(), terms) as held:
        await becomes(lambda: held.get("a"), lambda answer: answer is Miss.LEASED)
        assert await held.fill("a", 1) is FillAnswer.STORED
        await becomes(lambda: held.get("a", "next"), lambda answer: answer is Miss.LEASED)
        assert await held.fill("a", 1, "next") is FillAnswer.STORED, (
            "no second probation after the value ran out"
        )
