"""Mirrors in the corners: clocks, pauses, leases, refusals, and processes that come at the wrong moment."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from gateway.backend import Health, OpenContext, WriteBatch
from gateway.dispatch import open_store
from gateway.engine.purging import purge
from gateway.errors import GatewayError, JournalFullError, StoreUnavailableError
from gateway.intents import Intent, JournalFacts
from gateway.journal.memory import MemoryJournal
from gateway.mirror.bounds import Bounds, JournalPolicy
from gateway.mirror.contract import Claim, FeedOptions, RelayOptions
from gateway.mirror.facade import Mirrors
from gateway.mirror.fullness import fullness
from gateway.mirror.homes import MemoryStates
from gateway.mirror.lease import Lease
from gateway.mirror.state import suspended
from gateway.records.activity import EVENTS
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.records.version import version_at
from gateway_sqlite.plugin import SPEC as SQLITE
from tests.two_stores import NOW, Two, two, until

__all__ = ["two"]

pytestmark = pytest.mark.anyio
OLD = datetime(2020, 1, 1, tzinfo=UTC)
QUICK = RelayOptions(poll=0.01, grace=0.0)


def _mirrors(two: Two, bounds: Bounds | None = None, **options: Any) -> Mirrors:
    """Make mirrors with a clock of their own, as of a process that has written nothing."""
    return two.mirrors(bounds, clock=Stamper().clock, **options)


async def test_a_flush_waits_for_a_write_under_way_though_the_mirror_was_paused(two: Two) -> None:
    """Whoever removes rows after it would otherwise find them again on the mirror."""
    mirrors = _mirrors(two)
    two.gate.gate.clear()
    feed = mirrors.feed("a", "b")
    (row,) = await two.write(mirrors)
    await two.gate.entered.wait()
    feed.pause("by ann")
    flushing = asyncio.ensure_future(feed.flush())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not flushing.done()
    two.gate.gate.set()
    await flushing
    assert await two.has(row)


async def test_a_feed_outlives_an_error_that_nobody_expected(two: Two) -> None:
    """Who waits is told, and the next write reaches the mirror again."""
    mirrors = _mirrors(two)
    feed = mirrors.feed("a", "b")
    row = two.event()
    faults: list[Exception] = [RuntimeError("the cache is broken")]

    async def write(batch: WriteBatch) -> Any:
        if faults:
            raise faults.pop()
        return await two.b.gateway_write(batch)

    two.b.write, two.b.gateway_write = write, two.b.write
    told: list[GatewayError | None] = []
    for number in (1, 2):
        feed.offer([row], number, lambda _, error: told.append(error))
        async with asyncio.timeout(5):
            await feed.flush()
    assert "the cache is broken" in str(told[0])
    assert told[1] is None
    assert await two.has(row)


async def test_who_has_lost_the_lease_speaks_for_the_mirror_no_more() -> None:
    """Two processes that both report would overwrite each other's news every second."""
    states = MemoryStates()
    lease = Lease(states, "b", "one")
    assert await lease.claim() is Claim.GRANTED
    taken = (await states.read("b")).model_copy(update={"relay_owner": "two"})
    lease.saw(taken)
    assert not lease.held
    lease.saw(await states.read("b"))
    await lease.release()
    assert (await states.read("b")).relay_owner == "", "a lease that was its own after all is given back"


@pytest.mark.parametrize("policy", list(JournalPolicy))
async def test_a_row_that_is_refused_for_good_fills_no_journal_by_its_age(
    two: Two, policy: JournalPolicy
) -> None:
    """One such row would stop all writes after a week, or have the mirror given up; other rows still count."""
    bounds = Bounds(age=timedelta(seconds=0.2), policy=policy)
    mirrors = _mirrors(two, bounds, relay=QUICK)
    (row,) = await two.write(mirrors, hand_on=False)
    two.gate.refuses = {row.key}
    await mirrors.start()
    watch = mirrors._watches["a", "b"]
    await until(lambda: watch.relay.status().refused == 1)
    await until(lambda: watch.status()["oldest_seconds"] > 0.4)
    await mirrors.look()
    await watch.count()
    assert (watch.full, watch.given_up, mirrors.crowded) == (None, False, False)
    assert (await mirrors.homes["a"].states.read("b")).refused == 1


async def test_what_is_refused_is_told_from_what_waits() -> None:
    """Of a change with several rows all are refused; anything else that is as old fills the journal."""
    journal, old = MemoryJournal(), version_at(NOW - timedelta(days=8))
    facts = JournalFacts("b", 3, old)

    def notes(number: int, parts: int) -> list[tuple[str, Intent]]:
        return [
            ("b", Intent("o", number, part, EVENTS, DEFAULT_TENANT, (f"{number}{part}",), old, ""))
            for part in range(parts)
        ]

    await journal.note(notes(1, 3))
    assert await fullness(journal, DEFAULT_TENANT, facts, 0, Bounds(), NOW) is not None
    assert await fullness(journal, DEFAULT_TENANT, facts, 1, Bounds(), NOW) is None
    assert await fullness(journal, DEFAULT_TENANT, facts, 1, Bounds(rows=3), NOW) is not None
    await journal.note(notes(2, 1))
    assert await fullness(journal, DEFAULT_TENANT, facts, 1, Bounds(), NOW) is not None
    assert await fullness(journal, DEFAULT_TENANT, facts, 2, Bounds(), NOW) is None


async def test_a_row_that_is_accepted_at_last_is_not_said_to_be_refused(two: Two) -> None:
    """Though nothing follows it: the report is about now."""
    mirrors = _mirrors(two, relay=QUICK)
    (row,) = await two.write(mirrors, hand_on=False)
    two.gate.refuses = {row.key}
    await mirrors.start()
    states, relay = mirrors.homes["a"].states, mirrors._watches["a", "b"].relay

    async def reported(count: int) -> bool:
        return (await states.read("b")).refused == count

    await until(lambda: reported(1))
    two.gate.refuses = set()
    await until(lambda: two.has(row))
    await until(lambda: relay.status().refused == 0)
    await until(lambda: reported(0))


async def test_a_count_that_is_old_leaves_no_more_room_than_there_was(two: Two) -> None:
    """A long journal is counted seldom; the rows of this gateway count in between all the same."""
    mirrors = _mirrors(two, Bounds(rows=50), feed=FeedOptions(rows=1))
    two.gate.faults = [StoreUnavailableError("down")] * 1000
    await mirrors.start()
    for _ in range(30):
        await two.write(mirrors, hand_on=False)
    mirrors._watches["a", "b"]._count_at = float("inf")
    for _ in range(25):
        await two.write(mirrors, hand_on=False)
        await mirrors.look()
    assert mirrors.crowded
    with pytest.raises(JournalFullError):
        await mirrors.admit(("b",))


async def test_a_store_that_gets_nothing_is_not_asked_before_a_write(two: Two) -> None:
    """The journal of a mirror that hangs would hold up the callers."""
    mirrors = _mirrors(two, Bounds(rows=10))
    await mirrors.start()

    async def never() -> None:
        raise AssertionError("it was asked")

    mirrors._watches["b", "a"].count = never  # type: ignore[method-assign] # the look does not count it either
    for _ in range(40):
        if mirrors.crowded:
            await mirrors.admit(("b",))
        await two.write(mirrors)
        assert await mirrors.drained("a", "b", 2**62, 5)


async def test_who_has_not_heard_for_long_keeps_intents(two: Two) -> None:
    """A process that still takes a mirror for given up would lose writes that no copy brings any more."""
    mirrors = _mirrors(two, look=3600.0)
    await mirrors.homes["a"].states.change("b", partial(suspended, since=1, why="full"))
    watch = mirrors._watches["a", "b"]
    watch._mirror = Down()  # type: ignore[assignment] # stands for the store's health
    await mirrors.start()
    assert mirrors.noted(("b",)) == ()
    watch._clock = lambda: asyncio.get_running_loop().time() + 3
    assert mirrors.noted(("b",)) == ("b",)


class Down:
    """What is asked of a mirror's health."""

    async def health(self) -> Health:
        """Say that it does not answer."""
        return Health(ok=False, summary="down")


async def test_rows_that_another_process_brings_are_removed_too(two: Two) -> None:
    """Who removes them has written nothing itself, and waits for what the other one has in its hands."""
    context = OpenContext("a", SQLITE.settings(), BUILTIN_KINDS, two.path)
    ours, theirs = await open_store(SQLITE, context), await open_store(SQLITE, context)
    try:
        two.a = theirs
        other = _mirrors(two, relay=QUICK)
        (row,) = await two.write(other, at=OLD, hand_on=False)
        two.gate.gate.clear()
        await other.start()
        await two.gate.entered.wait()
        two.a = ours
        mine = _mirrors(two)
        await mine.start()
        purging = asyncio.ensure_future(purge((ours, two.b), EVENTS, DEFAULT_TENANT, NOW, None, mine))
        await until(lambda: gone(ours, row))
        done, _ = await asyncio.wait((purging,), timeout=0.3)
        assert not done
        two.gate.gate.set()
        assert await purging == 1
        assert not await two.has(row)
    finally:
        two.gate.gate.set()
        for mirrors in two.made:
            await mirrors.close()
        await ours.close()
        await theirs.close()


async def gone(store: Any, row: Row) -> bool:
    """Tell whether a store has lost a row."""
    (found,) = await store.get(row.kind, row.tenant, (row.key,))
    return found is None
