"""Shadow reads: a sample of what a bot reads is read again from the other store, and compared.

Nothing here can delay or fail the bot's own read: it hands over what it got and goes on. Reads by key, listings of any
sort (frames, series and candles are made of them while they are compared) and counts are compared. A difference is an
inquiry of its own, which may have to wait until the mirror has caught up; those that wait hold no answers, only what
differs, and none of them holds up another.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.backend import GroupSummary, Summarize
from gateway.budget import Budget
from gateway.compare import Outcome
from gateway.divergences.log import DivergenceLog, divergences_of
from gateway.errors import StoreTimeoutError
from gateway.query import Query
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.shadow.awaited import Asking, CaughtUp
from gateway.shadow.inquiry import RECHECK_DELAYS, Found, Patience, differing_groups, inquire, inquire_count
from gateway.shadow.looks import KeyRead, Pair, RowRead
from gateway.shadow.sampling import SampleRates
from gateway.shadow.sights import CLEAR
from gateway.shadow.together import ReadOperation, together
from gateway.telemetry import Counters, Span, background, compared_attributes, traceparent

if TYPE_CHECKING:
    from gateway.dispatch import Store

__all__ = ["RECHECK_DELAYS", "KeyRead", "ReadOperation", "ShadowReader"]

_log: Final = logging.getLogger(__name__)
_AGREED: Final[tuple[bool, Sequence[Key]]] = (True, ())
_TOGETHER: Final = 64
"""Reads that are taken for comparison at once, at most."""


class ShadowReader:
    """Compares a sample of reads with what another store would have answered.

    Args:
        rate: Share of the reads that is compared, 0 to 1, of all kinds or by kind.
        divergences: Where differences that stay are kept.
        counters: Where comparisons are counted by outcome.
        timeout: Seconds that one store may take to answer.
        capacity: Reads that wait to be compared, at most; one that comes when it is full is dropped and
            counted.
        row_capacity: Rows in all of them, at most.
        per_second: Comparisons begun in one second, at most; a read beyond that is dropped and counted, so that a
            burst of reads does not pay for comparisons with its own speed.
        linger: Seconds for which reads by key are gathered, so that the other store is asked once for many.
        workers: Questions at the same time, and looks at differences beside them.
        delays: Seconds before each of the first further looks at a difference.
        patience: Seconds to wait for a mirror to catch up, at most.
        purge_patience: Seconds that a row which only the follower has must stay there to be believed.
        inquiries: Differences that are looked into at the same time, at most; one more is dropped and counted.
        caught_up: Tells whether a mirror has caught up. Without it, a difference that outlasts all delays is believed,
            which is right for mirrors that are written before the bot's write returns.
        seed: Makes the sample repeatable.
    """

    def __init__(
        self,
        rate: float | SampleRates,
        divergences: DivergenceLog,
        counters: Counters,
        *,
        timeout: float = 2.0,
        capacity: int = 1_000,
        row_capacity: int = 100_000,
        per_second: int = 1_000,
        linger: float = 0.05,
        workers: int = 4,
        delays: Sequence[float] = RECHECK_DELAYS,
        patience: float = 300.0,
        purge_patience: float = 30.0,
        inquiries: int = 1_000,
        caught_up: CaughtUp | None = None,
        seed: int | None = None,
    ) -> None:
        self.rates = rate if isinstance(rate, SampleRates) else SampleRates(rate)
        self._divergences = divergences
        self._counters = counters
        self._timeout = timeout
        self._patience = Patience(tuple(delays), patience, purge_patience)
        self._asking = None if caught_up is None else Asking(caught_up)
        self._random = random.Random(seed)  # noqa: S311 - chooses a sample, guards nothing
        self._queue: asyncio.Queue[ReadOperation] = asyncio.Queue(capacity)
        self._rows_left = row_capacity
        self._budget = Budget(per_second)
        self._linger = linger
        self._gathering = asyncio.Lock()
        self._worker_count = workers
        # Turns of their own: however much has to be looked into, what bots read now is compared now. What is compared
        # late differs from what stores hold by then, and would be looked into in vain.
        self._compared = asyncio.Semaphore(workers)
        self._looked_into = asyncio.Semaphore(workers)
        self._workers: list[asyncio.Task[None]] = []
        self._inquiry_capacity = inquiries
        self._inquiries: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        waiting, looked_into = self._queue.qsize(), len(self._inquiries)
        return f"<ShadowReader rate={self.rates.default:g} waiting={waiting} inquiries={looked_into}>"

    def watch(self, caught_up: CaughtUp) -> None:
        """Ask this from now on whether a mirror has caught up; for whoever opens mirrors after the shadow reader."""
        self._asking = Asking(caught_up)

    def samples(self, kind: KindSpec) -> bool:
        """Tell whether any read of a kind is ever compared."""
        return self.rates.of(kind.name) > 0

    def offer_keys(
        self,
        reader: Store,
        shadow: Store,
        kind: KindSpec,
        tenant: str,
        keys: Sequence[Key],
        rows: Sequence[Row | None],
    ) -> None:
        """Take a read by key for comparison, perhaps.

        Does not wait and does not raise; call it from the event loop.

        Args:
            reader: The store that answered.
            shadow: The store to compare with.
            kind: The kind read.
            tenant: Whose rows.
            keys: The keys asked for.
            rows: What the reader gave, one entry a key, tombstones and None included.
        """
        if self._chosen(kind, len(rows)):
            self._take(ReadOperation(reader, shadow, KeyRead(kind, tenant, tuple(keys)), tuple(rows)))

    def offer_query(self, reader: Store, shadow: Store, query: Query, rows: Sequence[Row]) -> None:
        """Take a listing for comparison, perhaps.

        Does not wait and does not raise; call it from the event loop.

        Args:
            reader: The store that answered.
            shadow: The store to compare with.
            query: The query as the reader got it.
            rows: What the reader gave.
        """
        if self._chosen(query.kind, len(rows)):
            self._take(ReadOperation(reader, shadow, query, tuple(rows)))

    def offer_summary(
        self, reader: Store, shadow: Store, request: Summarize, groups: Sequence[GroupSummary]
    ) -> None:
        """Take a count for comparison, perhaps.

        Does not wait and does not raise; call it from the event loop.

        Args:
            reader: The store that answered.
            shadow: The store to compare with.
            request: What was counted.
            groups: What the reader gave.
        """
        if self._chosen(request.kind, len(groups)):
            self._take(ReadOperation(reader, shadow, request, tuple(groups)))

    def _chosen(self, kind: KindSpec, size: int) -> bool:
        """Draw whether a read is compared, and see whether there is room."""
        if self._random.random() >= self.rates.of(kind.name) or self._closed:
            return False
        room = not self._queue.full() and size <= self._rows_left and self._budget.take()
        if not room:
            self._counters.shadow_dropped += 1
        return room

    def _take(self, operation: ReadOperation) -> None:
        self._rows_left -= len(operation.answer)
        trace = traceparent()
        self._queue.put_nowait(operation._replace(trace=trace) if trace else operation)
        if not self._workers:
            loop = asyncio.get_running_loop()
            self._workers = [
                loop.create_task(self._work(), name="gateway-shadow") for _ in range(self._worker_count)
            ]

    async def drain(self) -> None:
        """Wait until everything taken so far is compared, and every difference is explained or believed."""
        await self._queue.join()
        while self._inquiries:
            await asyncio.wait(self._inquiries)

    async def aclose(self, deadline: float = 5.0) -> None:
        """Compare what waits, for at most `deadline` seconds; count the rest as dropped.

        A difference that waits for a mirror which has not caught up by now ends as lagging.
        """
        self._closed = True
        self._patience.closing.set()
        try:
            async with asyncio.timeout(deadline):
                await self.drain()
        except TimeoutError:
            self._drop_waiting()
        tasks = (*self._workers, *self._inquiries)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._workers = []
        if self._asking is not None:
            await self._asking.aclose()

    def _drop_waiting(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
            self._queue.task_done()
            self._counters.shadow_dropped += 1

    async def _work(self) -> None:
        while True:
            groups = deque(together(await self._gather()))
            try:
                while groups:
                    group = groups.popleft()
                    try:
                        await self._judge(group)
                    finally:
                        self._done(group)
            finally:  # nothing is left here unless the worker is stopped
                for group in groups:
                    self._counters.shadow_dropped += len(group)
                    self._done(group)

    async def _gather(self) -> list[ReadOperation]:
        """Return what is to be compared next: the first that comes, and what comes soon after it."""
        async with self._gathering:
            taken = [await self._queue.get()]
            try:
                if not self._closed and isinstance(taken[0].request, KeyRead):
                    await asyncio.sleep(self._linger)
            except asyncio.CancelledError:
                self._counters.shadow_dropped += 1
                self._done(taken)
                raise
            while not self._queue.empty() and len(taken) < _TOGETHER:
                taken.append(self._queue.get_nowait())
            return taken

    def _done(self, group: Sequence[ReadOperation]) -> None:
        for operation in group:
            self._rows_left += len(operation.answer)
            self._queue.task_done()

    async def _judge(self, group: Sequence[ReadOperation]) -> None:
        """Compare once; a difference becomes an inquiry."""
        reader, shadow, request, *_ = group[0]
        pair = Pair(reader, shadow, self._timeout, self._compared)
        described = compared_attributes(request.kind.name, reader.name, shadow.name)
        try:
            with background("gateway.compare", described, (one.trace for one in group)) as running:
                found = await _compared(pair, group)
                agreed = all(agree for agree, _ in found)
                running.set_attribute("gateway.outcome", "match" if agreed else "differs")
        except BaseException as error:
            for _ in group:
                self._tolerate(error, shadow)
            if not isinstance(error, Exception):
                raise
            return
        for operation, (agree, suspects) in zip(group, found, strict=True):
            self._settle_or_inquire(operation, agree, suspects)

    def _settle_or_inquire(self, operation: ReadOperation, agreed: bool, suspects: Sequence[Key]) -> None:
        if agreed:
            self._counters.shadow_match += 1
        elif len(self._inquiries) >= self._inquiry_capacity:
            self._counters.shadow_dropped += 1
        else:
            task = asyncio.create_task(self._inquire(operation, suspects), name="gateway-shadow-inquiry")
            self._inquiries.add(task)
            task.add_done_callback(self._inquiries.discard)

    async def _inquire(self, operation: ReadOperation, suspects: Sequence[Key]) -> None:
        pair = Pair(operation.reader, operation.shadow, self._timeout, self._looked_into)
        described = compared_attributes(operation.request.kind.name, pair.reader.name, pair.shadow.name)
        with background("gateway.inquire", described, (operation.trace,)) as running:
            await self._look_into(pair, operation.request, suspects, running)

    async def _look_into(
        self, pair: Pair, request: RowRead | Summarize, suspects: Sequence[Key], running: Span
    ) -> None:
        try:
            if isinstance(request, Summarize):
                found = await inquire_count(pair, request, self._patience, self._asking)
            else:
                found = await inquire(pair, request, self._patience, self._asking, suspects)
        except BaseException as error:
            self._tolerate(error, pair.shadow)
            if not isinstance(error, Exception):
                raise
        else:
            running.set_attribute("gateway.outcome", found.outcome.value)
            self._conclude(pair, request, found)

    def _conclude(self, pair: Pair, request: RowRead | Summarize, found: Found) -> None:
        self._count(found.outcome)
        stores = {"primary": pair.reader.name, "shadow": pair.shadow.name}
        for divergence in divergences_of(request.kind, found, tenant=request.tenant, **stores):
            self._divergences.record(divergence)

    def _tolerate(self, error: BaseException, shadow: Store) -> None:
        """Count a comparison that did not come to an end: the one place where that is tolerated."""
        if isinstance(error, TimeoutError | StoreTimeoutError):
            self._count(Outcome.TIMED_OUT)
        elif isinstance(error, Exception):
            self._count(Outcome.FAILED)
            _log.debug("a shadow read of %s failed: %s", shadow.name, error)
        else:
            self._counters.shadow_dropped += 1

    def _count(self, outcome: Outcome) -> None:
        name = f"shadow_{outcome.value}"
        setattr(self._counters, name, getattr(self._counters, name) + 1)


async def _compared(pair: Pair, group: Sequence[ReadOperation]) -> list[tuple[bool, Sequence[Key]]]:
    """Ask the other store what the bot asked; return for each read whether it answers the same, and which rows not."""
    request, answer = group[0].request, group[0].answer
    if isinstance(request, Summarize):
        groups = await pair.counts(request)
        return [(not differing_groups(answer, groups), ())]  # type: ignore[arg-type] # groups
    if isinstance(request, Query):
        sights = [await pair.compare(request, answer)]  # type: ignore[arg-type] # rows
    else:
        sights = await pair.compare_reads([(one.request, one.answer) for one in group])  # type: ignore[misc] # reads by key
    return [_AGREED if sight is CLEAR else (sight.clear, sight.suspects) for sight in sights]
