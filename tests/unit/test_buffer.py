"""The buffer: by count, by time, on close, bounded, and nothing lost on failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from gateway.answers import Ack
from gateway.buffer import Buffer, BufferOptions
from gateway.errors import GatewayClosedError, MirrorWriteError, QueueFullError, StoreUnavailableError
from gateway.lanes.outcomes import FullPolicy
from gateway.records import ORDER_BOOK_SNAPSHOTS, OrderBookSnapshot, Row
from gateway.records.stamp import Stamper

pytestmark = pytest.mark.anyio
STAMPER = Stamper()


class Sink:
    """Takes batches, waits for its gate, fails when told to."""

    def __init__(self) -> None:
        self.batches: list[list[Row]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.down = False
        self.got = asyncio.Event()

    async def __call__(self, rows: Sequence[Row]) -> None:
        """Take a batch."""
        await self.gate.wait()
        self.got.set()
        if self.down:
            raise StoreUnavailableError("down")
        self.batches.append(list(rows))

    @property
    def rows(self) -> list[Row]:
        """Everything taken, in order."""
        return [row for batch in self.batches for row in batch]


def snapshot() -> Row:
    """Return the row of a snapshot."""
    return STAMPER.stamp(
        ORDER_BOOK_SNAPSHOTS, OrderBookSnapshot(timestamp=datetime.now(UTC), condition_id="c")
    )


async def test_a_hundred_rows_are_written_without_waiting_for_the_time() -> None:
    """Reaching the count starts the write."""
    sink = Sink()
    buffer = Buffer(sink, BufferOptions(rows=100, seconds=3600))
    rows = [snapshot() for _ in range(100)]
    for row in rows:
        await buffer.add(row)
    await sink.got.wait()
    assert sink.batches == [rows]
    await buffer.close()


async def test_few_rows_are_written_after_the_time() -> None:
    """A single row does not wait for company longer than the time."""
    sink = Sink()
    buffer = Buffer(sink, BufferOptions(rows=100, seconds=0.02))
    row = snapshot()
    await buffer.add(row)
    assert sink.batches == []
    await asyncio.wait_for(sink.got.wait(), 5)
    assert sink.batches == [[row]]
    await buffer.close()


async def test_close_writes_what_is_left() -> None:
    """Nothing that was added before close is lost."""
    sink = Sink()
    buffer = Buffer(sink, BufferOptions(rows=100, seconds=3600))
    rows = [snapshot() for _ in range(30)]
    for row in rows:
        await buffer.add(row)
    await buffer.close()
    assert sink.rows == rows


async def test_flush_counts_and_empties() -> None:
    """Flush writes all that was buffered and says how many rows that were."""
    sink = Sink()
    buffer = Buffer(sink, BufferOptions(rows=1000, seconds=3600))
    for _ in range(7):
        await buffer.add(snapshot())
    assert await buffer.flush() == 7
    assert await buffer.flush() == 0
    assert buffer.counters() == {"buffered": 0, "flushed": 7, "failures": 0, "unmirrored": 0}
    await buffer.close()


async def test_a_refused_batch_stays_in_order_and_is_written_later() -> None:
    """While the store is down the rows stay; flush raises; afterwards they arrive once, in order."""
    sink = Sink()
    sink.down = True
    buffer = Buffer(sink, BufferOptions(rows=10, seconds=0.01))
    rows = [snapshot() for _ in range(25)]
    for row in rows:
        await buffer.add(row)
    await sink.got.wait()
    with pytest.raises(StoreUnavailableError):
        await buffer.flush()
    assert len(buffer) == 25
    sink.down = False
    await buffer.flush()
    assert sink.rows == rows
    await buffer.close()


async def test_a_failed_batch_is_tried_again_by_itself() -> None:
    """Without anybody calling flush, buffered rows arrive once the store is back."""
    sink = Sink()
    sink.down = True
    buffer = Buffer(sink, BufferOptions(rows=2, seconds=0.01))
    rows = [snapshot(), snapshot()]
    for row in rows:
        await buffer.add(row)
    await sink.got.wait()
    sink.down = False
    sink.got.clear()
    await asyncio.wait_for(sink.got.wait(), 10)
    assert sink.rows == rows
    assert buffer.counters()["failures"] == 1
    await buffer.close()


async def test_a_full_buffer_waits() -> None:
    """With policy block, the buffer never holds more than its capacity, and every row arrives."""
    sink = Sink()
    sink.gate.clear()
    buffer = Buffer(sink, BufferOptions(rows=5, seconds=3600, capacity=20))
    highest = 0

    async def add_many() -> None:
        nonlocal highest
        for _ in range(200):
            await buffer.add(snapshot())
            highest = max(highest, len(buffer))

    adding = asyncio.create_task(add_many())
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(buffer) == 20
    assert not adding.done()
    sink.gate.set()
    await adding
    await buffer.close()
    assert highest == 20
    assert len(sink.rows) == 200


async def test_a_full_buffer_can_refuse() -> None:
    """With policy refuse, the row beyond the capacity raises and says what to do; the others arrive."""
    sink = Sink()
    sink.gate.clear()
    buffer = Buffer(sink, BufferOptions(rows=5, seconds=3600, capacity=10, policy=FullPolicy.REFUSE))
    for _ in range(10):
        await buffer.add(snapshot())
    with pytest.raises(QueueFullError, match="STORAGE_BUFFER_CAPACITY"):
        await buffer.add(snapshot())
    sink.gate.set()
    await buffer.close()
    assert len(sink.rows) == 10


async def test_close_says_what_is_lost() -> None:
    """If the store stays down, close raises and names the number of rows lost."""
    sink = Sink()
    sink.down = True
    buffer = Buffer(sink, BufferOptions(rows=100, seconds=3600))
    for _ in range(3):
        await buffer.add(snapshot())
    with pytest.raises(StoreUnavailableError) as caught:
        await buffer.close()
    assert caught.value.__notes__ == ["3 buffered rows could not be written before closing and are lost"]


async def test_rows_that_only_a_mirror_lacks_leave_the_buffer() -> None:
    """The primary has them, so the bot goes on; they are counted, and nothing is called lost."""
    sink = Sink()

    async def write(rows: Sequence[Row]) -> None:
        await sink(rows)
        raise MirrorWriteError(
            Ack("order_book_snapshots", (), None, 1, "old"), {"new": StoreUnavailableError("down")}
        )

    buffer = Buffer(write, BufferOptions(rows=100, seconds=3600))
    for _ in range(5):
        await buffer.add(snapshot())
    with pytest.raises(MirrorWriteError):
        await buffer.flush()
    assert buffer.counters() == {"buffered": 0, "flushed": 5, "failures": 0, "unmirrored": 5}
    await buffer.add(snapshot())
    with pytest.raises(MirrorWriteError) as caught:
        await buffer.close()
    assert not hasattr(caught.value, "__notes__")
    assert len(sink.rows) == 6


async def test_a_closing_buffer_takes_no_more_rows() -> None:
    """Every row whose add returned is written; the others learn that the buffer is closed, also those that waited."""
    sink = Sink()
    sink.gate.clear()
    buffer = Buffer(sink, BufferOptions(rows=5, seconds=3600, capacity=10))
    taken: list[Row] = []

    async def add(row: Row) -> None:
        await buffer.add(row)
        taken.append(row)

    adding = [asyncio.create_task(add(snapshot())) for _ in range(20)]
    for _ in range(5):
        await asyncio.sleep(0)
    closing = asyncio.create_task(buffer.close())
    await asyncio.sleep(0)
    sink.gate.set()
    await closing
    results = await asyncio.gather(*adding, return_exceptions=True)
    assert sink.rows == taken
    assert {type(result) for result in results} == {type(None), GatewayClosedError}
