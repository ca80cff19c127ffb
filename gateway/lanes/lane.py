"""Lanes: one queue of writes for each store, committed in groups.

A lane takes whatever queued up while the previous commit was running and commits it together: nobody waits for a
timer, a lone write is not delayed, and under load one fsync serves many callers. Writes of one lane take effect in
the order they were submitted.

A write may go on to mirrors: with the rows the batch leaves intents behind, and what the primary committed is offered
to the mirrors' feeds. Only where the operator asked for it does the caller wait for them, too. Neither depends on the
caller, so one that is cancelled leaves no mirror behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from itertools import groupby

from gateway.backend import Step, Update, WriteBatch, WriteReceipt
from gateway.columns import ColumnBatch
from gateway.errors import GatewayClosedError, GatewayError
from gateway.lanes.outcomes import STORED, LaneOptions, Outcome, Sink, concerns_one, own_copy, replicated
from gateway.lanes.persistent import persistently
from gateway.lanes.turns import Turns
from gateway.mirror.contract import Mirroring
from gateway.mirror.way import Traced, Way, marked, numbered
from gateway.telemetry import Counters, background, batch_attributes, inner, traceparent

__all__ = ["Lane", "close_lanes"]


class _Pending:
    """A write on its way: its steps, who waits for it, and which mirrors get it."""

    __slots__ = ("future", "generation", "outcome", "steps", "trace", "way")

    def __init__(
        self, steps: Sequence[Step], future: asyncio.Future[Outcome], generation: int, way: Way | None
    ) -> None:
        self.steps = steps
        self.future = future
        self.generation = generation
        self.way = way
        self.trace = traceparent()
        self.outcome = STORED


class _Arrival:
    """Waits for the mirrors of one write, and then lets its caller go."""

    __slots__ = ("_item", "_lane", "_left", "_way")

    def __init__(self, lane: Lane, item: _Pending, way: Way) -> None:
        self._lane = lane
        self._item = item
        self._way = way
        self._left = len(way.feeds)
        if item.outcome is STORED:
            item.outcome = Outcome()

    def __call__(self, target: str, error: GatewayError | None) -> None:
        """Take note that a mirror has it, or has not."""
        if not self._left:
            return
        if error is None:
            self._item.outcome.mirrored = (*self._item.outcome.mirrored, target)
        elif self._way.reports:
            self._item.outcome.failures[target] = error
        self._left -= 1
        if not self._left:
            self._lane.arrived(self, self._item)

    def give_up(self) -> None:
        """Wait no longer."""
        if self._left:
            self._left = 0
            self._lane.arrived(self, self._item)


class Lane:
    """The write lane of one store.

    Args:
        store: Where batches go.
        options: Its bounds.
        counters: The gateway's, beside the lane's own.
        mirrors: Numbers what goes on to mirrors; None if nothing does.

    Attributes:
        traced: Is told what traced writes came to that go on to mirrors; None if nobody wants to know.
    """

    def __init__(
        self,
        store: Sink,
        options: LaneOptions | None = None,
        counters: Counters | None = None,
        mirrors: Mirroring | None = None,
    ) -> None:
        self.store = store
        self.traced: Traced | None = None
        self._mirrors = mirrors
        self._counters = counters or Counters()
        self._options = options or LaneOptions()
        self._queue: deque[_Pending] = deque()
        self._arrivals: set[_Arrival] = set()
        self._wake: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(store.name, self._options)
        self._worker = self._loop.create_task(self._run(), name=f"lane {store.name}")
        self._worker.add_done_callback(self._stopped)
        self._idle = True
        # Whether the last commit served one caller: then the next write is probably alone too.
        self._lonely = True
        self.batches = 0
        self.written = 0
        self.failed = 0

    def __repr__(self) -> str:
        return f"<Lane {self.store.name} rows={self.depth}{' closing' if self._turns.closing else ''}>"

    @property
    def depth(self) -> int:
        """Rows accepted but not finished."""
        return self._turns.rows

    def counters(self) -> dict[str, int]:
        """Return what the lane has done since it was opened."""
        return {"depth": self.depth, "batches": self.batches, "rows": self.written, "failed": self.failed}

    async def write(self, steps: Sequence[Step], way: Way | None = None) -> Outcome:
        """Commit steps, offer them to the mirrors, and return; wait for the mirrors, too, if the way says so.

        A caller that is cancelled before its batch begins writes nothing; later, the write completes without it.

        Raises:
            StoreError: The store did not commit; nothing was handed on.
            QueueFullError: The lane is full and refuses.
            GatewayClosedError: The lane is closed.
        """
        turns = self._turns
        if turns.closing:
            raise GatewayClosedError("the gateway is closed; nothing was written")
        rows = len(steps)
        generation = turns.begin()
        if turns.rows and turns.crowded(rows):
            await turns.room(rows, generation)
        turns.rows += rows
        if self._idle and self._lonely and not self._queue and (way is None or not way.waits):
            return await self._write_alone(steps, generation, way)
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._queue.append(_Pending(steps, future, generation, way))
        if self._idle:
            self._wake_up()
        return await future

    async def _write_alone(self, steps: Sequence[Step], generation: int, way: Way | None) -> Outcome:
        """Commit in the caller's own task, since nothing else is under way: two turns of the loop instead of four."""
        self._idle = False
        try:
            ways, trace = () if way is None else ((way, len(steps)),), traceparent()
            if trace:
                with inner("gateway.batch", batch_attributes(self.store.name, len(steps))):
                    first, receipt = await self._write(steps, ways, dict.fromkeys(range(len(steps)), trace))
            else:
                first, receipt = await self._write(steps, ways)
            if way is not None:
                self._offer(way, replicated(steps, receipt, 0), first, traces=(trace,) if trace else ())
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self.failed += 1
                self._counters.write_failures += 1
            raise
        finally:
            self._idle = True
            self._turns.settle(len(steps), generation)
            if self._queue:
                self._wake_up()
        self._count(len(steps), receipt)
        if not receipt.superseded:
            return STORED
        outcome = Outcome()
        outcome.note_lost(receipt.superseded, 0, len(steps))
        return outcome

    async def barrier(self) -> None:
        """Return once everything submitted before this call is finished; mirrors only where their callers wait."""
        await self._turns.barrier()

    def wait_no_longer(self) -> None:
        """Let those go who wait for mirrors whose failures are not reported; the relay sees to their rows."""
        for arrival in list(self._arrivals):
            arrival.give_up()

    def refuse(self) -> None:
        """Take no more writes."""
        self._turns.closing = True

    async def close(self) -> None:
        """Finish what was accepted, then stop."""
        self.refuse()
        await self.barrier()
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)

    def _stopped(self, worker: asyncio.Task[None]) -> None:
        """Leave nobody waiting for a worker that has ended, whatever ended it."""
        self._turns.release()
        error = GatewayClosedError("the gateway is closed; whether the write was applied is unknown")
        error.__cause__ = None if worker.cancelled() else worker.exception()
        while self._queue:
            self._fail(self._queue.popleft(), error)

    def _wake_up(self) -> None:
        wake = self._wake
        if wake is not None:
            self._wake = None
            if not wake.done():
                wake.set_result(None)

    async def _run(self) -> None:
        """Commit batch after batch, for as long as the lane lives."""
        while True:
            while not self._queue or not self._idle:
                self._wake = self._loop.create_future()
                await self._wake
            self._idle = False
            batch = self._take()
            if batch:
                await self._commit(batch)
            self._idle = True
            self._lonely = len(batch) <= 1 and not self._queue
            if self._queue:
                # Callers just woken get to queue again first: their writes then share the next commit.
                await asyncio.sleep(0)

    def _take(self) -> list[_Pending]:
        """Take what fits one commit, leaving out callers that gave up before it began."""
        batch: list[_Pending] = []
        rows = 0
        queue = self._queue
        limit = self._options.batch
        while queue and (not batch or rows + len(queue[0].steps) <= limit):
            pending = queue.popleft()
            if pending.future.cancelled():
                self._turns.settle(len(pending.steps), pending.generation)
                continue
            rows += len(pending.steps)
            batch.append(pending)
        return batch

    async def _commit(self, batch: list[_Pending]) -> None:
        steps: Sequence[Step] = (
            batch[0].steps if len(batch) == 1 else [step for item in batch for step in item.steps]
        )
        traces = marked([(item.trace, len(item.steps)) for item in batch])
        described = batch_attributes(self.store.name, len(steps))
        try:
            with background("gateway.batch", described, traces.values(), within=True):
                first, receipt = await self._write(steps, _ways(batch), traces)
        except GatewayError as error:
            if len(batch) > 1 and concerns_one(error):
                for item in batch:
                    await self._commit([item])
                return
            for item in batch:
                self._fail(item, error)
            return
        except BaseException as error:
            closed = GatewayClosedError(
                "the gateway was closed while the write was under way; whether it was applied is unknown"
            )
            closed.__cause__ = error
            for item in batch:
                self._fail(item, closed)
            raise
        self._count(len(steps), receipt)
        if receipt.superseded:
            _note_lost(batch, receipt)
        if first:
            self._hand_on(batch, steps, receipt, first)
        for item in batch:
            if item.way is None or not item.way.waits:
                self._resolve(item)

    def _count(self, rows: int, receipt: WriteReceipt) -> None:
        self.batches += 1
        self.written += rows
        self._counters.batches += 1
        self._counters.rows_written += rows
        self._counters.superseded += len(receipt.superseded)

    async def _write(
        self,
        steps: Sequence[Step],
        ways: Sequence[tuple[Way | None, int]],
        traces: dict[int, str] | None = None,
    ) -> tuple[int, WriteReceipt]:
        """Hand a batch to the store, and return the number of its first step, 0 if it has none, and the receipt."""
        mirrors = self._mirrors
        if not ways or mirrors is None:
            return 0, await persistently(lambda: self.store.write(WriteBatch(steps)), self._options.retry)

        async def attempt() -> tuple[int, WriteReceipt]:
            first, journaling = numbered(mirrors, ways, traces)
            return first, await self.store.write(WriteBatch(steps, journaling))

        first, receipt = await persistently(attempt, self._options.retry)
        if traces and self.traced is not None:
            self.traced(replicated(steps, receipt, 0), traces)
        return first, receipt

    def _hand_on(
        self, batch: list[_Pending], steps: Sequence[Step], receipt: WriteReceipt, first: int
    ) -> None:
        """Offer what was committed to the mirrors: all at once, or write by write where callers wait for theirs."""
        way = batch[0].way
        plain = not receipt.superseded and (
            isinstance(steps, ColumnBatch) or not any(isinstance(step, Update) for step in steps)
        )
        if way is not None and not way.waits and all(item.way is way for item in batch):
            traces = tuple(item.trace for item in batch if item.trace)
            self._offer(way, steps if plain else replicated(steps, receipt, 0), first, traces=traces)
            return
        at = 0
        for item in batch:
            count = len(item.steps)
            if item.way is not None:
                onward = item.steps if plain else replicated(item.steps, receipt, at)
                traces = (item.trace,) if item.trace else ()
                self._offer(item.way, onward, first + at, item if item.way.waits else None, traces)
            at += count

    def _offer(
        self,
        way: Way,
        steps: Sequence[Step],
        first: int,
        item: _Pending | None = None,
        traces: tuple[str, ...] = (),
    ) -> None:
        arrival: _Arrival | None = None
        if item is not None:
            arrival = _Arrival(self, item, way)
            if not way.reports:
                self._arrivals.add(arrival)
        for feed in way.feeds:
            feed.offer(steps, first, arrival, traces)

    def arrived(self, arrival: _Arrival, item: _Pending) -> None:
        """Let a caller go who waited for mirrors."""
        self._arrivals.discard(arrival)
        self._resolve(item)

    def _fail(self, item: _Pending, error: GatewayError) -> None:
        self.failed += 1
        self._counters.write_failures += 1
        if not item.future.done():
            item.future.set_exception(own_copy(error))
        self._turns.settle(len(item.steps), item.generation)

    def _resolve(self, item: _Pending) -> None:
        if not item.future.done():
            item.future.set_result(item.outcome)
        self._turns.settle(len(item.steps), item.generation)


def _note_lost(batch: Sequence[_Pending], receipt: WriteReceipt) -> None:
    offset = 0
    for item in batch:
        item.outcome = Outcome()
        item.outcome.note_lost(receipt.superseded, offset, len(item.steps))
        offset += len(item.steps)


def _ways(batch: Sequence[_Pending]) -> list[tuple[Way | None, int]]:
    """Return the ways of a batch's steps, each with how many steps in a row go along it; empty if none goes on."""
    if all(item.way is None for item in batch):
        return []
    return [
        (way, sum(len(item.steps) for item in items)) for way, items in groupby(batch, lambda item: item.way)
    ]


async def close_lanes(lanes: Collection[Lane]) -> None:
    """Close lanes: first all refuse, then all finish, then all stop."""
    for lane in lanes:
        lane.refuse()
    for lane in lanes:
        await lane.barrier()
    for lane in lanes:
        await lane.close()
