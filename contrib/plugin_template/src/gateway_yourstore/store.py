"""The asynchronous half: the hooks. One thread does all the work, so that callers never wait for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from gateway.backend import GroupSummary, Health, RangeDigest, Summarize, WriteBatch, WriteReceipt
from gateway.errors import StoreReadOnlyError, StoreUnavailableError
from gateway.hookspecs import hookimpl
from gateway.query import Query, ReadRange, in_range, select
from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_yourstore.errors import translated
from gateway_yourstore.table import all_rows, connect, purge, rows_of_keys, write

__all__ = ["YourStore"]

P = ParamSpec("P")
T = TypeVar("T")


class YourStore:
    """An opened store. Get it from `YourStore.open`."""

    def __init__(
        self, connection: sqlite3.Connection, thread: ThreadPoolExecutor, instance: str, *, read_only: bool
    ) -> None:
        self._connection = connection
        self._thread = thread
        self._instance = instance
        self._read_only = read_only
        self._open = True

    def __repr__(self) -> str:
        return f"<YourStore {self._instance} {'open' if self._open else 'closed'}>"

    @classmethod
    async def open(cls, path: str, instance: str, busy_timeout: float, *, read_only: bool) -> YourStore:
        """Open the file at a path.

        Raises:
            StoreError: It cannot be opened.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"yourstore-{instance}")

        def opened() -> sqlite3.Connection:
            with translated(instance):
                return connect(path, busy_timeout, read_only=read_only)

        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, opened)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(connection, thread, instance, read_only=read_only)

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Apply a batch as a whole or not at all."""
        self._check_writable()
        return await self._run(write, batch)

    @hookimpl
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Return the rows of keys, tombstones as they are."""
        return await self._run(rows_of_keys, kind, tenant, tuple(keys))

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Return a page of rows."""
        return select(query, await self._run(all_rows, query.kind, query.tenant))

    @hookimpl
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Count live rows."""
        rows = await self._run(all_rows, request.kind, request.tenant)
        field = None if request.by is None else request.kind.index(request.by)
        groups: dict[Value, list[Row]] = {} if request.by is not None else {None: []}
        for row in rows:
            if not row.deleted:
                groups.setdefault(None if field is None else row.values[field], []).append(row)
        ordered: list[Any] = sorted(groups, key=lambda value: (value is not None, value))
        return [_summary(request.kind, value, groups[value]) for value in ordered]

    @hookimpl
    async def gateway_digest(self, span: ReadRange) -> RangeDigest:
        """Sum the digests of a stretch of rows."""
        rows = await self._run(all_rows, span.kind, span.tenant)
        digests = [row.digest for row in rows if in_range(span, row)]
        return RangeDigest(len(digests), sum(digests) % 2**64)

    @hookimpl
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Remove rows by age."""
        self._check_writable()
        return await self._run(purge, kind, tenant, before)

    @hookimpl
    async def gateway_health(self) -> Health:
        """Say whether the store is open."""
        if not self._open:
            return Health(ok=False, summary="closed; open the gateway again")
        return Health(ok=True, summary="open", details={"read_only": self._read_only})

    @hookimpl
    async def gateway_close(self) -> None:
        """Wait for what is running, and release the file."""
        if self._open:
            closing = asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
            self._open = False
            await closing
            self._thread.shutdown(wait=False)

    async def _run(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do work on the store's thread; a caller that is cancelled stops waiting only."""
        if not self._open:
            raise StoreUnavailableError("the store is closed; open the gateway again", backend=self._instance)

        def translated_work() -> T:
            with translated(self._instance):
                return work(self._connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._thread, translated_work)

    def _check_writable(self) -> None:
        if self._read_only and self._open:
            raise StoreReadOnlyError("was opened for reading only", backend=self._instance)


def _summary(kind: KindSpec, value: Value, rows: Sequence[Row]) -> GroupSummary:
    times: list[int] = []
    if kind.time_field is not None:
        found = [row.values[kind.index(kind.time_field)] for row in rows]
        times = [time for time in found if isinstance(time, int)]
    return GroupSummary(value, len(rows), min(times, default=None), max(times, default=None))
