"""One entry: every answer of the four scripts, on each kind of server, and against the reference."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cache.contract import Cache, End, EndAnswer, Fill, FillAnswer, Miss, Terms
from gateway_memory.cache import CacheServer, MemoryCache
from gateway_redis.cache import key_of
from tests.plugins.redis.redis_lab import LONG, Holder, becomes, mark, opened
from tests.servers import RedisServer


@pytest.mark.anyio
async def test_one_reader_gets_the_lease_and_its_fill_is_served(server: RedisServer) -> None:
    """The first who misses may fill, everybody else waits, and then the value is there."""
    async with opened(server.url()) as held:
        assert await held.get("a", "one") is Miss.LEASED
        assert await held.get("a", "two") is Miss.WAIT
        assert await held.fill("a", 1, "two") is FillAnswer.REFUSED
        assert await held.fill("a", 1, "one") is FillAnswer.STORED
        assert await held.get("a", "two") == b"version 1"


@pytest.mark.anyio
async def test_a_fill_that_a_write_overtook_is_refused(server: RedisServer) -> None:
    """Who read the store before a write began must not put what he read back after it."""
    async with opened(server.url()) as held:
        assert await held.get("a", "slow") is Miss.LEASED
        await held.put("a", 2)
        assert await held.fill("a", 1, "slow") is FillAnswer.REFUSED
        assert await held.get("a") == b"version 2"


@pytest.mark.anyio
async def test_nothing_is_served_while_any_fence_stands(server: RedisServer) -> None:
    """Two writers each have a fence; with the first one gone nothing is kept, since the other may have written more."""
    async with opened(server.url()) as held:
        await held.put("a", 1)
        await held.begin("a", "one")
        await held.begin("a", "two")
        assert await held.get("a") is Miss.FENCED
        assert await held.end("a", 3, "one") is EndAnswer.LIFTED
        assert await held.get("a") is Miss.FENCED
        assert await held.end("a", 2, "two") is EndAnswer.LIFTED, "below the floor"
        assert await held.get("a") is Miss.LEASED


@pytest.mark.anyio
async def test_below_the_floor_nothing_is_kept(server: RedisServer) -> None:
    """What a lagging store answers is older than what was written; the floor keeps it out, byte by byte."""
    async with opened(server.url()) as held:
        await held.begin("a")
        (answer,) = await held.cache.end(
            held.contact.incarnation, [End("a", "writer", mark(0xAB), None)], held.terms
        )
        assert answer is EndAnswer.LIFTED
        assert await held.get("a") is Miss.LEASED
        assert await held.fill("a", 0x9F) is FillAnswer.REFUSED
        assert await held.get("a") is Miss.LEASED
        assert await held.fill("a", 0xAB) is FillAnswer.STORED


@pytest.mark.anyio
async def test_a_fence_that_ran_out_is_lost_and_takes_the_value_with_it(server: RedisServer) -> None:
    """A writer who took too long finds his fence gone; what was filled meanwhile may be old, so it is dropped."""
    async with opened(server.url(), LONG._replace(fence_ms=30)) as held:
        await held.begin("a")
        await becomes(lambda: held.get("a"), lambda answer: answer is Miss.LEASED)
        assert await held.fill("a", 1) is FillAnswer.STORED
        assert await held.end("a", 2) is EndAnswer.LOST
        assert await held.get("a") is Miss.LEASED
        assert await held.fill("a", 1) is FillAnswer.REFUSED, "the floor was raised all the same"


@pytest.mark.anyio
async def test_a_lease_and_a_value_run_out(server: RedisServer) -> None:
    """A reader who died keeps nobody from filling for long, and a value lasts as long as was agreed."""
    async with opened(server.url(), LONG._replace(lease_ms=30, value_ms=30)) as held:
        assert await held.get("a", "dead") is Miss.LEASED
        await becomes(lambda: held.get("a", "next"), lambda answer: answer is Miss.LEASED)
        assert await held.fill("a", 1, "dead") is FillAnswer.REFUSED
        assert await held.get("b") is Miss.LEASED
        assert await held.fill("b", 1) is FillAnswer.STORED
        await becomes(lambda: held.get("b"), lambda answer: answer is Miss.LEASED)


@pytest.mark.anyio
async def test_an_entry_on_probation_serves_nothing_until_it_is_old_enough(server: RedisServer) -> None:
    """Where the server may lose a fence, an entry is trusted once no fence could have been lost with it."""
    async with opened(server.url(), LONG._replace(fence_ms=80, probation_ms=80)) as held:
        assert await held.get("a") is Miss.FENCED
        await held.begin("b")
        assert await held.end("b", 1) is EndAnswer.LIFTED
        await becomes(lambda: held.get("a"), lambda answer: answer is Miss.LEASED)
        assert await held.fill("a", 1) is FillAnswer.STORED
        server.ask("DEL", key_of(held.cache._prefix, "a"))  # type: ignore[attr-defined]
        assert await held.get("a") is Miss.FENCED


@pytest.mark.anyio
async def test_every_key_runs_out(server: RedisServer) -> None:
    """Nothing is left on a shared server for ever, whatever was done."""
    terms = LONG._replace(probation_ms=50)
    async with opened(server.url()) as held:
        for held.terms in (terms, LONG):
            await held.get(f"asked for {held.terms.probation_ms}")
            await held.begin(f"begun {held.terms.probation_ms}")
            await held.end(f"ended {held.terms.probation_ms}", 1)
        await held.put("written", 1)
        client = server.client()
        try:
            keys = list(client.scan_iter(f"{held.cache._prefix}:*"))  # type: ignore[attr-defined]
            assert len(keys) == 8, keys
            assert all(client.pttl(key) > 0 for key in keys)
        finally:
            client.close()


@pytest.mark.anyio
async def test_values_and_names_of_every_kind_come_back(server: RedisServer) -> None:
    """Bytes are bytes; names may be empty, long, and hold what means something to a server."""
    names = ["", "{slot}", "a b", "ä\r\n", "x" * 5_000, "x" * 5_001, "#" * 199]
    async with opened(server.url()) as held:
        incarnation = held.contact.incarnation
        assert set(await held.cache.get(incarnation, names, "t", LONG)) == {Miss.LEASED}
        values = [bytes([at, 0, 255, 13, 10]) * 100 for at in range(len(names))]
        fills = [Fill(name, "t", mark(1), value) for name, value in zip(names, values, strict=True)]
        assert set(await held.cache.fill(incarnation, fills, LONG)) == {FillAnswer.STORED}
        assert list(await held.cache.get(incarnation, names, "t", LONG)) == values


@pytest.mark.anyio
async def test_ends_of_one_call_that_share_a_name_take_effect_in_their_order(server: RedisServer) -> None:
    """With and without a value, which are two scripts: the second end of an entry finds what the first one left."""
    async with opened(server.url()) as held:
        await held.begin("a", "one")
        ends = [
            End("a", "one", mark(1), b"kept"),
            End("a", "one", mark(2), None),
            End("a", "two", mark(3), b"no"),
        ]
        answers = await held.cache.end(held.contact.incarnation, ends, LONG)
        assert list(answers) == [EndAnswer.STORED, EndAnswer.LOST, EndAnswer.LOST]
        assert await held.get("a") is Miss.LEASED
        assert await held.fill("a", 2) is FillAnswer.REFUSED, "the last of them raised the floor"


@pytest.mark.anyio
async def test_scripts_that_the_server_forgot_are_sent_again(own_server: RedisServer) -> None:
    """An operator who empties the store of scripts costs one more round trip."""
    async with opened(own_server.url()) as held:
        await held.put("a", 1)
        own_server.ask("SCRIPT", "FLUSH")
        assert await held.get("a") == b"version 1"
        own_server.ask("SCRIPT", "FLUSH")
        names = [f"n{at}" for at in range(50)]
        await held.cache.begin(held.contact.incarnation, names, "w", LONG)
        assert await held.get("n49") is Miss.FENCED


NAMES = st.sampled_from(["a", "b"])
TOKENS = st.sampled_from(["t1", "t2", "t3"])
MARKS = st.integers(0, 5).map(mark)
STEPS = st.one_of(
    st.tuples(st.just("get"), NAMES, TOKENS),
    st.tuples(st.just("begin"), NAMES, TOKENS),
    st.tuples(st.just("fill"), NAMES, TOKENS, MARKS),
    st.tuples(st.just("end"), NAMES, TOKENS, st.one_of(st.just(""), MARKS), st.booleans()),
    st.tuples(st.just("lose"), NAMES),
)


async def _step(cache: Cache, incarnation: str, terms: Terms, step: tuple[Any, ...]) -> object:
    kind, name, *rest = step
    match kind:
        case "get":
            return await cache.get(incarnation, [name], rest[0], terms)
        case "begin":
            await cache.begin(incarnation, [name], rest[0], terms)
            return None
        case "fill":
            return await cache.fill(incarnation, [Fill(name, rest[0], rest[1], rest[1].encode())], terms)
        case _:
            value = rest[1].encode() if rest[2] and rest[1] else None
            return await cache.end(incarnation, [End(name, rest[0], rest[1], value)], terms)


@pytest.mark.parametrize("probation", [0, 600_000])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=25))
def test_it_answers_as_the_reference_does(
    valkey_server: RedisServer, probation: int, steps: list[tuple[Any, ...]]
) -> None:
    """Any sequence of operations and losses has the same answers here as on the reference implementation."""
    terms = LONG._replace(probation_ms=probation)

    async def compare() -> None:
        reference = MemoryCache(CacheServer())
        known = (await reference.contact()).incarnation
        async with opened(valkey_server.url()) as held:
            for step in steps:
                if step[0] == "lose":
                    reference.server.evict(step[1])
                    await _forget(valkey_server, held, step[1])
                    continue
                wanted = await _step(reference, known, terms, step)
                assert await _step(held.cache, held.contact.incarnation, terms, step) == wanted, step

    asyncio.run(compare())


async def _forget(server: RedisServer, held: Holder, name: str) -> None:
    await asyncio.to_thread(server.ask, "DEL", key_of(held.cache._prefix, name))  # type: ignore[attr-defined]
