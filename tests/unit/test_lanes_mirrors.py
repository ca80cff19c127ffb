"""Lanes with mirrors: what waits for them, what does not, and what is left behind for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gateway.backend import Group, KeyRef, Update
from gateway.errors import GatewayClosedError, StoreFullError, StoreUnavailableError, WriteRejectedError
from gateway.lanes.lane import Lane, close_lanes
from gateway.lanes.outcomes import Computed, LaneOptions
from gateway.records import POSITIONS, TRADES, Position, Row, Trade
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from tests.mirrors import Rig

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, tzinfo=UTC)
Open = Callable[[str], Awaitable[tuple[Any, Any]]]
STAMPER = Stamper()
REF = KeyRef(POSITIONS, ("c",))


def trade(at: int = 0) -> Row:
    """Return the row of a trade."""
    record = Trade(
        timestamp=NOW, market_name=f"M{at}", action="buy", side="YES", price=Decimal(1), amount=Decimal(1)
    )
    return STAMPER.stamp(TRADES, record)


def position(price: int) -> Row:
    """Return the row of a position in one market."""
    record = Position(condition_id="c", side="YES", entry_price=Decimal(price), opened_at=NOW)
    return STAMPER.stamp(POSITIONS, record)


class Two:
    """A primary `a` and its mirror `b`, with a lane for the primary and a feed between them."""

    def __init__(self, primary: Any, gate: Any, mirror: Any, other: Any, options: LaneOptions | None) -> None:
        self.primary, self.gate = primary, gate
        self.mirror, self.other = mirror, other
        self.rig = Rig({"a": primary, "b": mirror})
        self.lane = Lane(self.rig.journaled(primary), options, mirrors=self.rig)
        self.way = self.rig.way("a", "b")
        self.sync = self.rig.way("a", "b", waits=True)
        self.quiet = self.rig.way("a", "b", waits=True, reports=False)

    async def pending(self) -> int:
        """Return how many intents are left for the mirror."""
        return len(await self.rig.journals["a"].pending("b", DEFAULT_TENANT, 1_000))

    async def flushed(self) -> None:
        """Wait until the feed has nothing left."""
        await self.rig.feeds["a", "b"].flush()

    async def mirrored(self, row: Row) -> bool:
        """Tell whether the mirror has a row."""
        found: list[Row | None] = await self.mirror.get(row.kind, DEFAULT_TENANT, (row.key,))
        return found == [row]


@pytest.fixture
async def two(open_gated: Open) -> AsyncIterator[Two]:
    """Open a primary and a mirror."""
    found = Two(*(await open_gated("a")), *(await open_gated("b")), LaneOptions(retry=0))
    yield found
    await found.lane.close()
    await found.rig.close()


async def test_nobody_waits_for_a_journaled_mirror(two: Two) -> None:
    """The write returns while the mirror hangs; the mirror gets the row once it goes on, and the intent is gone."""
    two.other.gate.clear()
    row = trade()
    outcome = await two.lane.write((row,), two.way)
    assert outcome.mirrored == ()
    assert await two.pending() == 1
    two.other.gate.set()
    await two.flushed()
    assert await two.mirrored(row)
    assert await two.pending() == 0


async def test_many_commits_make_few_writes_to_the_mirror(two: Two) -> None:
    """The feed gathers what is committed while the mirror is busy, and writes it at once."""
    two.other.gate.clear()
    await asyncio.gather(*(two.lane.write((trade(at),), two.way) for at in range(300)))
    for at in range(20):
        await two.lane.write((trade(at),), two.way)
    two.other.gate.set()
    await two.flushed()
    assert sum(two.other.batches) == 320
    assert len(two.other.batches) <= 4


async def test_the_caller_waits_for_both_stores_in_sync(two: Two) -> None:
    """With a way that waits, the write returns only after the mirror committed, and says so."""
    two.other.gate.clear()
    write = asyncio.create_task(two.lane.write((trade(),), two.sync))
    await two.other.entered.wait()
    assert not write.done()
    two.other.gate.set()
    assert (await write).mirrored == ("b",)


async def test_a_mirror_failure_is_part_of_the_outcome_in_sync(two: Two) -> None:
    """The primary keeps the row, the outcome names the mirror and its error, and the intent stays for the relay."""
    two.other.faults.append(StoreFullError("no space left"))
    row = trade()
    outcome = await two.lane.write((row,), two.sync)
    assert outcome.mirrored == ()
    assert isinstance(outcome.failures["b"], StoreFullError)
    assert await two.primary.get(TRADES, DEFAULT_TENANT, (row.key,)) == [row]
    assert await two.pending() == 1
    await two.rig.drain()
    assert await two.mirrored(row)


async def test_who_waits_quietly_hears_of_no_failure(two: Two) -> None:
    """While routes are about to change, callers wait for the mirror, but its failure is not theirs."""
    two.other.faults.append(StoreFullError("no space left"))
    outcome = await two.lane.write((trade(),), two.quiet)
    assert outcome.failures == {}
    assert outcome.mirrored == ()
    assert await two.pending() == 1


async def test_who_waits_quietly_can_be_let_go(two: Two) -> None:
    """When waiting has taken too long, the callers go on, and a late mirror does no harm."""
    two.other.gate.clear()
    writes = [asyncio.create_task(two.lane.write((trade(at),), two.quiet)) for at in range(3)]
    await two.other.entered.wait()
    two.lane.wait_no_longer()
    for outcome in await asyncio.gather(*writes):
        assert outcome.mirrored == ()
    two.other.gate.set()
    await two.flushed()
    assert await two.pending() == 0


async def test_only_the_caller_of_a_refused_row_hears_of_it(two: Two) -> None:
    """In sync, a row that the mirror refuses fails its own write; its neighbours are mirrored."""
    bad = trade(99)
    two.other.refuses = {bad.key}
    rows = [trade(at) for at in range(5)]
    outcomes = await asyncio.gather(*(two.lane.write((row,), two.sync) for row in (*rows, bad)))
    assert [outcome.mirrored for outcome in outcomes] == [("b",)] * 5 + [()]
    assert isinstance(outcomes[-1].failures["b"], WriteRejectedError)
    await two.flushed()
    assert await two.pending() == 1


async def test_a_primary_failure_reaches_the_caller_and_no_mirror(two: Two) -> None:
    """What the primary refused is not handed on, and leaves no intent."""
    two.gate.faults.append(StoreFullError("no space left"))
    with pytest.raises(StoreFullError, match="a: no space left"):
        await two.lane.write((trade(),), two.way)
    await two.flushed()
    assert two.other.batches == []
    assert await two.pending() == 0


async def test_an_unknown_outcome_leaves_the_intent(two: Two) -> None:
    """If it is not known what the primary did, the intent stays: the row may be there."""
    row = trade()
    two.gate.late_faults.append(StoreUnavailableError("gone"))
    with pytest.raises(StoreUnavailableError):
        await two.lane.write((row,), two.way)
    assert await two.pending() == 1
    await two.rig.drain()
    assert await two.mirrored(row)


async def test_a_caller_cancelled_during_the_commit_leaves_no_mirror_behind(two: Two) -> None:
    """What the primary commits reaches the mirror even if the caller is gone."""
    two.gate.gate.clear()
    queued = trade()
    alone = asyncio.create_task(two.lane.write((trade(),), two.way))
    await two.gate.entered.wait()
    write = asyncio.create_task(two.lane.write((queued,), two.sync))
    await asyncio.sleep(0)
    two.gate.entered.clear()
    two.gate.gate.set()
    await alone
    two.gate.gate.clear()
    await two.gate.entered.wait()
    write.cancel()
    two.gate.gate.set()
    await two.lane.barrier()
    await two.rig.drain()
    assert await two.mirrored(queued)


async def test_a_lone_caller_cancelled_during_the_commit_leaves_no_mirror_behind(two: Two) -> None:
    """A caller that commits in its own task takes the commit along when it is cancelled, or leaves the intent."""
    row = trade()
    two.gate.linger = asyncio.Event()
    write = asyncio.create_task(two.lane.write((row,), two.way))
    await two.gate.stored.wait()
    write.cancel()
    await asyncio.gather(write, return_exceptions=True)
    two.gate.linger = None
    assert await two.primary.get(TRADES, DEFAULT_TENANT, (row.key,)) == [row]
    await two.rig.drain()
    assert await two.mirrored(row)


async def test_the_result_of_an_update_is_what_the_mirror_gets(two: Two) -> None:
    """Mirrors get the rows that an update came to, not the update; an update that wrote nothing does not reach them."""
    row = position(5)
    await two.lane.write((Update(DEFAULT_TENANT, (REF,), lambda _: (row,)),), two.way)
    await two.flushed()
    assert await two.mirrored(row)
    await two.lane.write((Update(DEFAULT_TENANT, (REF,), lambda _: ()),), two.way)
    await two.flushed()
    assert two.other.batches == [1]
    assert await two.pending() == 0


async def test_what_an_update_finds_done_still_reaches_the_mirror(two: Two) -> None:
    """After a lost answer the primary has the rows already; the repetition brings them to the mirror."""
    row = position(5)
    await two.lane.write((row,))
    update = Update(DEFAULT_TENANT, (REF,), Computed(lambda current: (current[0],)))  # type: ignore[arg-type, return-value] # the row is there
    await two.lane.write((update,), two.sync)
    assert await two.mirrored(row)


async def test_a_row_that_lost_is_left_out_and_its_intent_is_done(two: Two) -> None:
    """What lost against a newer row on the primary does not reach the mirror; the numbers of its neighbours still fit."""
    old, new = position(1), position(2)
    await two.lane.write((new,))
    first, last = trade(1), trade(2)
    outcome = await two.lane.write((first, old, Group((position(3),)), last), two.way)
    assert outcome.lost == (1,)
    await two.flushed()
    assert two.other.batches == [3]
    assert await two.mirrored(first)
    assert await two.mirrored(last)
    assert await two.pending() == 0


async def test_ways_of_one_batch_are_kept_apart(two: Two) -> None:
    """Writes with and without a mirror share a commit; the mirror gets only its own."""
    two.gate.gate.clear()
    first = asyncio.create_task(two.lane.write((trade(),)))
    await two.gate.entered.wait()
    rows = [trade(at) for at in range(9)]
    ways = (None, two.way, two.sync)
    writes = [asyncio.create_task(two.lane.write((row,), ways[at % 3])) for at, row in enumerate(rows)]
    await asyncio.sleep(0)
    two.gate.gate.set()
    await asyncio.gather(first, *writes)
    await two.flushed()
    assert two.gate.batches == [1, 9]
    assert [await two.mirrored(row) for row in rows] == [False, True, True] * 3
    assert await two.pending() == 0


async def test_a_barrier_waits_for_mirrors_only_where_callers_do(two: Two) -> None:
    """A barrier falls when earlier writes are through all stores that their callers wait for."""
    two.other.gate.clear()
    early = asyncio.create_task(two.lane.write((trade(),), two.sync))
    await two.other.entered.wait()
    barrier = asyncio.create_task(two.lane.barrier())
    await asyncio.sleep(0)
    for at in range(5):
        await two.lane.write((trade(at),), two.way)
    assert not barrier.done()
    two.other.gate.set()
    await early
    await barrier


async def test_lanes_that_mirror_each_other_close_in_any_order(open_gated: Open) -> None:
    """Closing while both stores have writes under way finishes all of them, whichever lane is closed first."""
    (first, gated), (second, _) = await open_gated("a"), await open_gated("b")
    rig = Rig({"a": first, "b": second})
    lanes = [Lane(rig.journaled(store), mirrors=rig) for store in (first, second)]
    gated.gate.clear()
    way = rig.way("b", "a", waits=True)
    writes = [asyncio.create_task(lanes[1].write((trade(at),), way)) for at in range(10)]
    await gated.entered.wait()
    closing = asyncio.create_task(close_lanes(lanes))
    await asyncio.sleep(0)
    gated.gate.set()
    await closing
    assert {outcome.mirrored for outcome in await asyncio.gather(*writes)} == {("a",)}
    await rig.close()


async def test_a_mirror_that_was_given_up_gets_no_intents(two: Two) -> None:
    """By policy nothing more is noted; what the mirror can take it still gets."""
    two.rig.given_up = frozenset({"b"})
    two.other.gate.clear()
    row = trade()
    await two.lane.write((row,), two.way)
    assert await two.pending() == 0
    two.other.gate.set()
    await two.flushed()
    assert await two.mirrored(row)


async def test_who_waits_for_a_paused_mirror_hears_why(two: Two) -> None:
    """In sync, a mirror held back by an operator is a failure that says so; the intent stays."""
    two.rig.feeds["a", "b"].pause("by ann, maintenance")
    outcome = await two.lane.write((trade(),), two.sync)
    assert "by ann, maintenance" in str(outcome.failures["b"])
    assert await two.pending() == 1


async def test_who_waits_for_a_mirror_is_let_go_when_it_closes(two: Two) -> None:
    """A feed that closes in the middle tells everybody who waits; nobody hangs."""
    two.other.gate.clear()
    writes = [asyncio.create_task(two.lane.write((trade(at),), two.sync)) for at in range(3)]
    await two.other.entered.wait()
    await two.rig.close(deadline=0.01)
    for outcome in await asyncio.gather(*writes):
        assert isinstance(outcome.failures["b"], GatewayClosedError)
    assert await two.pending() == 3
