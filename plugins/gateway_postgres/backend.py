"""The PostgreSQL backend: the data-path hooks over one writing connection and a pool of reading ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

from gateway.backend import (
    GroupSummary,
    Health,
    OpenContext,
    RangeDigest,
    Summarize,
    WriteBatch,
    WriteReceipt,
)
from gateway.errors import GatewayError, StoreReadOnlyError
from gateway.hookspecs import hookimpl
from gateway.intents import Intent, JournalFacts, Stretch
from gateway.query import Query, ReadRange
from gateway.records.codec import to_micros
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_postgres.chores import Chores
from gateway_postgres.connections import Connection, Connector, Writer, retire
from gateway_postgres.health import judge, read_facts, read_revision
from gateway_postgres.intents import read_intents, read_journal, remove_intents
from gateway_postgres.pools import Readers
from gateway_postgres.reads import (
    get_rows,
    get_rows_alone,
    read_digest,
    read_page,
    read_summary,
    reads_alone,
)
from gateway_postgres.writing import purge_some, write

__all__ = ["PostgresBackend"]

_PURGE_ROWS: Final = 5_000
"""Rows removed in one transaction: writers wait for one such portion at most."""


class PostgresBackend:
    """An opened database.

    Args:
        context: What it was opened with.
        connector: Opens connections.
        readers: The reading connections.
        writer: The writing connection; None when the store was opened to be read only.
        keep: Whether connections stay open when nobody is waiting for them.
    """

    def __init__(
        self,
        context: OpenContext,
        connector: Connector,
        readers: Readers,
        writer: Writer | None = None,
        *,
        keep: bool = True,
    ) -> None:
        self._instance = context.instance
        self._production = context.production
        self._connector = connector
        self._readers = readers
        self._writer = writer
        self._kinds = {kind.name: kind for kind in context.kinds}
        # A connection of its own, opened when it is first needed: no write waits for what removes intents.
        self._clerk = None if writer is None else Writer(connector, keep=keep)
        self._chores = None if writer is None else Chores(connector)

    def __repr__(self) -> str:
        return f"<PostgresBackend {self._instance} {self._connector.address}>"

    async def start(self, connection: Connection) -> None:
        """Open the writing connection, so that the first write finds it, and begin what is to be done beside.

        Args:
            connection: One that is no longer needed; it is used up and closed.
        """
        if self._chores is None or self._writer is None:
            await retire(connection)
            return
        self._chores.begin(connection)
        await self._writer.run(_nothing)

    def _writing(self) -> Writer:
        if self._writer is None:
            raise StoreReadOnlyError("the store was opened to be read only", backend=self._instance)
        return self._writer

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Store a batch, in one transaction or one statement."""
        writer = self._writing()
        alone = partial(writer.alone, asyncio.get_running_loop().time())
        receipt = await writer.run(write, batch.steps, batch.journaling, alone)
        if self._chores is not None:
            self._chores.remind()
        return receipt

    @hookimpl
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Return the rows of keys."""
        if reads_alone(kind):
            return await self._readers.run(get_rows_alone, kind, tenant, keys)
        async with self._readers.transaction(tenant) as connection:
            return await get_rows(connection, kind, tenant, keys)

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Return a page of rows."""
        async with self._readers.transaction(query.tenant) as connection:
            return await read_page(connection, query)

    @hookimpl
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Count live rows by group."""
        async with self._readers.transaction(request.tenant) as connection:
            return await read_summary(connection, request)

    @hookimpl
    async def gateway_digest(self, span: ReadRange) -> RangeDigest:
        """Return the fingerprint of a stretch of rows."""
        async with self._readers.transaction(span.tenant) as connection:
            return await read_digest(connection, span)

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
        async with self._readers.transaction(tenant) as connection:
            return await read_intents(connection, self._kinds, target, tenant, limit, before, after)

    @hookimpl
    async def gateway_acknowledge(self, target: str, tenant: str, done: Sequence[Stretch]) -> int:
        """Remove intents, a portion a transaction."""
        self._writing()
        assert self._clerk is not None, "it comes with the writer"  # noqa: S101 - for the type checker
        return await self._clerk.run(remove_intents, list(self._kinds), target, tenant, done)

    @hookimpl
    async def gateway_journal(self, tenant: str, limit: int) -> Sequence[JournalFacts]:
        """Return what is left for every mirror."""
        async with self._readers.transaction(tenant) as connection:
            return await read_journal(connection, tenant, limit)

    @hookimpl
    async def gateway_health(self) -> Health:
        """Return whether the server answers, and facts about it."""
        address = str(self._connector.address)
        try:
            async with self._readers.transaction(None) as connection:
                facts = await read_facts(connection)
                revision = await read_revision(connection)
        except GatewayError as error:
            return Health(ok=False, summary=str(error), details={"address": address})
        failed = None if self._chores is None else self._chores.error
        details = {
            "address": address,
            "pooler": self._connector.pooled,
            "schema_revision": revision,
            "partitions_error": None if failed is None else str(failed),
            **self._readers.facts(),
        }
        return judge(facts, writes=self._writer is not None, production=self._production, details=details)

    @hookimpl
    async def gateway_close(self) -> None:
        """Close every connection, within a few seconds even if the server is stuck."""
        parts = (self._chores, self._readers, self._writer, self._clerk)
        await asyncio.gather(*(part.close() for part in parts if part is not None))


async def _nothing(connection: Connection) -> None:
    """Do nothing with a connection: it is open then."""
