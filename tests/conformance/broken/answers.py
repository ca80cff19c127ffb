"""Backends that say the wrong thing about themselves, and those that lose their way among callers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from gateway.backend import GroupSummary, Health, Summarize, WriteBatch, WriteReceipt
from gateway.errors import StoreBusyError, StoreError, StoreUnavailableError
from gateway.hookspecs import hookimpl
from gateway.query import Query
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_memory.transaction import Table, Transaction
from tests.conformance.broken.specimen import Specimen, breaks


@breaks("test_an_empty_store_has_nothing")
class MissingIsAnError(Specimen):
    """Raises for a key that is not there."""

    @hookimpl
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Take no row for a failure."""
        found = await super().gateway_get(kind, tenant, keys)
        if None in found:
            raise StoreError("not found")
        return found


@breaks("test_an_open_store_is_healthy")
class AlwaysSick(Specimen):
    """Says that it is down."""

    @hookimpl
    async def gateway_health(self) -> Health:
        """Forget to look."""
        return Health(ok=False, summary="starting")


@breaks("test_a_closed_store_raises")
class EmptyWhenDown(Specimen):
    """Answers as if it were empty when it is closed."""

    def _table(self, kind: KindSpec, tenant: str) -> Table:
        return self._tables.get((kind, tenant), {})


@breaks("test_a_closed_store_raises")
class NoSummaryNoError(Specimen):
    """Raises everywhere but in one place."""

    @hookimpl
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Log the error and return nothing."""
        try:
            return await super().gateway_summarize(request)
        except StoreUnavailableError:
            return []


@breaks("test_a_closed_store_is_not_healthy")
class HealthyWhenClosed(Specimen):
    """Says that all is well after it was closed."""

    @hookimpl
    async def gateway_health(self) -> Health:
        """Forget to look."""
        return Health(ok=True, summary="all is well")


@breaks("test_a_closed_store_is_not_healthy")
class HealthRaises(Specimen):
    """Raises when asked how it is."""

    @hookimpl
    async def gateway_health(self) -> Health:
        """Ask a closed connection."""
        self._check_open()
        return await super().gateway_health()


@breaks("test_closing_twice_is_fine")
class ClosesOnce(Specimen):
    """Cannot be closed again."""

    @hookimpl
    async def gateway_close(self) -> None:
        """Close a closed connection."""
        self._check_open()
        await super().gateway_close()


@breaks("test_tasks_lose_nothing")
class CopiesTheTable(Specimen):
    """Replaces the whole table by a copy made before it waited."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Copy, wait, replace."""
        transaction = Transaction({place: dict(table) for place, table in self._tables.items()})
        for index, step in enumerate(batch.steps):
            transaction.take(index, step)
        copies = {place: dict(table) for place, table in self._tables.items()}
        await asyncio.sleep(0)
        for (kind, tenant, key), row in transaction.rows.items():
            copies.setdefault((kind, tenant), {})[key] = row
        self._tables.update(copies)
        return WriteReceipt(transaction.superseded, transaction.updated)


@breaks("test_acknowledged_is_visible")
class AppliesLater(Specimen):
    """Acknowledges at once and applies when it has time."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Hand the batch to the loop."""
        later = asyncio.ensure_future(super().gateway_write(batch))
        self.__dict__.setdefault("_later", []).append(later)
        return WriteReceipt()


@breaks("test_readers_see_whole_rows_only")
class WritesFieldByField(Specimen):
    """Writes a row in two halves and lets readers in between."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Store each row with the other half of the one before, then as it is."""
        for step in batch.steps:
            held = self._tables[step.kind, step.tenant].get(step.key) if isinstance(step, Row) else None
            if isinstance(step, Row) and held is not None:
                middle = len(step.values) // 2
                torn = step._replace(values=(*step.values[:middle], *held.values[middle:]))
                self._tables[step.kind, step.tenant][step.key] = torn
                await asyncio.sleep(0)
                self._tables[step.kind, step.tenant][step.key] = held
        return await super().gateway_write(batch)


@breaks("test_a_store_works_after_a_cancelled_write")
class StaysBusy(Specimen):
    """Does not give its lock back when the caller gives up."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Hold a flag over an await, without `finally`."""
        if self.__dict__.get("_busy"):
            raise StoreBusyError("database is locked")
        self._busy = True
        await asyncio.sleep(0)
        receipt = await super().gateway_write(batch)
        self._busy = False
        return receipt


@breaks("test_a_cancelled_write_leaves_other_callers_alone")
class CancelsTheWholeBatch(Specimen):
    """Gathers callers into one commit, and lets any of them cancel it."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Wait for the common commit without a shield."""
        waiting: list[WriteBatch] = self.__dict__.setdefault("_waiting", [])
        waiting.append(batch)
        flush: asyncio.Task[None] | None = self.__dict__.get("_flush")
        if flush is None or flush.done():
            flush = self._flush = asyncio.ensure_future(self._commit_all(waiting))
        await flush
        return WriteReceipt()

    async def _commit_all(self, waiting: list[WriteBatch]) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        while waiting:
            await super().gateway_write(waiting.pop(0))


@breaks("test_a_store_works_after_a_cancelled_read")
class AnswersInTheWrongOrder(Specimen):
    """Hands out the answer of a read that nobody waits for any more."""

    @hookimpl
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Queue answers, and take the first."""
        answers: deque[Sequence[Row | None]] = self.__dict__.setdefault("_answers", deque())
        answers.append(await super().gateway_get(kind, tenant, keys))
        await asyncio.sleep(0)
        return answers.popleft()

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Listings are answered directly."""
        return await super().gateway_query(query)
