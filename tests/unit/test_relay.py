"""Relays and feeds together: outages, poison, closing, several processes, and everything at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backend import Group, WriteBatch
from gateway.engine.purging import purge
from gateway.errors import StoreFullError, StoreUnavailableError
from gateway.intents import Intent, Journaling, Stretch
from gateway.journal.notes import notes_of
from gateway.lanes.lane import Lane
from gateway.lanes.outcomes import LaneOptions
from gateway.mirror.contract import Claim, FeedOptions, Pair, RelayOptions
from gateway.mirror.replay import Page, onward, page_of
from gateway.query import Query
from gateway.records import POSITIONS, TRADES, Position, Row, Trade
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from gateway.records.version import MAX_VERSION
from tests.mirrors import QUICK_RELAY, Rig

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, tzinfo=UTC)
Open = Callable[[str], Awaitable[tuple[Any, Any]]]
STAMPER = Stamper()
ALL = Query(TRADES, DEFAULT_TENANT, limit=10_000)


def trade(at: int = 0) -> Row:
    """Return the row of a trade."""
    record = Trade(
        timestamp=NOW, market_name=f"M{at}", action="buy", side="YES", price=Decimal(1), amount=Decimal(1)
    )
    return STAMPER.stamp(TRADES, record)


def position(key: str, price: int) -> Row:
    """Return the row of a position."""
    record = Position(condition_id=key, side="YES", entry_price=Decimal(price), opened_at=NOW)
    return STAMPER.stamp(POSITIONS, record)


class Two:
    """A primary `a` and its mirror `b`."""

    def __init__(self, primary: Any, gate: Any, mirror: Any, other: Any) -> None:
        self.primary, self.gate = primary, gate
        self.mirror, self.other = mirror, other
        self.rig = Rig({"a": primary, "b": mirror})
        self.lane = self.lane_of(self.rig)
        self.way = self.rig.way("a", "b")

    def lane_of(self, rig: Rig) -> Lane:
        """Return a lane of the primary, as a gateway of its own would have."""
        return Lane(rig.journaled(self.primary), LaneOptions(retry=0), mirrors=rig)

    @property
    def relay(self) -> Any:
        """The relay from a to b."""
        return self.rig.relays["a", "b"]

    @property
    def feed(self) -> Any:
        """The feed from a to b."""
        return self.rig.feeds["a", "b"]

    async def pending(self) -> list[Intent]:
        """Return what is left for the mirror."""
        return list(await self.rig.journals["a"].pending("b", DEFAULT_TENANT, 10_000))

    async def mirrored(self, *rows: Row) -> list[bool]:
        """Tell for each row whether the mirror has it."""
        return [await self.mirror.get(row.kind, DEFAULT_TENANT, (row.key,)) == [row] for row in rows]


@pytest.fixture
async def two(open_gated: Open) -> AsyncIterator[Two]:
    """Open a primary and a mirror."""
    found = Two(*(await open_gated("a")), *(await open_gated("b")))
    yield found
    found.other.gate.set()
    await found.lane.close()
    await found.rig.close()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once something is so."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - what is waited for happens in stores, which tell nobody
            await asyncio.sleep(0.005)


async def test_what_an_outage_left_is_replayed_by_itself(two: Two) -> None:
    """While the mirror fails, intents gather; once it is back, the relay brings it everything, and nothing is left."""
    two.other.faults = [StoreUnavailableError("down")] * 20
    two.rig.start()
    rows = [trade(at) for at in range(50)]
    for row in rows:
        await two.lane.write((row,), two.way)
    assert len(await two.pending()) > 0
    await eventually(lambda: _empty(two))
    assert all(await two.mirrored(*rows))
    assert two.relay.status().failures > 0
    await eventually(lambda: _well(two))


async def _well(two: Two) -> bool:
    """Tell whether the relay's last look went well; it ends a little after the journal is empty."""
    return two.relay.status().error is None


async def _empty(two: Two) -> bool:
    return not await two.pending()


async def test_an_open_circuit_spares_the_mirror(open_gated: Open) -> None:
    """After a failure the mirror is not tried by every write, but left alone until the pause is over."""
    (primary, _), (mirror, other) = await open_gated("a"), await open_gated("b")
    rig = Rig({"a": primary, "b": mirror}, pauses=lambda _: 3_600.0)
    lane, way = Lane(rig.journaled(primary), mirrors=rig), rig.way("a", "b")
    other.faults = [StoreUnavailableError("down")]
    for at in range(200):
        await lane.write((trade(at),), way)
        await asyncio.sleep(0)
    await rig.feeds["a", "b"].flush()
    assert len(other.batches) == 1
    assert rig.feeds["a", "b"].status().left == 200
    rig.pairs["a", "b"].circuit.succeeded()
    await rig.drain()
    assert len(await mirror.query(ALL)) == 200
    await lane.close()
    await rig.close()


async def test_the_feed_gets_through_by_itself(two: Two) -> None:
    """Without any relay, a mirror that is back is found by the next write after the pause."""
    two.other.faults = [StoreUnavailableError("down")]
    await two.lane.write((trade(),), two.way)
    await eventually(lambda: _failed(two))
    last = trade()

    async def through() -> bool:
        await two.lane.write((last,), two.way)
        await two.feed.flush()
        return bool(two.feed.answers)

    await eventually(through)
    assert await two.mirrored(last) == [True]


async def _failed(two: Two) -> bool:
    return bool(two.feed.status().failures)


async def test_the_feed_is_bounded(open_gated: Open) -> None:
    """Beyond its bound a feed takes nothing from a mirror that hangs; all of it is in the journal."""
    (primary, _), (mirror, other) = await open_gated("a"), await open_gated("b")
    rig = Rig(
        {"a": primary, "b": mirror}, feed=FeedOptions(rows=20, batch=10, linger=0.001, done_seconds=0.005)
    )
    lane, way = Lane(rig.journaled(primary), mirrors=rig), rig.way("a", "b")
    other.gate.clear()
    for at in range(500):
        await lane.write((trade(at),), way)
        await asyncio.sleep(0)
    status = rig.feeds["a", "b"].status()
    assert status.waiting <= 30
    assert status.waiting + status.left == 500
    other.gate.set()
    await rig.drain()
    assert len(await mirror.query(ALL)) == 500
    await lane.close()
    await rig.close()


async def test_a_refused_row_blocks_nobody_and_is_not_given_up(two: Two) -> None:
    """The mirror gets all rows but the refused one, which is reported, counted, kept, and stored once it is accepted."""
    rows = [trade(at) for at in range(30)]
    bad = rows[11]
    two.other.refuses = {bad.key}
    two.rig.start()
    for row in rows:
        await two.lane.write((row,), two.way)

    async def all_but_one() -> bool:
        return len(await two.pending()) == 1 and two.relay.status().refused == 1

    await eventually(all_but_one)
    assert await two.mirrored(*rows) == [row is not bad for row in rows]
    assert {(name, row.key) for name, row in two.rig.refused} == {("b", bad.key)}
    assert two.feed.answers, "one bad row is no reason to leave the mirror alone"
    two.other.refuses = set()
    await two.rig.drain()
    assert await two.mirrored(bad) == [True]


async def test_rows_are_replayed_as_they_are_by_now(two: Two) -> None:
    """An old intent brings the row's latest version, and several of one key are as good as one."""
    two.feed.pause("by a test")
    await two.lane.write((position("c", 1),), two.way)
    await two.lane.write((position("c", 2),), two.way)
    latest = position("c", 3)
    await two.primary.write(WriteBatch((latest,)))
    await two.rig.drain()
    assert await two.mirrored(latest) == [True]
    assert two.other.batches == [1]


async def test_a_purged_row_is_waited_for_where_it_may_still_come(two: Two) -> None:
    """In a journal beside the primary, an intent without a row is kept for a while: the write may be under way."""
    two.feed.pause("by a test")
    row = trade()
    await two.lane.write((row,), two.way)
    two.gate.linger = None
    await two.primary.purge(TRADES, DEFAULT_TENANT, datetime(2030, 1, 1, tzinfo=UTC))
    assert not await two.relay.drain(0.05)
    assert len(await two.pending()) == 1
    await two.primary.write(WriteBatch((row,)))
    await two.rig.drain()
    assert await two.mirrored(row) == [True]


async def test_an_intent_whose_row_never_came_is_done_after_a_while(open_gated: Open) -> None:
    """Patience ends: a write that failed without a trace leaves nothing behind for ever."""
    (primary, _), (mirror, _) = await open_gated("a"), await open_gated("b")
    rig = Rig({"a": primary, "b": mirror}, relay=RelayOptions(poll=0.01, grace=0.0, patience=0.05))
    lane = Lane(rig.journaled(primary), mirrors=rig)
    rig.feeds["a", "b"].pause("by a test")
    await lane.write((trade(),), rig.way("a", "b"))
    await primary.purge(TRADES, DEFAULT_TENANT, datetime(2030, 1, 1, tzinfo=UTC))
    await rig.drain()
    await lane.close()
    await rig.close()


async def test_a_paused_mirror_gets_nothing_until_it_is_resumed(two: Two) -> None:
    """While somebody holds a mirror back, neither feed nor relay nor drain writes to it."""
    two.feed.pause("by a test")
    two.rig.permissions["a", "b"].claimed = Claim.PAUSED
    two.rig.start()
    row = trade()
    await two.lane.write((row,), two.way)
    assert not await two.relay.drain(0.05)
    assert two.other.batches == []
    two.feed.resume()
    two.rig.permissions["a", "b"].claimed = Claim.GRANTED
    two.relay.wake()
    await eventually(lambda: _empty(two))
    assert await two.mirrored(row) == [True]


async def test_closing_with_a_dead_mirror_is_bounded(two: Two) -> None:
    """A mirror that hangs holds closing up for the bound, and what it lacks is in the journal for the next process."""
    two.other.gate.clear()
    two.rig.start()
    rows = [trade(at) for at in range(10)]
    for row in rows:
        await two.lane.write((row,), two.way)
    async with asyncio.timeout(5):
        await two.lane.close()
        await two.rig.close(deadline=0.05)
    assert len(await two.pending()) == 10
    two.other.gate.set()
    again = Rig({"a": two.primary, "b": two.mirror}, journals=two.rig.journals)
    await again.drain()
    assert all(await two.mirrored(*rows))
    await again.close()


async def test_closing_writes_what_is_in_hand(two: Two) -> None:
    """A mirror that keeps up has everything when the gateway is closed, and no intent is left."""
    rows = [trade(at) for at in range(10)]
    for row in rows:
        await two.lane.write((row,), two.way)
    await two.lane.close()
    await two.rig.close()
    assert all(await two.mirrored(*rows))
    assert await two.pending() == []


async def test_caught_up_says_what_the_mirror_has(two: Two) -> None:
    """The feed answers for what it was given and what the journal has; not for a mirror that does not answer."""
    row = trade()
    await two.lane.write((row,), two.way)
    assert await two.feed.caught_up(row.version)
    two.other.faults = [StoreFullError("no space left")]
    late = trade()
    await two.lane.write((late,), two.way)
    assert not await two.feed.caught_up(late.version)
    await two.rig.drain()
    assert await two.feed.caught_up(late.version)


async def test_a_page_never_ends_within_a_number(two: Two) -> None:
    """A step of many rows comes whole, however small the page is."""
    two.feed.pause("by a test")
    sizes = (1, 7, 2, 5, 1)
    for at, size in enumerate(sizes):
        rows = tuple(position(f"{at}.{part}", 1) for part in range(size))
        await two.lane.write((Group(rows),), two.way)
    pair, seen, after = two.rig.pairs["a", "b"], [], None
    while True:
        page = await page_of(pair, 3, after)
        for number in {one.number for one in page.intents}:
            parts = [one.part for one in page.intents if one.number == number]
            assert parts == list(range(sizes[number - 1]))
            seen.append(number)
        after = page.last
        if after is None:
            break
    assert sorted(seen) == [1, 2, 3, 4, 5]


async def test_what_is_due_does_not_wait_for_writers_to_pause(
    open_gated: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bots that write faster than the relay reads pages do not keep it busy with what is not due yet."""
    two = Two(*(await open_gated("a")), *(await open_gated("b")))
    two.rig = Rig(
        {"a": two.primary, "b": two.mirror}, relay=RelayOptions(poll=0.001, grace=0.0, batch=1, parallel=1)
    )
    two.lane, two.way = two.lane_of(two.rig), two.rig.way("a", "b")
    two.feed.pause("by a test")
    rows: list[Row] = []

    async def page(pair: Pair, limit: int, after: Stretch | None) -> Page:
        """Let bots write while a page is read, more than it holds, without end."""
        for _ in range(3):
            rows.append(trade(len(rows)))
            await two.lane.write((rows[-1],), two.way)
        return await page_of(pair, limit, after)

    await two.lane.write((trade(-1),), two.way)
    monkeypatch.setattr("gateway.mirror.relay.page_of", page)
    two.rig.start()
    await eventually(lambda: _first(two, rows, 20))
    await two.lane.close()
    await two.rig.close()


async def _first(two: Two, rows: list[Row], count: int) -> bool:
    return len(rows) >= count and all(await two.mirrored(*rows[:count]))


@given(
    versions=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    owners=st.lists(st.sampled_from("ab"), min_size=6, max_size=6),
    before=st.none() | st.integers(0, 20),
    ends=st.booleans(),
)
def test_only_what_was_written_later_is_passed_over(
    versions: list[int], owners: list[str], before: int | None, ends: bool
) -> None:
    """A round goes on behind the page, or behind an owner of whom it saw a whole page that is not due."""
    numbered = zip(sorted(owners[: len(versions)]), versions, strict=True)
    page = [
        Intent(owner, at, 0, TRADES, DEFAULT_TENANT, (f"{at}",), version, "")
        for at, (owner, version) in enumerate(numbered)
    ]
    last = None if ends else Stretch(page[-1].owner, page[-1].number, page[-1].number)
    found = onward(Page(page, last), before)
    late = before is not None and min(versions) >= before and len({one.owner for one in page}) == 1
    assert (found is None) == ends
    if last is not None and found is not None:
        assert found.owner == last.owner
        assert (found.last == MAX_VERSION) == late
        assert late or found == last


async def test_an_acknowledgement_that_fails_is_made_up_for(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the journal cannot be told that rows are done, it is told later; the mirror gets nothing twice."""
    journal = two.rig.journals["a"]
    acknowledge, fails = journal.acknowledge, [True, True]

    async def flaky(target: str, tenant: str, done: Any) -> int:
        if fails:
            fails.pop()
            raise StoreUnavailableError("down")
        return await acknowledge(target, tenant, done)

    monkeypatch.setattr(journal, "acknowledge", flaky)
    for at in range(5):
        await two.lane.write((trade(at),), two.way)
    await eventually(lambda: _empty(two))
    assert sum(two.other.batches) == 5


async def test_two_gateways_replay_one_journal(two: Two) -> None:
    """Two processes write along the same way and both relay: everything arrives, whoever does it."""
    other = Rig({"a": two.primary, "b": two.mirror}, journals=two.rig.journals)
    lanes = (two.lane, two.lane_of(other))
    ways = (two.way, other.way("a", "b"))
    two.other.faults = [StoreUnavailableError("down") if at % 3 else None for at in range(30)]
    two.rig.start()
    other.start()
    rows = [trade(at) for at in range(100)]
    await asyncio.gather(*(lanes[at % 2].write((row,), ways[at % 2]) for at, row in enumerate(rows)))
    await eventually(lambda: _empty(two))
    assert all(await two.mirrored(*rows))
    await lanes[1].close()
    await other.close()


async def test_a_relay_survives_what_it_does_not_know(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody foresaw is noted and logged, and the relay goes on."""
    journal = two.rig.journals["a"]
    pending, fails = journal.pending, [True]

    async def broken(*arguments: Any, **named: Any) -> Any:
        if fails:
            fails.pop()
            raise RuntimeError("who would have thought")
        return await pending(*arguments, **named)

    monkeypatch.setattr(journal, "pending", broken)
    two.feed.pause("by a test")
    row = trade()
    await two.lane.write((row,), two.way)
    two.rig.start()
    await eventually(lambda: _arrived(two, row))
    assert two.relay.status().failures == 1


async def _arrived(two: Two, row: Row) -> bool:
    return (await two.mirrored(row))[0]


def test_the_defaults_leave_fresh_rows_to_the_feed() -> None:
    """The relay's grace is longer than a feed lingers and acknowledges, so that nothing is done twice in good times."""
    feed, relay = FeedOptions(), RelayOptions()
    assert relay.grace > 3 * (feed.linger + feed.done_seconds)
    assert QUICK_RELAY.grace == 0


async def test_what_failed_of_a_page_stays_and_the_rest_is_done(open_gated: Open) -> None:
    """When one of several batches under way fails, only its own intents are left."""
    (primary, _), (mirror, other) = await open_gated("a"), await open_gated("b")
    options = RelayOptions(poll=60, grace=0.0, batch=3, parallel=2)
    rig = Rig({"a": primary, "b": mirror}, relay=options, pauses=lambda _: 3_600.0)
    lane = Lane(rig.journaled(primary), mirrors=rig)
    rig.feeds["a", "b"].pause("by a test")
    rows = [trade(at) for at in range(6)]
    await lane.write(rows, rig.way("a", "b"))
    other.faults = [None, StoreUnavailableError("down")]
    assert not await rig.relays["a", "b"].drain(0.1)
    left = await rig.journals["a"].pending("b", DEFAULT_TENANT, 100)
    missing = [row.key for row in rows if (await mirror.get(TRADES, DEFAULT_TENANT, (row.key,)))[0] is None]
    assert len(missing) == 3
    assert [intent.key for intent in left] == missing
    await lane.close()
    await rig.close()


async def test_a_dead_owners_intent_without_a_row_is_done_where_nobody_else_writes(open_gated: Open) -> None:
    """Who alone writes a primary knows that a row which another process announced and did not write never comes."""
    (primary, _), (mirror, _) = await open_gated("a"), await open_gated("b")
    dead = Rig({"a": primary, "b": mirror})
    row = trade()
    numbers = dead.numbers.take(1)
    await dead.journals["a"].note(notes_of((row,), Journaling(dead.numbers.owner, numbers, [("b",)])))
    await dead.close()
    for exclusive in (False, True):
        rig = Rig({"a": primary, "b": mirror}, journals=dead.journals, exclusive=exclusive)
        assert await rig.relays["a", "b"].drain(0.1 if not exclusive else 10) == exclusive
        await rig.close()


@pytest.mark.parametrize("by", ["feed", "relay"])
async def test_what_was_purged_while_on_its_way_does_not_come_back(two: Two, by: str) -> None:
    """A purge waits for rows that a feed or a relay's batch already has, and removes them from the mirror too."""
    if by == "relay":
        two.feed.pause("to leave it to the relay")
    two.other.gate.clear()
    for row in [trade(at) for at in range(30)]:
        await two.lane.write((row,), two.way)
    draining = asyncio.create_task(two.relay.drain(10) if by == "relay" else two.feed.flush())
    async with asyncio.timeout(10):
        await two.other.entered.wait()
    purging = asyncio.create_task(
        purge(
            [two.primary, two.mirror], TRADES, DEFAULT_TENANT, datetime(2030, 1, 1, tzinfo=UTC), None, two.rig
        )
    )
    await eventually(lambda: _purged(two))
    assert not purging.done()
    two.other.gate.set()
    assert await purging == 30
    await draining
    await two.rig.drain()
    for store in (two.primary, two.mirror):
        assert list(await store.query(ALL)) == []
    assert await two.pending() == []


async def _purged(two: Two) -> bool:
    return not await two.primary.query(ALL)
