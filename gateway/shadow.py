"""Shadow reads: a sample of what a bot reads is read again from the other store, and compared.

Nothing here can delay or fail the bot's own read: it hands over what it got and goes on. A difference is
looked at again, on both sides, until the stores agree (`lagging`) or patience ends (`diverged`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.compare import Outcome, PageComparison, RowComparison, caught_up, compare_pages, compare_rows
from gateway.divergences import DivergenceLog, divergence_of
from gateway.errors import StoreTimeoutError
from gateway.query import Query
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.telemetry import Counters

if TYPE_CHECKING:
    from gateway.dispatch import Store

__all__ = ["RECHECK_DELAYS", "KeyRead", "ReadOperation", "ShadowReader"]

_log: Final = logging.getLogger(__name__)

RECHECK_DELAYS: Final = (0.01, 0.04, 0.15, 0.8)
"""Seconds before each further look at a difference; about one second in all."""

_FINDINGS: Final = 100
"""Differing rows recorded of one read; a store that lost everything need not fill the log by one listing."""

Answer = Sequence[Row | None]


class KeyRead(NamedTuple):
    """A read by key.

    Attributes:
        kind: The kind read.
        tenant: Whose rows.
        keys: The keys asked for.
    """

    kind: KindSpec
    tenant: str
    keys: Sequence[Key]


class ReadOperation(NamedTuple):
    """A read that a bot did.

    Attributes:
        reader: The store that answered.
        shadow: The store to compare with.
        request: What was asked: keys, or a query as the store got it.
        rows: What the bot was given: for keys one entry each, tombstones and None included.
    """

    reader: Store
    shadow: Store
    request: KeyRead | Query
    rows: Answer


class ShadowReader:
    """Compares a sample of reads with what another store would have answered.

    Args:
        rate: Share of the reads that is compared, 0 to 1.
        divergences: Where differences that stay are kept.
        counters: Where comparisons are counted by outcome.
        timeout: Seconds that one store may take to answer.
        capacity: Reads that wait to be compared, at most; one that comes when it is full is dropped and
            counted.
        row_capacity: Rows in all of them, at most.
        workers: Comparisons at the same time.
        delays: Seconds before each further look at a difference.
        seed: Makes the sample repeatable.
    """

    def __init__(
        self,
        rate: float,
        divergences: DivergenceLog,
        counters: Counters,
        *,
        timeout: float = 2.0,
        capacity: int = 1_000,
        row_capacity: int = 100_000,
        workers: int = 4,
        delays: Sequence[float] = RECHECK_DELAYS,
        seed: int | None = None,
    ) -> None:
        self.rate = rate
        self._divergences = divergences
        self._counters = counters
        self._timeout = timeout
        self._delays = tuple(delays)
        self._random = random.Random(seed)  # noqa: S311 - chooses a sample, guards nothing
        self._queue: asyncio.Queue[ReadOperation] = asyncio.Queue(capacity)
        self._rows_left = row_capacity
        self._worker_count = workers
        self._workers: list[asyncio.Task[None]] = []
        self._closed = False

    def __repr__(self) -> str:
        return f"<ShadowReader rate={self.rate:g} waiting={self._queue.qsize()}>"

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
        if self._chosen(len(rows)):
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
        if self._chosen(len(rows)):
            self._take(ReadOperation(reader, shadow, query, tuple(rows)))

    def _chosen(self, size: int) -> bool:
        """Draw whether a read is compared, and see whether there is room."""
        if self._random.random() >= self.rate or self._closed:
            return False
        room = not self._queue.full() and size <= self._rows_left
        if not room:
            self._counters.shadow_dropped += 1
        return room

    def _take(self, operation: ReadOperation) -> None:
        self._rows_left -= len(operation.rows)
        self._queue.put_nowait(operation)
        if not self._workers:
            loop = asyncio.get_running_loop()
            self._workers = [
                loop.create_task(self._work(), name="gateway-shadow") for _ in range(self._worker_count)
            ]

    async def drain(self) -> None:
        """Wait until everything taken so far is compared."""
        await self._queue.join()

    async def aclose(self, deadline: float = 5.0) -> None:
        """Compare what waits, for at most `deadline` seconds; count the rest as dropped."""
        self._closed = True
        try:
            async with asyncio.timeout(deadline):
                await self.drain()
        except TimeoutError:
            self._drop_waiting()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers = []

    def _drop_waiting(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
            self._queue.task_done()
            self._counters.shadow_dropped += 1

    async def _work(self) -> None:
        while True:
            operation = await self._queue.get()
            try:
                self._count(await self._compare(operation))
            except (TimeoutError, StoreTimeoutError):
                self._count(Outcome.TIMED_OUT)
            except asyncio.CancelledError:
                self._counters.shadow_dropped += 1
                raise
            except Exception as error:  # noqa: BLE001 - the one place where a failed comparison is tolerated, and counted
                self._count(Outcome.FAILED)
                _log.debug("a shadow read of %s failed: %s", operation.shadow.name, error)
            finally:
                self._rows_left += len(operation.rows)
                self._queue.task_done()

    def _count(self, outcome: Outcome) -> None:
        name = f"shadow_{outcome.value}"
        setattr(self._counters, name, getattr(self._counters, name) + 1)

    async def _compare(self, operation: ReadOperation) -> Outcome:
        """Compare once, and again after each delay for as long as the stores differ."""
        found = compare_answers(
            operation.request, operation.rows, await self._ask(operation.shadow, operation)
        )
        if found.outcome is Outcome.MATCH:
            return Outcome.MATCH
        staying = found.rows
        for delay in self._delays:
            await asyncio.sleep(delay)
            before = found
            # The shadow first: what the leader holds then is never older than what a mirror could have got
            # from it.
            theirs = await self._ask(operation.shadow, operation)
            mine = await self._ask(operation.reader, operation)
            found = compare_answers(operation.request, mine, theirs)
            staying = lasting(before, found)
            if not (staying or found.misordered or appeared(before, found)):
                return Outcome.LAGGING
        if not staying and not found.misordered:
            return (
                Outcome.LAGGING
            )  # what the last look alone saw may be a write under way, and proves nothing
        self._report(operation, staying)
        return Outcome.DIVERGED

    async def _ask(self, store: Store, operation: ReadOperation) -> Answer:
        async with asyncio.timeout(self._timeout):
            request = operation.request
            if isinstance(request, Query):
                return await store.query(request)
            return await store.get(request.kind, request.tenant, request.keys)

    def _report(self, operation: ReadOperation, staying: Sequence[RowComparison]) -> None:
        stores = {"primary": operation.reader.name, "shadow": operation.shadow.name}
        for row in staying[:_FINDINGS] or (_order_finding(operation),):
            self._divergences.record(divergence_of(row, tenant=operation.request.tenant, **stores))


def compare_answers(request: KeyRead | Query, left: Answer, right: Answer) -> PageComparison:
    """Compare two stores' answers to one request."""
    if isinstance(request, Query):
        pages = [[row for row in answer if row is not None] for answer in (left, right)]
        return compare_pages(request.kind, *pages, limit=request.limit, descending=request.descending)
    found = [compare_rows(request.kind, mine, theirs) for mine, theirs in zip(left, right, strict=True)]
    differing = tuple(one for one in found if one.outcome is not Outcome.MATCH)
    if not differing:
        return PageComparison(Outcome.MATCH)
    diverged = any(one.outcome is Outcome.DIVERGED for one in differing)
    return PageComparison(Outcome.DIVERGED if diverged else Outcome.LAGGING, differing)


def lasting(before: PageComparison, after: PageComparison) -> tuple[RowComparison, ...]:
    """Return the differences of a second look that were there in the first, and have not caught up meanwhile.

    One that is new in the second look may be a write under way; only a further look can tell.
    """
    known = {row.key: row for row in before.rows}
    return tuple(row for row in after.rows if row.key in known and not caught_up(known[row.key], row))


def appeared(before: PageComparison, after: PageComparison) -> tuple[RowComparison, ...]:
    """Return the differences of a second look that were not there in the first: reason enough for a third."""
    known = {row.key for row in before.rows}
    return tuple(row for row in after.rows if row.key not in known)


def _order_finding(operation: ReadOperation) -> RowComparison:
    """Return the finding that stands for a listing whose rows match and whose order does not."""
    kind = operation.request.kind
    first = next((row for row in operation.rows if row is not None), None)
    key = first.key if first is not None else tuple(None for _ in kind.key)
    return RowComparison(kind, key, Outcome.DIVERGED)
