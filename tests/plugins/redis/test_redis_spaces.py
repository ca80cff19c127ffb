"""Two caches on one server that keep their entries apart are two caches, and no process takes one for the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway import Gateway
from gateway.records import POSITIONS
from tests.plugins.redis.redis_lab import opened
from tests.servers import RedisServer
from tests.servers.redis import RedisCluster

pytestmark = pytest.mark.anyio


@pytest.fixture
def evicting(own_server: RedisServer) -> RedisServer:
    """A server that may evict, so that no mark in the database tells anything."""
    own_server.ask("CONFIG", "SET", "maxmemory", "100mb")
    own_server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    return own_server


async def _lives(url: str, other: str = "", prefix: str = "one") -> set[str]:
    async with opened(url, key_prefix="one") as one, opened(other or url, key_prefix=prefix) as two:
        return {one.contact.incarnation, two.contact.incarnation}


async def test_another_prefix_or_database_is_another_life(evicting: RedisServer) -> None:
    """One server, one prefix and one database have one name for everybody, and everything else another."""
    url = evicting.url().rpartition("/")[0]
    assert len(await _lives(f"{url}/0")) == 1
    assert len(await _lives(f"{url}/0", prefix="two")) == 2
    assert len(await _lives(f"{url}/0", f"{url}/1")) == 2


async def test_another_prefix_is_another_life_of_a_cluster(cluster: RedisCluster) -> None:
    """A cluster keeps no mark either."""
    assert len(await _lives(cluster.url)) == 1
    assert len(await _lives(cluster.url, prefix="two")) == 2


async def test_bots_with_different_prefixes_never_read_what_is_old(
    evicting: RedisServer, tmp_path: Path
) -> None:
    """Only one of them can have the cache open at a time; the other one's writes close it."""

    def bot(prefix: str) -> Gateway:
        return Gateway(
            "sqlite,redis",
            data_dir=tmp_path,
            environ={"STORAGE_REDIS_URL": evicting.url(), "STORAGE_REDIS_KEY_PREFIX": prefix},
            env_file=None,
            timeout=0.5,
            cache_permit=0.15,
        )

    async def save(gateway: Gateway, price: int) -> int:
        opened_at = datetime(2026, 3, 12, tzinfo=UTC)
        ack = await gateway.save_position(
            condition_id="k", side="YES", entry_price=price, opened_at=opened_at
        )
        return ack.version

    async with bot("one") as one:
        await _until(lambda: one.engine.cache.keeper.readable() is not None)  # type: ignore[union-attr]
        await save(one, 1)
        end = time.monotonic() + 20
        while one.counters.cache_hits == 0:
            assert time.monotonic() < end, "the cache is not used"
            await one.engine.get(POSITIONS, ("k",))
            await asyncio.sleep(0.02)
        async with bot("two") as two:
            for price in range(2, 12):
                version = await save(two, price)
                row = await one.engine.get(POSITIONS, ("k",))
                assert row is not None
                assert row.version == version


async def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        await asyncio.sleep(0.02)
