"""The SQLite backend: the data-path hooks over one writing connection and a few reading ones."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway.backend import GroupSummary, Health, RangeDigest, Step, Summarize, WriteBatch, WriteReceipt
from gateway.errors import StoreBusyError, StoreError, StoreReadOnlyError
from gateway.hookspecs import hookimpl
from gateway.intents import Intent, JournalFacts, Journaling, Stretch
from gateway.query import Query, ReadRange
from gateway.records.codec import to_micros
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.unfinished import outlives
from gateway_sqlite.checkpoints import Checkpointer
from gateway_sqlite.connection import StoreConnection
from gateway_sqlite.health import identity, read_facts
from gateway_sqlite.intents import facts, pending, portions_of, remove
from gateway_sqlite.opening import busy_timeout_of
from gateway_sqlite.presence import Presence
from gateway_sqlite.readers import Readers
from gateway_sqlite.reads import get_rows, read_digest, read_page, read_summary
from gateway_sqlite.settings import SqliteSettings
from gateway_sqlite.writer import apply, purge_some

__all__ = ["SqliteBackend"]

_PURGE_ROWS: Final = 5_000
"""Rows removed in one transaction: writers wait for one such portion at most."""

_EARLY: Final = 0.25
"""Share of a call's time within which it counts as begun at once."""


class SqliteBackend:
    """An opened SQLite file.

    Args:
        instance: Its name in settings and errors.
        path: The file.
        settings: What it was opened with.
        readers: The reading connections.
        writer: The writing connection; None when the store was opened to be read only.
        checkpointer: Keeps the log short; None without a writer.
        kinds: What it was opened with.
        patience: Seconds after which a call is given up; None lets it take its time.
    """

    def __init__(
        self,
        instance: str,
        path: Path,
        settings: SqliteSettings,
        readers: Readers,
        writer: StoreConnection | None = None,
        checkpointer: Checkpointer | None = None,
        kinds: Sequence[KindSpec] = (),
        patience: float | None = None,
    ) -> None:
        self._instance = instance
        self._path = path
        self._settings = settings
        self._readers = readers
        self._writer = writer
        self._checkpointer = checkpointer
        self._kinds = {kind.name: kind for kind in kinds}
        self._patience = patience
        self._file = identity(path)
        self._presence = Presence(path, self._file)

    def __repr__(self) -> str:
        return f"<SqliteBackend {self._instance} {self._path}>"

    def _writing(self) -> StoreConnection:
        if self._writer is None:
            raise StoreReadOnlyError("the store was opened to be read only", backend=self._instance)
        return self._writer

    def _apply(
        self,
        connection: sqlite3.Connection,
        steps: Sequence[Step],
        journaling: Journaling | None,
        asked: float,
    ) -> WriteReceipt:
        """Store a batch, unless the file is no longer where anybody would find it. Runs on the writer's thread.

        Args:
            connection: The writing one.
            steps: The batch.
            journaling: Which intents it leaves behind.
            asked: When the call began, by the monotonic clock. What waited for its turn for long waits for other
                processes for less, so that nothing is written much later than its caller is told that he need not
                wait any longer.
        """
        self._presence.check()
        if self._patience is None:
            return apply(connection, steps, journaling)
        waited = time.monotonic() - asked
        if waited <= _EARLY * self._patience:
            return apply(connection, steps, journaling)
        left = (1 + _EARLY) * self._patience - waited
        if left <= 0:
            raise StoreBusyError(
                "the call waited for its turn for longer than STORAGE_TIMEOUT; nothing was written",
                backend=self._instance,
            )
        connection.execute(f"PRAGMA busy_timeout={int(min(left, self._busy_timeout) * 1000)}")
        try:
            return apply(connection, steps, journaling)
        finally:
            connection.execute(f"PRAGMA busy_timeout={int(self._busy_timeout * 1000)}")

    @property
    def _busy_timeout(self) -> float:
        return busy_timeout_of(self._settings, self._patience)

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Store a batch in one transaction."""
        writer = self._writing()
        try:
            receipt = await writer.run(self._apply, batch.steps, batch.journaling, time.monotonic())
        except asyncio.CancelledError:
            # The thread does one thing after the other, so it is past this one when it comes to the next.
            outlives(asyncio.ensure_future(writer.run(_nothing)))
            raise
        if self._checkpointer is not None:
            self._checkpointer.wrote(len(batch.steps))
        return receipt

    @hookimpl
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Return the rows of keys."""
        return await self._readers.run(get_rows, kind, tenant, keys)

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Return a page of rows."""
        return await self._readers.run(read_page, query)

    @hookimpl
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Count live rows by group."""
        return await self._readers.run(read_summary, request)

    @hookimpl
    async def gateway_digest(self, span: ReadRange) -> RangeDigest:
        """Return the fingerprint of a stretch of rows."""
        return await self._readers.run(read_digest, span)

    @hookimpl
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Remove rows by age, a portion a transaction, so that writers get their turn in between."""
        writer, moment, total = self._writing(), to_micros(before), 0
        while True:
            removed = await writer.run(purge_some, kind, tenant, moment, _PURGE_ROWS)
            total += removed
            if removed < _PURGE_ROWS:
                return total

    @hookimpl
    async def gateway_intents(
        self, target: str, tenant: str, limit: int, before: int | None, after: Stretch | None
    ) -> Sequence[Intent]:
        """Return intents in order."""
        return await self._readers.run(pending, self._kinds, target, tenant, limit, before, after)

    @hookimpl
    async def gateway_acknowledge(self, target: str, tenant: str, done: Sequence[Stretch]) -> int:
        """Remove intents, a portion a transaction, so that writers get their turn in between."""
        writer, kinds, total = self._writing(), tuple(self._kinds), 0
        for portion in portions_of(done):
            left = portion
            while left:
                removed, left = await writer.run(remove, kinds, target, tenant, left)
                total += removed
        return total

    @hookimpl
    async def gateway_journal(self, tenant: str, limit: int) -> Sequence[JournalFacts]:
        """Return what is left for every mirror."""
        return await self._readers.run(facts, tenant, limit)

    @hookimpl
    async def gateway_health(self) -> Health:
        """Return whether the store answers, and facts about the file."""
        try:
            health = await self._readers.run(
                read_facts, self._path, self._file, self._settings, check=self._writer is None
            )
        except StoreError as error:
            return Health(ok=False, summary=str(error), details={"path": str(self._path)})
        failed = None if self._checkpointer is None else self._checkpointer.error
        if failed is None:
            return health
        return Health(
            ok=False, summary=f"the write-ahead log cannot be emptied: {failed}", details=health.details
        )

    @hookimpl
    async def gateway_close(self) -> None:
        """Close the readers, then the writer, which as the last one moves the log into the file."""
        await self._readers.close()
        if self._checkpointer is not None:
            await self._checkpointer.close()
        if self._writer is not None:
            await self._writer.close()


def _nothing(_: sqlite3.Connection) -> None:
    """Do nothing with a connection: what came before it is done then."""
