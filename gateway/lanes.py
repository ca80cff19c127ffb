"""Lanes: one queue of writes for each store, committed in groups.

A lane takes whatever queued up while the previous commit was running and commits it together: nobody waits for a
timer, a lone write is not delayed, and under load one fsync serves many callers. Writes of one lane take effect in
the order they were submitted.

A write may have followers, the lanes of its mirrors: what the primary committed is handed on, and the caller's
future resolves when the last one is through. The hand-over does not depend on the caller, so a cancelled caller
leaves no mirror behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence

from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from gateway.backend import Step, WriteBatch, WriteReceipt
from gateway.errors import GatewayClosedError, GatewayError, QueueFullError, StoreError
from gateway.outcomes import (
    STORED,
    FullPolicy,
    LaneOptions,
    Outcome,
    Sink,
    concerns_one,
    own_copy,
    replicated,
)
from gateway.telemetry import Counters

__all__ = ["Lane", "close_lanes"]


class _Pending:
    """A write on its way: its steps, who waits for it, and where it goes next."""

    __slots__ = ("followers", "future", "generation", "origin", "outcome", "steps")

    def __init__(
        self,
        steps: Sequence[Step],
        future: asyncio.Future[Outcome],
        origin: Lane,
        generation: int,
        followers: tuple[Lane, ...],
    ) -> None:
        self.steps = steps
        self.future = future
        self.origin = origin
        self.generation = generation
        self.followers = followers
        self.outcome: Outcome | None = None


class Lane:
    """The write lane of one store.

    Args:
        store: Where batches go.
        options: Its bounds.
        counters: The gateway's, beside the lane's own.
    """

    def __init__(
        self, store: Sink, options: LaneOptions | None = None, counters: Counters | None = None
    ) -> None:
        self.store = store
        self._counters = counters or Counters()
        self._options = options or LaneOptions()
        self._queue: deque[_Pending] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._rows = 0
        # Writes under way, counted by generation; a barrier begins a new one and waits for the older to run empty.
        self._generation = 0
        self._active: dict[int, int] = {0: 0}
        self._barriers: list[tuple[int, asyncio.Future[None]]] = []
        self._wake: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._worker = self._loop.create_task(self._run(), name=f"lane {store.name}")
        self._worker.add_done_callback(self._stopped)
        self._closing = False
        self._idle = True
        # Whether the last commit served one caller: then the next write is probably alone too.
        self._lonely = True
        self.batches = 0
        self.written = 0
        self.failed = 0

    def __repr__(self) -> str:
        return f"<Lane {self.store.name} rows={self._rows}{' closing' if self._closing else ''}>"

    @property
    def depth(self) -> int:
        """Rows accepted but not finished."""
        return self._rows

    def counters(self) -> dict[str, int]:
        """Return what the lane has done since it was opened."""
        return {"depth": self._rows, "batches": self.batches, "rows": self.written, "failed": self.failed}

    async def write(self, steps: Sequence[Step], followers: tuple[Lane, ...] = ()) -> Outcome:
        """Commit steps, then hand them to the followers, and return when all are through.

        A caller that is cancelled before its batch begins writes nothing; later, the write completes without it.

        Raises:
            StoreError: The store did not commit; nothing was handed on.
            QueueFullError: The lane is full and refuses.
            GatewayClosedError: The lane is closed.
        """
        if self._closing:
            raise GatewayClosedError("the gateway is closed; nothing was written")
        rows = len(steps)
        generation = self._generation
        self._active[generation] += 1
        if self._rows and (self._waiting or self._rows + rows > self._options.rows):
            await self._room(rows, generation)
        self._rows += rows
        if self._idle and self._lonely and not followers and not self._queue:
            return await self._write_alone(steps, generation)
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self.enqueue(_Pending(steps, future, self, generation, followers))
        return await future

    async def _write_alone(self, steps: Sequence[Step], generation: int) -> Outcome:
        """Commit in the caller's own task, since nothing else is under way: two turns of the loop instead of four."""
        self._idle = False
        try:
            receipt = await self._write(WriteBatch(steps))
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self.failed += 1
                self._counters.write_failures += 1
            raise
        finally:
            self._idle = True
            self.settle(len(steps), generation)
            if self._queue:
                self._wake_up()
        self._count(len(steps), receipt)
        if not receipt.superseded:
            return STORED
        outcome = Outcome()
        outcome.note_lost(receipt.superseded, 0, len(steps))
        return outcome

    async def barrier(self) -> None:
        """Return once everything submitted before this call is finished, followers included."""
        if not any(self._active.values()):
            return
        future = self._loop.create_future()
        self._barriers.append((self._generation, future))
        self._generation += 1
        self._active[self._generation] = 0
        await future

    def refuse(self) -> None:
        """Take no more writes from callers; what other lanes hand over is still taken."""
        self._closing = True

    async def close(self) -> None:
        """Finish what was accepted, then stop. Lanes that follow one another are closed with `close_lanes`."""
        self.refuse()
        await self.barrier()
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)

    def _stopped(self, worker: asyncio.Task[None]) -> None:
        """Leave nobody waiting for a worker that has ended, whatever ended it."""
        self._closing = True
        error = GatewayClosedError("the gateway is closed; whether the write was applied is unknown")
        error.__cause__ = None if worker.cancelled() else worker.exception()
        while self._queue:
            self._fail(self._queue.popleft(), error)
        for turn in self._waiting:
            if not turn.done():
                turn.set_result(None)

    async def _room(self, rows: int, generation: int) -> None:
        """Wait, in order, until there is room for more rows; or refuse, by policy."""
        if self._options.policy is FullPolicy.REFUSE:
            self.settle(0, generation)
            raise QueueFullError(
                f"{self.store.name}: {self._rows} rows wait to be written, the bound is {self._options.rows}; "
                "the write was refused. Slow down, raise STORAGE_LANE_ROWS, or set STORAGE_LANE_POLICY=block"
            )
        enqueue = self._waiting.append
        while True:
            turn = self._loop.create_future()
            enqueue(turn)
            enqueue = self._waiting.appendleft  # who was woken too early keeps the place at the head
            try:
                await turn
            except BaseException:
                if not turn.cancelled():
                    self._next_waiting()  # the turn was given to a caller that left; pass it on
                self.settle(0, generation)
                raise
            if self._closing:
                self.settle(0, generation)
                raise GatewayClosedError("the gateway is closed; nothing was written")
            if not self._rows or self._rows + rows <= self._options.rows:
                return

    def enqueue(self, pending: _Pending) -> None:
        """Take a write in; from here on it goes its way without its caller."""
        self._queue.append(pending)
        if self._idle:
            self._wake_up()

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
            if pending.outcome is None and pending.future.cancelled():
                pending.origin.settle(len(pending.steps), pending.generation)
                continue
            rows += len(pending.steps)
            batch.append(pending)
        return batch

    async def _commit(self, batch: list[_Pending]) -> None:
        steps: Sequence[Step] = (
            batch[0].steps if len(batch) == 1 else [step for item in batch for step in item.steps]
        )
        try:
            receipt = await self._write(WriteBatch(steps))
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
        offset = 0
        for item in batch:
            self._done(item, receipt, offset)
            offset += len(item.steps)

    def _count(self, rows: int, receipt: WriteReceipt) -> None:
        self.batches += 1
        self.written += rows
        self._counters.batches += 1
        self._counters.rows_written += rows
        self._counters.superseded += len(receipt.superseded)

    async def _write(self, batch: WriteBatch) -> WriteReceipt:
        """Hand a batch to the store. Trying again is prepared only once something transient has failed."""
        try:
            return await self.store.write(batch)
        except StoreError as error:
            if not error.transient or self._options.retry <= 0:
                raise
        attempts = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, StoreError) and error.transient),
            stop=stop_after_delay(self._options.retry),
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            reraise=True,
        )
        return await attempts(self.store.write, batch)

    def _done(self, item: _Pending, receipt: WriteReceipt, offset: int) -> None:
        """Take note of a commit and send the write on to its next lane, or home."""
        outcome = item.outcome
        if outcome is None:
            if not item.followers and not receipt.superseded:
                item.outcome = STORED
                self._resolve(item)
                return
            outcome = item.outcome = Outcome()
            if receipt.superseded:
                outcome.note_lost(receipt.superseded, offset, len(item.steps))
        else:
            outcome.mirrored = (*outcome.mirrored, self.store.name)
        if item.followers:
            self._forward(item, replicated(item.steps, receipt, offset))
        else:
            self._resolve(item)

    def _forward(self, item: _Pending, steps: Sequence[Step]) -> None:
        follower, *rest = item.followers
        item.followers = tuple(rest)
        if not steps:
            self._resolve(item)
            return
        onward = _Pending(steps, item.future, item.origin, item.generation, item.followers)
        onward.outcome = item.outcome
        item.origin.resize(len(steps) - len(item.steps))
        follower.enqueue(onward)

    def _fail(self, item: _Pending, error: GatewayError) -> None:
        """Report a failure: the primary's to the caller, a mirror's as part of the outcome."""
        self.failed += 1
        if item.outcome is None:
            self._counters.write_failures += 1
            if not item.future.done():
                item.future.set_exception(own_copy(error))
            item.origin.settle(len(item.steps), item.generation)
            return
        self._counters.mirror_failures += 1
        item.outcome.failures[self.store.name] = error
        if item.followers:
            self._forward(item, item.steps)
        else:
            self._resolve(item)

    def _resolve(self, item: _Pending) -> None:
        if not item.future.done():
            item.future.set_result(item.outcome)  # type: ignore[arg-type]
        item.origin.settle(len(item.steps), item.generation)

    def resize(self, rows: int) -> None:
        """Correct the count of rows under way, when a mirror gets more or fewer than the primary got steps."""
        self._rows += rows

    def settle(self, rows: int, generation: int) -> None:
        """Count a write as finished, let waiting writers in and barriers down."""
        self._rows -= rows
        self._active[generation] -= 1
        if self._waiting:
            self._next_waiting()
        if self._barriers and not self._active[generation]:
            self._lower_barriers()

    def _lower_barriers(self) -> None:
        """Release the barriers whose generations, and all before them, have run empty."""
        busy = min(
            (generation for generation, count in self._active.items() if count), default=self._generation + 1
        )
        waiting: list[tuple[int, asyncio.Future[None]]] = []
        for generation, future in self._barriers:
            if generation >= busy:
                waiting.append((generation, future))
            elif not future.done():
                future.set_result(None)
        self._barriers = waiting
        self._active = {g: count for g, count in self._active.items() if count or g >= self._generation}

    def _next_waiting(self) -> None:
        """Wake the longest waiting writer if there is room; it wakes the next when it is through."""
        while self._waiting and (not self._rows or self._rows < self._options.rows):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return


async def close_lanes(lanes: Collection[Lane]) -> None:
    """Close lanes that may follow one another: first all refuse, then all finish, then all stop."""
    for lane in lanes:
        lane.refuse()
    for lane in lanes:
        await lane.barrier()
    for lane in lanes:
        await lane.close()
