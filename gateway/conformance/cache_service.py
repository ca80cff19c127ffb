"""Clauses about a cache as a whole: many entries, many users, lost entries, other servers, and the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.cache.contract import Contact, End, EndAnswer, Fill, FillAnswer, Miss
from gateway.conformance.cache_harness import CacheHarness, CacheUser, cache_clause, called, mark, terms
from gateway.errors import CacheError, CacheMovedError

__all__ = ["LossClauses", "ServiceClauses"]

SHORT = 150
PROBATION = 300
"""Milliseconds."""


class ServiceClauses:
    """Many entries and users at once, each served as if alone."""

    @cache_clause()
    async def test_entries_have_nothing_to_do_with_each_other(
        self, caches: CacheHarness, user: CacheUser
    ) -> None:
        """Names that differ in anything are different entries, however long or alike they are."""
        base = caches.name()
        names = [base, f"{base} ", base.upper() + "A", f"{base}:é", f"{base}:{{a}}", f'{base}:["x\\n"]']
        names += [f"{base}:{'long' * 400}{end}" for end in "ab"]
        for number, name in enumerate(names):
            await user.put(name, str(number).encode())
        found = await user.cache.get(user.incarnation, names, "t", user.terms)
        assert list(found) == [str(number).encode() for number in range(len(names))]

    @cache_clause()
    async def test_many_entries_in_one_call(self, caches: CacheHarness, user: CacheUser) -> None:
        """Hundreds of entries are answered in the order in which they were named, whatever each has."""
        cache, incarnation, given = user.cache, user.incarnation, user.terms
        names = [caches.name() for _ in range(300)]
        assert set(await cache.get(incarnation, names, "t", given)) == {Miss.LEASED}
        fills = [Fill(name, "t", mark(1), name.encode()) for name in names[::2]]
        assert set(await cache.fill(incarnation, fills, given)) == {FillAnswer.STORED}
        await cache.begin(incarnation, names[::5], "w", given)
        found = await cache.get(incarnation, names, "u", given)
        for at, (name, one) in enumerate(zip(names, found, strict=True)):
            expected: Any = Miss.FENCED if at % 5 == 0 else Miss.WAIT if at % 2 else name.encode()
            assert one == expected, f"entry {at}"
        ends = [End(name, "w", mark(2), b"x") for name in names[::5]]
        assert set(await cache.end(incarnation, ends, given)) == {EndAnswer.STORED}

    @cache_clause()
    async def test_nothing_asked_is_nothing_answered(self, user: CacheUser) -> None:
        """Calls about no entry at all are no fault."""
        cache, incarnation, given = user.cache, user.incarnation, user.terms
        assert list(await cache.get(incarnation, [], "t", given)) == []
        assert list(await cache.fill(incarnation, [], given)) == []
        assert list(await cache.end(incarnation, [], given)) == []
        await cache.begin(incarnation, [], "t", given)

    @cache_clause()
    async def test_of_many_askers_one_gets_the_lease(self, caches: CacheHarness) -> None:
        """Two hundred readers of two connections at once: one may fill."""
        users = [await caches.user(), await caches.user()]
        name = caches.name()
        answers = await asyncio.gather(*(users[at % 2].get(name, f"t{at}") for at in range(200)))
        assert sorted(answers, key=str) == [Miss.LEASED, *[Miss.WAIT] * 199]

    @cache_clause()
    async def test_of_many_fills_one_is_kept(self, caches: CacheHarness, user: CacheUser) -> None:
        """Fills that come at once, each with a lease that it had, leave the value of the last lease."""
        name = caches.name()
        tokens = [f"t{at}" for at in range(20)]
        for token in tokens:
            assert await user.get(name, token) is Miss.LEASED
            if token != tokens[-1]:
                await user.begin(name, f"w{token}")
                await user.end(name, token=f"w{token}")
        answers = await asyncio.gather(*(user.fill(name, token.encode(), 1, token) for token in tokens))
        assert answers == [FillAnswer.REFUSED] * 19 + [FillAnswer.STORED]
        assert await user.get(name) == tokens[-1].encode()

    @cache_clause()
    async def test_connections_share_the_entries(self, caches: CacheHarness) -> None:
        """What one connection writes, another reads, and closing one leaves the other alone."""
        one, two = await caches.user(), await caches.user()
        assert one.incarnation == two.incarnation
        name = caches.name()
        await one.put(name, b"x")
        assert await two.get(name) == b"x"
        await one.cache.close()
        assert await two.get(name) == b"x"

    @cache_clause()
    async def test_a_large_value_comes_back_whole(self, caches: CacheHarness, user: CacheUser) -> None:
        """A mebibyte is no trouble; how much is kept is for the gateway to decide."""
        name, value = caches.name(), bytes(range(256)) * 4096
        await user.put(name, value)
        assert await user.get(name) == value

    @cache_clause()
    async def test_a_cancelled_call_answers_nobody_else(self, caches: CacheHarness, user: CacheUser) -> None:
        """When callers give up in the middle, the others still get the answers to their own questions."""
        names = [caches.name() for _ in range(40)]
        for name in names:
            await user.put(name, name.encode())

        async def ask(at: int) -> bytes | Miss | None:
            try:
                async with asyncio.timeout(0.0002 * (at % 7)):
                    return await user.get(names[at % 40])
            except TimeoutError:
                return None

        for _ in range(5):
            answers = await asyncio.gather(*(ask(at) for at in range(120)))
            given = {(at % 40, answer) for at, answer in enumerate(answers) if answer is not None}
            assert given <= {(at, name.encode()) for at, name in enumerate(names)}
            assert [await user.get(name) for name in names] == [name.encode() for name in names]

    @cache_clause()
    async def test_contact_and_health_tell_of_the_server(self, user: CacheUser) -> None:
        """The incarnation is a short text that stays while the server lives, and health says that it answers."""
        contact = await user.cache.contact()
        assert isinstance(contact, Contact)
        assert contact.incarnation == user.incarnation
        assert 1 <= len(contact.incarnation) <= 200
        assert isinstance(contact.evicts, bool)
        health = await user.cache.health()
        assert health.ok
        assert health.summary

    @cache_clause()
    async def test_another_server_than_was_meant_is_refused(
        self, caches: CacheHarness, user: CacheUser
    ) -> None:
        """Every call for another incarnation raises, and does nothing."""
        name, cache, given = caches.name(), user.cache, user.terms
        await user.put(name, b"x")
        with pytest.raises(CacheMovedError):
            await cache.get("another", [name], "t", given)
        with pytest.raises(CacheMovedError):
            await cache.begin("another", [name], "t", given)
        with pytest.raises(CacheMovedError):
            await cache.end("another", [End(name, "t", mark(9), None)], given)
        with pytest.raises(CacheMovedError):
            await cache.fill("another", [Fill(name, "t", mark(9), b"y")], given)
        assert await user.get(name) == b"x"

    @cache_clause()
    async def test_closing_is_final_and_may_be_repeated(self, caches: CacheHarness, user: CacheUser) -> None:
        """After `close` every call raises `CacheError`, health says so, and closing again does nothing."""
        name, cache, given = caches.name(), user.cache, user.terms
        await cache.close()
        await cache.close()
        with pytest.raises(CacheError):
            await cache.contact()
        with pytest.raises(CacheError):
            await cache.get(user.incarnation, [name], "t", given)
        with pytest.raises(CacheError):
            await cache.fill(user.incarnation, [Fill(name, "t", mark(1), b"x")], given)
        with pytest.raises(CacheError):
            await cache.begin(user.incarnation, [name], "t", given)
        with pytest.raises(CacheError):
            await cache.end(user.incarnation, [End(name, "t", mark(1), None)], given)
        assert not (await cache.health()).ok


class LossClauses:
    """A lost entry costs reads of the store, and nothing else."""

    @cache_clause()
    async def test_a_young_entry_serves_nothing(self, caches: CacheHarness, user: CacheUser) -> None:
        """Where the server may evict, an entry gives no lease until it is older than any fence could be."""
        name, young = caches.name(), terms(probation=PROBATION)
        assert await user.get(name, given=young) is Miss.FENCED
        assert await user.fill(name, b"x", 1, given=young) is FillAnswer.REFUSED
        await user.until(name, Miss.LEASED, "later", young)
        assert await user.fill(name, b"x", 1, "later", young) is FillAnswer.STORED
        assert await user.get(name, given=young) == b"x"

    @cache_clause()
    async def test_a_write_keeps_no_row_in_a_young_entry(self, caches: CacheHarness, user: CacheUser) -> None:
        """Another writer's fence may have been lost with the entry before, so a young one keeps no row."""
        name, young = caches.name(), terms(probation=PROBATION)
        await user.begin(name, given=young)
        assert await user.end(name, 1, b"x", given=young) is EndAnswer.LIFTED
        assert await user.get(name, given=young) is Miss.FENCED
        await user.until(name, Miss.LEASED, "later", young)
        await user.begin(name, given=young)
        assert await user.end(name, 2, b"y", given=young) is EndAnswer.STORED

    @cache_clause()
    async def test_an_old_entry_stays_old(self, caches: CacheHarness, user: CacheUser) -> None:
        """A value that ran out does not make its entry young again."""
        name, young = caches.name(), terms(value=SHORT, probation=PROBATION)
        await user.until(name, Miss.LEASED, "one", young)
        assert await user.fill(name, b"x", 1, "one", young) is FillAnswer.STORED
        answers: list[bytes | Miss] = []
        while Miss.LEASED not in answers:  # the harness ends a clause that hangs
            answers.append(await user.get(name, "two", young))
            await asyncio.sleep(0.01)
        assert Miss.FENCED not in answers, "it began anew"
        assert await user.fill(name, b"y", 1, "two", young) is FillAnswer.STORED

    @cache_clause("evict")
    async def test_an_evicted_entry_is_unknown(self, caches: CacheHarness, user: CacheUser) -> None:
        """Value, lease, fence and floor are gone with it; under probation it begins anew."""
        name, other = caches.name(), caches.name()
        await user.put(name, b"x", 5)
        await called(self.evict(user, name))  # type: ignore[attr-defined] # given by the author
        assert await user.get(name) is Miss.LEASED
        await user.begin(other)
        await called(self.evict(user, other))  # type: ignore[attr-defined] # as above
        young = terms(probation=60_000)
        assert await user.get(other, given=young) is Miss.FENCED
        assert await user.end(other, 1, b"x", given=young) is EndAnswer.LOST
        assert await user.get(other, given=young) is Miss.FENCED

    @cache_clause("restart")
    async def test_a_restarted_server_is_another_one(self, caches: CacheHarness, user: CacheUser) -> None:
        """After a restart, with old entries or without, calls for the former server are refused, for the new served."""
        name = caches.name()
        await user.put(name, b"x")
        await called(self.restart())  # type: ignore[attr-defined] # given by the author
        with pytest.raises(CacheError):
            await user.get(name)
        contact = await _answering(user)
        assert contact.incarnation != user.incarnation
        with pytest.raises(CacheMovedError):
            await user.get(name)
        again = CacheUser(user.cache, contact.incarnation)
        fresh = caches.name()
        await again.put(fresh, b"y")
        assert await again.get(fresh) == b"y"


async def _answering(user: CacheUser) -> Contact:
    """Return what the server says of itself as soon as it answers."""
    while True:  # the harness ends a clause that hangs
        try:
            return await user.cache.contact()
        except CacheError:
            await asyncio.sleep(0.05)
