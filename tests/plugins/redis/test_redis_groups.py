"""Several servers: a fail-over by sentinels, and a cluster whose slots move and whose masters restart."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from redis.crc import key_slot

from gateway.cache.contract import End, EndAnswer, Fill, FillAnswer, Miss
from gateway.errors import CacheError, CacheMovedError
from gateway_redis.cache import RedisCache
from gateway_redis.cluster import read_slots
from tests.plugins.redis.redis_lab import LONG, Holder, becomes, mark, opened, settings
from tests.servers import RedisCluster, Sentinels

PROBATION = LONG._replace(probation_ms=20)
NAMES = [f"n{at}" for at in range(60)]


async def _settled(held: Holder, names: list[str]) -> None:
    """Fill entries, each on the master that has it, once their probation is over."""
    held.terms = PROBATION
    for name in names:  # one by one: who has its lease must not ask for it again
        assert (
            await becomes(partial(held.get, name, "r"), lambda answer: answer is not Miss.FENCED)
            is Miss.LEASED
        )
    fills = [Fill(name, "r", mark(1), name.encode()) for name in names]
    answers = await held.cache.fill(held.contact.incarnation, fills, held.terms)
    assert set(answers) == {FillAnswer.STORED}


@pytest.mark.anyio
async def test_sentinels_name_another_master(sentinels: Sentinels) -> None:
    """The master dies: the cache finds its replica, which is another server, so that nothing is served by mistake."""
    async with opened(sentinels.url) as held:
        await held.put("a", 1)
        before = held.contact
        await asyncio.to_thread(sentinels.fail_over)
        with pytest.raises(CacheError):
            await held.get("a")
        after = await becomes(held.again, lambda contact: contact.incarnation != before.incarnation)
        held.contact = before
        with pytest.raises(CacheMovedError):
            await held.get("a")
        held.contact = after
        await held.put("b", 2)
        assert await held.get("b") == b"version 2"


@pytest.mark.anyio
async def test_sentinels_that_move_the_master_are_heard_while_the_old_one_answers(
    sentinels: Sentinels,
) -> None:
    """A fail-over by hand: the old master lives on, and the next look leads to the new one all the same."""
    async with opened(sentinels.url) as held:
        before = held.contact
        await asyncio.to_thread(sentinels.ask_fail_over)
        after = await becomes(held.again, lambda contact: contact.incarnation != before.incarnation)
        assert after.incarnation != before.incarnation


@pytest.mark.anyio
async def test_no_sentinel_answers() -> None:
    """A sentence that says what to look at."""
    cache = RedisCache(settings("redis+sentinel://127.0.0.1:1/prices", connect_timeout=0.5))
    try:
        with pytest.raises(CacheError, match="sentinels name no master"):
            await cache.contact()
    finally:
        await cache.close()


@pytest.mark.anyio
async def test_a_cluster_serves_each_entry_from_its_master(cluster: RedisCluster) -> None:
    """Sixty entries lie on three masters, and come back from one call in its order."""
    async with opened(cluster.url, PROBATION) as held:
        assert held.contact.evicts, "no mark is kept in a cluster, so young entries are not trusted"
        await _settled(held, NAMES)
        found = await held.cache.get(held.contact.incarnation, NAMES, "r", PROBATION)
        assert list(found) == [name.encode() for name in NAMES]
        prefix = held.cache._prefix  # type: ignore[attr-defined]
        keys = [len(list(_scan(cluster, at, f"{prefix}:*"))) for at in range(3)]
        assert min(keys) > 5, keys
        await held.cache.begin(held.contact.incarnation, NAMES, "w", PROBATION)
        ends = [End(name, "w", mark(2), b"new") for name in NAMES]
        assert set(await held.cache.end(held.contact.incarnation, ends, PROBATION)) == {EndAnswer.STORED}


@pytest.mark.anyio
async def test_a_moving_slot_is_followed(cluster: RedisCluster) -> None:
    """While it moves (ASK) and after it moved (MOVED), entries are found where they are, in the same incarnation."""
    async with opened(cluster.url, PROBATION) as held:
        prefix = held.cache._prefix  # type: ignore[attr-defined]
        stays, goes, fresh = "{x}stays", "{x}goes", "{x}fresh"
        await _settled(held, [stays, goes])
        slot = key_slot(f"{prefix}:{stays}".encode())
        source = next(at for at in range(3) if cluster.owns(at, slot))
        target = (source + 1) % 3
        cluster.nodes[target].ask("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
        cluster.nodes[source].ask("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(target))
        cluster.migrate(source, target, f"{prefix}:{goes}")
        try:
            assert await held.get(stays) == stays.encode()
            assert await held.get(goes) == goes.encode(), "asked for where it went"
            assert await held.get(fresh) is Miss.FENCED, "made where the slot goes"
            cluster.migrate(source, target, f"{prefix}:{stays}")
        finally:
            for at in (target, source, 3 - source - target):
                cluster.nodes[at].ask("CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(target))
        assert await held.get(stays) == stays.encode(), "moved"
        assert (await held.again()).incarnation == held.contact.incarnation
        assert await held.get(goes) == goes.encode()


@pytest.mark.anyio
async def test_a_master_that_restarted_makes_another_cluster_of_it(cluster: RedisCluster) -> None:
    """It has lost fences; entries on the others are not asked for by the old name either."""
    async with opened(cluster.url, PROBATION) as held:
        await _settled(held, NAMES)
        before = held.contact
        await asyncio.to_thread(cluster.nodes[1].restart)
        await asyncio.to_thread(cluster.settle)
        after = await becomes(held.again, lambda contact: contact.incarnation != before.incarnation)
        held.contact = before
        with pytest.raises(CacheMovedError):
            await held.get("a")
        held.contact = after
        await _settled(held, [f"after-{name}" for name in NAMES])


@pytest.mark.anyio
async def test_a_node_that_is_gone_is_an_error_and_no_other_answer(cluster: RedisCluster) -> None:
    """While a part of the slots is served by nobody, whoever needs it is told; later all is found again."""
    async with opened(cluster.url, PROBATION, command_timeout=0.5, connect_timeout=0.5) as held:
        await _settled(held, NAMES)
        await asyncio.to_thread(cluster.nodes[2].kill)
        try:
            with pytest.raises(CacheError):
                await held.cache.get(held.contact.incarnation, NAMES, "r", PROBATION)
            with pytest.raises(CacheError):
                await held.cache.contact()
        finally:
            await asyncio.to_thread(cluster.nodes[2].start)
            await asyncio.to_thread(cluster.settle)
        assert await becomes(held.again, lambda contact: bool(contact.incarnation))


def test_a_map_with_a_hole_is_refused() -> None:
    """Slots that nobody serves are told, and so is an answer that is no map."""
    with pytest.raises(CacheError, match="16284"):
        read_slots([[0, 99, [b"h", 1, b"id"]]], ("h", 1))
    with pytest.raises(CacheError, match="no map"):
        read_slots(b"OK", ("h", 1))
    (place,) = read_slots([[0, 16_383, [None, 7, b"id"], [b"other", 8, b"id"]]], ("asked", 1))
    assert place == ("asked", 7), "a node that does not know its own address is where it was asked"


def _scan(cluster: RedisCluster, at: int, pattern: str) -> list[bytes]:
    client = cluster.nodes[at].client()
    try:
        return list(client.scan_iter(pattern))
    finally:
        client.close()
