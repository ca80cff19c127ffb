"""Clauses about one entry of a cache: leases, fences, floors, and what runs out."""

from __future__ import annotations

from gateway.cache.contract import EndAnswer, FillAnswer, Miss
from gateway.conformance.cache_harness import CacheHarness, CacheUser, cache_clause, terms

__all__ = ["FenceClauses", "FloorClauses", "LeaseClauses"]

SHORT = 150
"""Milliseconds: what a clause waits for to run out."""
BINARY = bytes(range(256))


class LeaseClauses:
    """One reader fills an entry; the others find out that somebody does."""

    @cache_clause()
    async def test_one_reader_gets_the_lease_and_fills(self, caches: CacheHarness, user: CacheUser) -> None:
        """The first asker may fill, the second is told to wait, and then both get the value, byte for byte."""
        name = caches.name()
        assert await user.get(name, "one") is Miss.LEASED
        assert await user.get(name, "two") is Miss.WAIT
        assert await user.fill(name, BINARY, 1, "one") is FillAnswer.STORED
        assert await user.get(name, "one") == BINARY
        assert await user.get(name, "two") == BINARY

    @cache_clause()
    async def test_the_owner_of_a_lease_waits_too(self, caches: CacheHarness, user: CacheUser) -> None:
        """A lease is given once, also to one who asks for it again."""
        name = caches.name()
        assert await user.get(name, "one") is Miss.LEASED
        assert await user.get(name, "one") is Miss.WAIT

    @cache_clause()
    async def test_a_fill_without_the_lease_is_refused(self, caches: CacheHarness, user: CacheUser) -> None:
        """Who never had the lease, or has filled already, cannot fill, and takes nobody's lease away."""
        name = caches.name()
        assert await user.fill(name, b"x", 1, "one") is FillAnswer.REFUSED
        assert await user.get(name, "one") is Miss.LEASED
        assert await user.fill(name, b"x", 1, "two") is FillAnswer.REFUSED
        assert await user.get(name, "two") is Miss.WAIT
        assert await user.fill(name, b"first", 1, "one") is FillAnswer.STORED
        assert await user.fill(name, b"again", 2, "one") is FillAnswer.REFUSED
        assert await user.get(name) == b"first"

    @cache_clause()
    async def test_a_lease_runs_out(self, caches: CacheHarness, user: CacheUser) -> None:
        """When a reader does not come back, another gets the lease, and the first one's fill is refused."""
        name = caches.name()
        assert await user.get(name, "slow", terms(lease=SHORT)) is Miss.LEASED
        await user.until(name, Miss.LEASED, "next")
        assert await user.fill(name, b"old", 9, "slow") is FillAnswer.REFUSED
        assert await user.fill(name, b"new", 9, "next") is FillAnswer.STORED

    @cache_clause()
    async def test_a_value_runs_out(self, caches: CacheHarness, user: CacheUser) -> None:
        """After its time a value is gone, whichever way it came."""
        filled, written = caches.name(), caches.name()
        brief = terms(value=SHORT)
        assert await user.get(filled) is Miss.LEASED
        assert await user.fill(filled, b"x", 1, given=brief) is FillAnswer.STORED
        await user.begin(written)
        assert await user.end(written, 1, b"x", given=brief) is EndAnswer.STORED
        await user.until(filled, Miss.LEASED)
        await user.until(written, Miss.LEASED)


class FenceClauses:
    """While a row is being written, nobody is told what it was, and nobody can put that back."""

    @cache_clause()
    async def test_a_write_drops_the_value(self, caches: CacheHarness, user: CacheUser) -> None:
        """From the beginning of a write until its end there is no value and no lease; afterwards there can be."""
        name = caches.name()
        await user.put(name, b"old")
        await user.begin(name)
        assert await user.get(name) is Miss.FENCED
        assert await user.get(name) is Miss.FENCED
        assert await user.end(name, 2) is EndAnswer.LIFTED
        assert await user.get(name) is Miss.LEASED

    @cache_clause()
    async def test_a_fill_that_a_write_overtook_is_refused(
        self, caches: CacheHarness, user: CacheUser
    ) -> None:
        """What was read before a write cannot be filled during it, nor after it, whatever its mark."""
        during, after = caches.name(), caches.name()
        for name in (during, after):
            assert await user.get(name, "slow") is Miss.LEASED
            await user.begin(name)
        assert await user.fill(during, b"old", 9, "slow") is FillAnswer.REFUSED
        assert await user.end(after) is EndAnswer.LIFTED
        assert await user.fill(after, b"old", 9, "slow") is FillAnswer.REFUSED
        assert await user.get(after, "next") is Miss.LEASED
        assert await user.fill(after, b"new", 9, "next") is FillAnswer.STORED

    @cache_clause()
    async def test_a_write_can_leave_its_row(self, caches: CacheHarness, user: CacheUser) -> None:
        """A writer that was alone from beginning to end leaves its row in the cache."""
        name = caches.name()
        await user.begin(name)
        assert await user.end(name, 3, BINARY) is EndAnswer.STORED
        assert await user.get(name) == BINARY

    @cache_clause()
    async def test_every_writer_has_a_fence_of_its_own(self, caches: CacheHarness, user: CacheUser) -> None:
        """Of two writers at once, neither takes down the other's fence, nor leaves a row while it stands."""
        name = caches.name()
        await user.begin(name, "one")
        await user.begin(name, "two")
        assert await user.end(name, 2, b"two", "two") is EndAnswer.LIFTED
        assert await user.get(name) is Miss.FENCED
        assert await user.end(name, 1, b"one", "one") is EndAnswer.LIFTED
        assert await user.get(name) is Miss.LEASED

    @cache_clause()
    async def test_the_last_of_two_writers_leaves_no_row(self, caches: CacheHarness, user: CacheUser) -> None:
        """A writer beside whom another one was, whether that one ended or was killed, leaves no row."""
        ended, killed = caches.name(), caches.name()
        for name, given in ((ended, terms()), (killed, terms(fence=SHORT))):
            await user.begin(name, "first", given)
            await user.begin(name, "last")
        assert await user.end(ended, 1, b"first", "first") is EndAnswer.LIFTED
        marker = caches.name()
        await user.begin(marker, given=terms(fence=2 * SHORT))
        await user.until(marker, Miss.LEASED)  # the first one's fence has run out, too
        for name in (ended, killed):
            assert await user.get(name) is Miss.FENCED
            assert await user.end(name, 2, b"last", "last") is EndAnswer.LIFTED
            assert await user.get(name) is Miss.LEASED

    @cache_clause()
    async def test_announcing_again_is_one_fence(self, caches: CacheHarness, user: CacheUser) -> None:
        """A beginning that is repeated with its token is taken down by one end, and lasts from the repetition."""
        name = caches.name()
        await user.begin(name, given=terms(fence=SHORT))
        await user.begin(name)
        marker = caches.name()
        await user.begin(marker, given=terms(fence=SHORT))
        await user.until(marker, Miss.LEASED)  # so much time has passed
        assert await user.get(name) is Miss.FENCED
        assert await user.end(name, 1, b"x") is EndAnswer.STORED

    @cache_clause()
    async def test_a_fence_runs_out(self, caches: CacheHarness, user: CacheUser) -> None:
        """The fence of a writer that was killed stands until its time, and its end, coming later, keeps nothing."""
        name = caches.name()
        await user.begin(name, given=terms(fence=SHORT))
        assert await user.get(name) is Miss.FENCED
        await user.until(name, Miss.LEASED, "next")
        assert await user.fill(name, b"x", 5, "next") is FillAnswer.STORED
        assert await user.end(name, 4, b"late") is EndAnswer.LOST
        assert await user.get(name) is Miss.LEASED

    @cache_clause()
    async def test_an_end_without_a_beginning_drops_the_value(
        self, caches: CacheHarness, user: CacheUser
    ) -> None:
        """A writer whose fence was lost cannot know what was filled meanwhile, so that goes, the lease too."""
        filled, leased = caches.name(), caches.name()
        await user.put(filled, b"x", 1)
        assert await user.end(filled, 2, b"y") is EndAnswer.LOST
        assert await user.get(filled) is Miss.LEASED
        assert await user.get(leased, "slow") is Miss.LEASED
        assert await user.end(leased, 2) is EndAnswer.LOST
        assert await user.fill(leased, b"x", 3, "slow") is FillAnswer.REFUSED

    @cache_clause()
    async def test_a_write_that_came_to_nothing_only_lifts_its_fence(
        self, caches: CacheHarness, user: CacheUser
    ) -> None:
        """An end without a mark leaves the floor where it was."""
        name = caches.name()
        await user.begin(name)
        assert await user.end(name) is EndAnswer.LIFTED
        assert await user.get(name) is Miss.LEASED
        assert await user.fill(name, b"x", 0) is FillAnswer.STORED


class FloorClauses:
    """Nothing older than what a writer reported is kept."""

    @cache_clause()
    async def test_nothing_below_the_floor_is_filled(self, caches: CacheHarness, user: CacheUser) -> None:
        """A fill below the reported mark is refused though it has the lease; one at the mark is kept."""
        name = caches.name()
        await user.begin(name)
        await user.end(name, 5)
        assert await user.get(name, "behind") is Miss.LEASED
        assert await user.fill(name, b"4", 4, "behind") is FillAnswer.REFUSED
        assert await user.get(name, "level") is Miss.LEASED, "a refused fill gives its lease back"
        assert await user.fill(name, b"5", 5, "level") is FillAnswer.STORED

    @cache_clause()
    async def test_the_floor_is_never_lowered(self, caches: CacheHarness, user: CacheUser) -> None:
        """Ends that come out of order leave the greatest mark, and the older row is not kept."""
        name = caches.name()
        await user.begin(name, "older")
        await user.begin(name, "newer")
        assert await user.end(name, 8, b"8", "newer") is EndAnswer.LIFTED
        assert await user.end(name, 7, b"7", "older") is EndAnswer.LIFTED
        assert await user.get(name) is Miss.LEASED
        assert await user.fill(name, b"7", 7) is FillAnswer.REFUSED

    @cache_clause()
    async def test_marks_are_compared_to_the_last_digit(self, caches: CacheHarness, user: CacheUser) -> None:
        """Marks that differ only beyond what a float can hold are told apart."""
        name = caches.name()
        great = (1 << 127) + 1
        await user.begin(name)
        await user.end(name, great)
        assert await user.get(name, "behind") is Miss.LEASED
        assert await user.fill(name, b"x", great - 1, "behind") is FillAnswer.REFUSED
        assert await user.get(name, "level") is Miss.LEASED
        assert await user.fill(name, b"x", great, "level") is FillAnswer.STORED

    @cache_clause()
    async def test_a_floor_outlives_a_lost_fence(self, caches: CacheHarness, user: CacheUser) -> None:
        """An end raises the floor, too, if its fence was gone."""
        name = caches.name()
        assert await user.end(name, 5) is EndAnswer.LOST
        assert await user.get(name) is Miss.LEASED
        assert await user.fill(name, b"x", 4) is FillAnswer.REFUSED

    @cache_clause()
    async def test_a_floor_runs_out(self, caches: CacheHarness, user: CacheUser) -> None:
        """After its time a floor keeps nothing out: a row that was purged must be cacheable as missing."""
        name = caches.name()
        await user.begin(name)
        await user.end(name, 5, given=terms(floor=SHORT))
        marker = caches.name()
        await user.begin(marker, given=terms(fence=2 * SHORT))
        await user.until(marker, Miss.LEASED)
        assert await user.get(name) is Miss.LEASED
        assert await user.fill(name, b"none", 0) is FillAnswer.STORED
