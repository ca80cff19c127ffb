"""Lanes: group commit, order, bounds, cancellation. What goes on to mirrors is in test_lanes_mirrors.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from gateway.backend import KeyRef, Update
from gateway.errors import (
    GatewayClosedError,
    InvalidRecordError,
    QueueFullError,
    StoreBusyError,
    StoreUnavailableError,
    WriteRejectedError,
)
from gateway.lanes.lane import Lane
from gateway.lanes.outcomes import FullPolicy, LaneOptions
from gateway.records import POSITIONS, TRADES, Position, Row, Trade
from gateway.records.stamp import DEFAULT_TENANT, Stamper

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, tzinfo=UTC)
Open = Callable[[str], Awaitable[tuple[Any, Any]]]
STAMPER = Stamper()


def trade(at: int = 0) -> Row:
    """Return the row of a trade."""
    return STAMPER.stamp(
        TRADES,
        Trade(
            timestamp=NOW,
            market_name=f"M{at}",
            action="buy",
            side="YES",
            price=Decimal(1),
            amount=Decimal(1),
        ),
    )


def position(price: int) -> Row:
    """Return the row of a position in one market."""
    return STAMPER.stamp(
        POSITIONS, Position(condition_id="c", side="YES", entry_price=Decimal(price), opened_at=NOW)
    )


async def test_a_lone_write_is_committed_at_once(open_gated: Open) -> None:
    """One write makes one batch of one row and needs no timer."""
    store, backend = await open_gated("a")
    lane = Lane(store)
    await lane.write((trade(),))
    assert backend.batches == [1]
    assert lane.counters() == {"depth": 0, "batches": 1, "rows": 1, "failed": 0}
    await lane.close()


async def test_what_queues_up_during_a_commit_is_committed_together(open_gated: Open) -> None:
    """Writes that arrive while a commit runs share the next one."""
    store, backend = await open_gated("a")
    lane = Lane(store)
    backend.gate.clear()
    first = asyncio.create_task(lane.write((trade(),)))
    await backend.entered.wait()
    others = [asyncio.create_task(lane.write((trade(at),))) for at in range(20)]
    await asyncio.sleep(0)
    backend.gate.set()
    await asyncio.gather(first, *others)
    assert backend.batches == [1, 20]
    await lane.close()


async def test_a_batch_is_bounded_and_order_is_kept(open_gated: Open) -> None:
    """No commit takes more rows than the bound, and rows of one key arrive in the order they were submitted."""
    store, backend = await open_gated("a")
    lane = Lane(store, LaneOptions(batch=7))
    backend.gate.clear()
    writes = [asyncio.create_task(lane.write((position(price),))) for price in range(1, 31)]
    await backend.entered.wait()
    backend.gate.set()
    outcomes = await asyncio.gather(*writes)
    assert max(backend.batches) == 7
    assert all(outcome.superseded == 0 for outcome in outcomes)
    (row,) = await store.get(POSITIONS, DEFAULT_TENANT, (("c",),))
    assert row is not None
    assert dict(row.record())["entry_price"] == 30
    await lane.close()


async def test_a_full_lane_makes_callers_wait_in_order(open_gated: Open) -> None:
    """With policy block, never more rows than the bound are under way, and all are written at last."""
    store, backend = await open_gated("a")
    lane = Lane(store, LaneOptions(rows=4))
    backend.gate.clear()
    writes = [asyncio.create_task(lane.write((trade(at),))) for at in range(20)]
    await backend.entered.wait()
    await asyncio.sleep(0)
    assert lane.depth == 4
    backend.gate.set()
    await asyncio.gather(*writes)
    assert lane.counters()["rows"] == 20
    await lane.close()


async def test_a_full_lane_can_refuse(open_gated: Open) -> None:
    """With policy refuse, the write beyond the bound raises and says what to do; the others are written."""
    store, backend = await open_gated("a")
    lane = Lane(store, LaneOptions(rows=2, policy=FullPolicy.REFUSE))
    backend.gate.clear()
    accepted = [asyncio.create_task(lane.write((trade(at),))) for at in range(2)]
    await backend.entered.wait()
    with pytest.raises(QueueFullError, match="STORAGE_LANE_ROWS"):
        await lane.write((trade(),))
    backend.gate.set()
    await asyncio.gather(*accepted)
    await lane.close()


async def test_a_cancelled_waiter_gives_its_turn_to_the_next(open_gated: Open) -> None:
    """A caller that gives up while the lane is full does not stop those behind it."""
    store, backend = await open_gated("a")
    lane = Lane(store, LaneOptions(rows=1))
    backend.gate.clear()
    first = asyncio.create_task(lane.write((trade(),)))
    await backend.entered.wait()
    leaver, stayer = (asyncio.create_task(lane.write((trade(),))) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    backend.gate.set()
    await asyncio.gather(first, stayer)
    assert lane.counters()["rows"] == 2
    await lane.close()


async def test_a_caller_cancelled_before_its_batch_writes_nothing(open_gated: Open) -> None:
    """A queued write whose caller left is not committed."""
    store, backend = await open_gated("a")
    lane = Lane(store)
    backend.gate.clear()
    first = asyncio.create_task(lane.write((trade(),)))
    await backend.entered.wait()
    row = trade()
    second = asyncio.create_task(lane.write((row,)))
    await asyncio.sleep(0)
    second.cancel()
    backend.gate.set()
    await first
    await lane.barrier()
    assert await store.get(TRADES, DEFAULT_TENANT, (row.key,)) == [None]
    await lane.close()


async def test_one_bad_row_does_not_fail_its_neighbours(open_gated: Open) -> None:
    """When a store refuses one row of a batch, only its caller hears of it."""
    store, backend = await open_gated("a")
    lane = Lane(store)
    backend.gate.clear()
    first = asyncio.create_task(lane.write((trade(),)))
    await backend.entered.wait()

    def refuse(_: object) -> list[Row]:
        raise InvalidRecordError("not like this")

    good = [asyncio.create_task(lane.write((trade(at),))) for at in range(5)]
    bad = asyncio.create_task(lane.write((Update(DEFAULT_TENANT, (KeyRef(POSITIONS, ("c",)),), refuse),)))
    backend.gate.set()
    await asyncio.gather(first, *good)
    with pytest.raises(InvalidRecordError, match="not like this"):
        await bad
    await lane.close()


async def test_a_rejected_batch_is_taken_apart(open_gated: Open) -> None:
    """A rejection of the batch is followed by a try of each write."""
    store, backend = await open_gated("a")
    lane = Lane(store)
    backend.gate.clear()
    first = asyncio.create_task(lane.write((trade(),)))
    await backend.entered.wait()
    rest = [asyncio.create_task(lane.write((trade(at),))) for at in range(3)]
    await asyncio.sleep(0)
    backend.faults = [None, WriteRejectedError("a row is too long")]
    backend.gate.set()
    await asyncio.gather(first, *rest)
    assert backend.batches == [1, 3, 1, 1, 1]
    await lane.close()


async def test_a_passing_fault_is_tried_again(open_gated: Open) -> None:
    """A transient failure costs time, not the write."""
    store, backend = await open_gated("a")
    lane = Lane(store, LaneOptions(retry=5))
    backend.faults += [StoreBusyError("busy"), StoreUnavailableError("restarting")]
    row = trade()
    await lane.write((row,))
    assert backend.batches == [1, 1, 1]
    assert await store.get(TRADES, DEFAULT_TENANT, (row.key,)) == [row]
    await lane.close()


async def test_trying_again_ends(open_gated: Open) -> None:
    """A store that stays down is reported with its own error, once the time for retries is over."""
    store, backend = await open_gated("a")
    lane = Lane(store, LaneOptions(retry=0))
    backend.faults.append(StoreUnavailableError("down"))
    with pytest.raises(StoreUnavailableError, match="a: down"):
        await lane.write((trade(),))
    assert lane.counters()["failed"] == 1
    await lane.close()


async def test_closing_finishes_what_is_queued_and_refuses_the_rest(open_gated: Open) -> None:
    """Close waits for queued writes; later ones raise and write nothing."""
    store, backend = await open_gated("a")
    lane = Lane(store)
    writes = [asyncio.create_task(lane.write((trade(at),))) for at in range(10)]
    await asyncio.sleep(0)
    await lane.close()
    await asyncio.gather(*writes)
    with pytest.raises(GatewayClosedError):
        await lane.write((trade(),))
    assert sum(backend.batches) == 10


async def test_nobody_waits_for_ever_on_a_closed_lane(open_gated: Open) -> None:
    """Writers that go on while a lane is closed all learn that it is closed."""
    store, _ = await open_gated("a")
    lane = Lane(store, LaneOptions(rows=3))

    async def work() -> int:
        count = 0
        while True:
            try:
                await lane.write((trade(count),))
            except GatewayClosedError:
                return count
            count += 1
            await asyncio.sleep(0)

    workers = [asyncio.create_task(work()) for _ in range(16)]
    for _ in range(20):
        await asyncio.sleep(0)
    await lane.close()
    async with asyncio.timeout(10):
        counts = await asyncio.gather(*workers)
    assert sum(counts) == lane.counters()["rows"]


async def test_each_caller_gets_an_error_of_its_own(open_gated: Open) -> None:
    """What one caller of a failed batch notes on its error does not appear on another's."""
    store, backend = await open_gated("a")
    lane = Lane(store, LaneOptions(retry=0))
    backend.gate.clear()
    first = asyncio.create_task(lane.write((trade(),)))
    await backend.entered.wait()
    rest = [asyncio.create_task(lane.write((trade(at),))) for at in range(3)]
    await asyncio.sleep(0)
    backend.faults = [None, StoreUnavailableError("down")]
    backend.gate.set()
    await first
    errors = await asyncio.gather(*rest, return_exceptions=True)
    assert [str(error) for error in errors] == ["a: down"] * 3
    assert len({id(error) for error in errors}) == 3
    await lane.close()
