"""The QuestDB backend: the data-path hooks over clients that write and connections that read."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import datetime
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
from gateway.candles import Bar, Sample
from gateway.columns import ArrowTable, ColumnBatch
from gateway.errors import CapabilityError, GatewayError, StoreError, StoreReadOnlyError
from gateway.hookspecs import hookimpl
from gateway.query import Query, ReadRange
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_questdb.columns import Columns
from gateway_questdb.connections import Readers
from gateway_questdb.groups import Groups
from gateway_questdb.health import judge, read_facts
from gateway_questdb.http import Http
from gateway_questdb.posts import Posts
from gateway_questdb.reads import Answers
from gateway_questdb.recovery import AFTERWARDS
from gateway_questdb.sampling import Sampling
from gateway_questdb.senders import Senders
from gateway_questdb.settings import QuestDbSettings
from gateway_questdb.tables import Tables
from gateway_questdb.waiting import Waiting
from gateway_questdb.writing import Writer

__all__ = ["QuestDbBackend"]

_RECOVER_EVERY: Final = 60.0
"""Seconds between two looks for groups that a crash left behind."""

_log = logging.getLogger(__name__)


class QuestDbBackend:
    """An opened server.

    Args:
        context: What it was opened with.
        settings: The same, as this backend's own.
        tables: Layouts of all kinds.
        readers: To read with.
        waiting: Waits until what is acknowledged can be read.
    """

    def __init__(
        self,
        context: OpenContext,
        settings: QuestDbSettings,
        tables: Tables,
        readers: Readers,
        waiting: Waiting,
    ) -> None:
        self._instance = context.instance
        self._address = settings.address()
        self._tables = tables
        self._readers = readers
        self._waiting = waiting
        self._answers = Answers(tables, readers, waiting if settings.read_your_writes else None)
        http = Http(self._address, settings.command_timeout, context.instance)
        self._columns = Columns(self._answers, http)
        self._sampling = Sampling(self._answers)
        self._senders: Senders | None = None
        self._writer: Writer | None = None
        self._recovered = time.monotonic()
        self._recovery: asyncio.Task[None] | None = None
        if not context.read_only:
            self._senders, self._writer = self._writing_side(settings)

    def _writing_side(self, settings: QuestDbSettings) -> tuple[Senders, Writer]:
        configuration = self._address.sender_configuration(settings.request_timeout, settings.retry_seconds)
        senders = Senders(configuration, settings.senders, self._instance)
        groups = Groups(self._tables.groups, senders, self._readers)
        posts = Posts(
            self._address, settings.request_timeout, settings.retry_seconds, settings.senders, self._instance
        )
        writer = Writer(
            self._tables,
            senders,
            posts,
            self._readers,
            self._waiting,
            groups,
            most=settings.request_rows,
            instance=self._instance,
        )
        return senders, writer

    def __repr__(self) -> str:
        return f"<QuestDbBackend {self._instance} {self._address}>"

    async def start(self) -> None:
        """Finish the groups that a crash left behind; that some cannot be is no reason not to open the store."""
        if self._writer is not None:
            await self._recover(0.0)

    def _writing(self) -> Writer:
        if self._writer is None:
            raise StoreReadOnlyError("the store was opened to be read only", backend=self._instance)
        return self._writer

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Store a batch, a transaction a table."""
        receipt = await self._writing().write(batch.steps)
        self._remind()
        return receipt

    @hookimpl
    async def gateway_write_columns(self, batch: ColumnBatch) -> WriteReceipt:
        """Store rows given by column."""
        receipt = await self._writing().write_columns(batch)
        self._remind()
        return receipt

    @hookimpl
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Return the rows of keys."""
        return await self._answers.get(kind, tenant, keys)

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Return a page of rows."""
        return await self._answers.query(query)

    @hookimpl
    async def gateway_read_columns(self, query: Query, fields: tuple[str, ...]) -> ArrowTable:
        """Return columns of the rows of a query."""
        return await self._columns.read(query, fields)

    @hookimpl
    async def gateway_sample(self, request: Sample) -> Sequence[Bar]:
        """Return bars of ticks."""
        return await self._sampling.bars(request)

    @hookimpl
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Count live rows by group."""
        return await self._answers.summarize(request)

    @hookimpl
    async def gateway_digest(self, span: ReadRange) -> RangeDigest:
        """Return the fingerprint of a stretch of rows."""
        return await self._answers.digest(span)

    @hookimpl
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:  # noqa: ARG002 - the contract
        """Refuse: whole partitions of all tenants can be dropped, single rows cannot."""
        raise CapabilityError(
            f"{self._instance}: QuestDB removes whole partitions and no single rows; `gateway maintain` "
            "drops the partitions in which everything is past its retention"
        )

    @hookimpl
    async def gateway_health(self) -> Health:
        """Return whether the server answers, and facts about it."""
        try:
            facts = await read_facts(self._readers, self._tables)
        except GatewayError as error:
            return Health(ok=False, summary=str(error), details={"address": str(self._address)})
        left = 0 if self._writer is None else self._writer.recovery.left
        told = {"address": str(self._address), "writes": self._writer is not None, "unfinished_groups": left}
        return judge(facts, told)

    @hookimpl
    async def gateway_close(self) -> None:
        """Let what is under way end, then close everything."""
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait([self._recovery])
        if self._writer is not None:
            await self._writer.close()
        if self._senders is not None:
            self._senders.close()
        await self._readers.close()

    def _remind(self) -> None:
        """Look now and then for groups that the crash of another process left behind."""
        now = time.monotonic()
        if now - self._recovered < _RECOVER_EVERY or (self._recovery and not self._recovery.done()):
            return
        self._recovered = now
        self._recovery = asyncio.ensure_future(self._recover())

    async def _recover(self, age: float = AFTERWARDS) -> None:
        try:
            await self._writing().recovery.look(age)
        except StoreError as error:
            _log.warning("groups that a crash left behind could not be looked for: %s", error)
