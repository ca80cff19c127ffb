"""Lives of a server: after a restart, a crash, a promotion or an emptying, it is another one for everybody."""

from __future__ import annotations

import pytest

from gateway.cache.contract import Contact, Miss
from gateway.errors import CacheError, CacheMovedError
from gateway_redis.cache import RedisCache
from tests.plugins.redis.redis_lab import LONG, Holder, becomes, opened, settings
from tests.servers import RedisServer
from tests.servers.redis import eventually


async def _other_life(held: Holder) -> Contact:
    """Make sure that the server has become another one for this cache, and that nothing of before is served."""
    old = held.contact
    with pytest.raises(CacheError):
        await held.get("a")
    new = await becomes(held.again, lambda contact: contact.incarnation != old.incarnation)
    held.contact = old
    for call in (held.get("a"), held.fill("a", 9), held.begin("a"), held.end("a", 9)):
        with pytest.raises(CacheMovedError):
            await call
    held.contact = new
    assert isinstance(new, Contact)
    return new


@pytest.mark.anyio
@pytest.mark.parametrize("sudden", [False, True], ids=["restart", "kill -9"])
async def test_a_server_that_started_anew_is_another_one(own_server: RedisServer, sudden: bool) -> None:
    """Empty after its start, it has lost the fences of writes under way; nobody may trust it before all know."""
    async with opened(own_server.url()) as held:
        await held.put("a", 1)
        (own_server.kill if sudden else own_server.stop)()
        own_server.start()
        await _other_life(held)
        assert await held.get("a") is Miss.LEASED


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("lines", "how"), [(["save 3600 1"], "save"), (["appendonly yes", "appendfsync always"], "aof")]
)
async def test_what_a_restart_brings_back_belongs_to_another_life(lines: list[str], how: str) -> None:
    """With RDB or AOF old values come back with the server; whoever asks by the old incarnation is refused."""
    with RedisServer.made(lines=lines) as server:
        async with opened(server.url()) as held:
            await held.put("a", 1)
            if how == "save":
                server.ask("SAVE")
            server.kill()
            server.start()
            key = f"{held.cache._prefix}:a"  # type: ignore[attr-defined]
            assert server.ask("HGET", key, "v") == b"version 1", "the old content is there indeed"
            await _other_life(held)


@pytest.mark.anyio
@pytest.mark.parametrize("command", ["FLUSHALL", "FLUSHDB"])
async def test_an_emptied_database_is_noticed_by_the_next_call(own_server: RedisServer, command: str) -> None:
    """Fences went with it, and the connection did not break: the mark of the database tells."""
    async with opened(own_server.url()) as held, opened(own_server.url()) as other:
        other.cache._prefix = held.cache._prefix  # type: ignore[attr-defined]
        await held.begin("a")
        own_server.ask(command)
        with pytest.raises(CacheMovedError, match="emptied"):
            await held.get("a")
        new = await held.again()
        assert await held.get("a") is Miss.LEASED
        assert new.incarnation != other.contact.incarnation


@pytest.mark.anyio
async def test_two_processes_see_one_life(own_server: RedisServer) -> None:
    """Everybody who reaches the server with one prefix has the same name for it, also after it was emptied."""
    chosen = settings(own_server.url())
    one, two = RedisCache(chosen), RedisCache(chosen)
    try:
        before = (await one.contact()).incarnation
        assert (await two.contact()).incarnation == before
        own_server.ask("FLUSHALL")
        after = (await two.contact()).incarnation
        assert after != before
        assert (await one.contact()).incarnation == after
        with pytest.raises(CacheMovedError):
            await one.get(before, ["a"], "t", LONG)
    finally:
        await one.close()
        await two.close()


@pytest.mark.anyio
async def test_a_master_that_was_demoted_serves_nothing(own_server: RedisServer) -> None:
    """Over the very connection: not even what it has, since another one takes the writes now.

    Promoted again, it is another one: what it has may be what its master had not told it yet.
    """
    with RedisServer.made() as master:
        own_server.ask("CONFIG", "SET", "masterauth", master.password)
        async with opened(own_server.url()) as held:
            await held.put("a", 1)
            own_server.ask("REPLICAOF", master.host, master.port)
            with pytest.raises(CacheMovedError, match="replica"):
                await held.get("a")
            with pytest.raises(CacheError, match="replica"):
                await held.again()
            own_server.ask("REPLICAOF", "NO", "ONE")
            old = held.contact
            new = await becomes(held.again, lambda contact: contact.incarnation != old.incarnation)
            assert new.incarnation != old.incarnation


@pytest.mark.anyio
async def test_a_look_at_a_replica_gives_up_the_connection(own_server: RedisServer) -> None:
    """Its name may lead to another server by now; the next look finds out."""
    with RedisServer.made() as master:
        own_server.ask("CONFIG", "SET", "masterauth", master.password)
        async with opened(own_server.url()) as held:
            await held.put("a", 1)
            own_server.ask("REPLICAOF", master.host, master.port)
            eventually(
                lambda: own_server.ask("INFO", "replication")["master_link_status"] == "up",
                "it has become a replica",
            )
            with pytest.raises(CacheError, match="replica"):
                await held.cache.contact()
            own_server.ask("REPLICAOF", "NO", "ONE")
            found = await becomes(held.cache.contact, lambda contact: bool(contact.incarnation))
            assert found.incarnation != held.contact.incarnation


@pytest.mark.anyio
async def test_a_demotion_that_nobody_saw_is_noticed(own_server: RedisServer) -> None:
    """Demoted and promoted again over one connection: the next look tells, though the process is the same."""
    with RedisServer.made() as master:
        own_server.ask("CONFIG", "SET", "masterauth", master.password)
        async with opened(own_server.url()) as held:
            own_server.ask("REPLICAOF", master.host, master.port)
            eventually(
                lambda: own_server.ask("INFO", "replication")["master_link_status"] == "up",
                "it has become a replica",
            )
            own_server.ask("REPLICAOF", "NO", "ONE")
            assert (await held.cache.contact()).incarnation != held.contact.incarnation


@pytest.mark.anyio
async def test_a_policy_that_evicts_is_told_and_makes_another_server_of_it(own_server: RedisServer) -> None:
    """Whether entries may be lost decides how far they are trusted, so no two processes may differ about it."""
    async with opened(own_server.url()) as held:
        before = held.contact
        assert not before.evicts
        own_server.ask("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
        after = await held.again()
        assert after.evicts
        assert "allkeys-lru" in after.detail
        assert after.incarnation != before.incarnation
        own_server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert not (await held.again()).evicts


@pytest.mark.anyio
async def test_a_wrong_password_is_told_without_showing_it(own_server: RedisServer) -> None:
    """The text of the failure says what to do and does not hold the password."""
    cache = RedisCache(settings(own_server.url().replace(own_server.password, "wr0ngpass")))
    try:
        with pytest.raises(CacheError, match="refuses the login") as caught:
            await cache.contact()
        assert "wr0ngpass" not in str(caught.value)
    finally:
        await cache.close()
