"""The reference implementation of `gateway.backend.Backend`: what every store must do, and nothing else.

Each method does its work without an `await` in between. On one event loop that makes it atomic, and a
cancelled call has either not begun or is complete; a store with real I/O needs a transaction and a lock to
keep the same promise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from gateway.backend import GroupSummary, Health, RangeDigest, Summarize, WriteBatch, WriteReceipt
from gateway.errors import StoreFullError, StoreReadOnlyError, StoreUnavailableError
from gateway.hookspecs import hookimpl
from gateway.query import Query, ReadRange, in_range, select
from gateway.records.codec import Value, to_micros
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_memory.transaction import Table, Tables, Transaction

__all__ = ["MemoryStore"]


class MemoryStore:
    """Rows in dictionaries, one for each kind and tenant.

    Args:
        instance: Name in errors.
        max_rows: Rows kept at most, tombstones included.
        read_only: Refuse writes.
    """

    def __init__(self, instance: str, *, max_rows: int, read_only: bool = False) -> None:
        self._instance = instance
        self._max_rows = max_rows
        self._read_only = read_only
        self._tables: Tables = defaultdict(dict)
        self._open = True

    def __repr__(self) -> str:
        return f"<MemoryStore {self._instance} rows={self._count()} {'open' if self._open else 'closed'}>"

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Apply a batch as a whole or not at all."""
        self._check_writable()
        transaction = Transaction(self._tables)
        for index, step in enumerate(batch.steps):
            transaction.take(index, step)
        self._commit(transaction)
        return WriteReceipt(superseded=transaction.superseded, updated=transaction.updated)

    @hookimpl
    async def gateway_get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> Sequence[Row | None]:
        """Return the rows of keys, tombstones as they are."""
        table = self._table(kind, tenant)
        return [table.get(key) for key in keys]

    @hookimpl
    async def gateway_query(self, query: Query) -> Sequence[Row]:
        """Return a page of rows."""
        return select(query, self._table(query.kind, query.tenant).values())

    @hookimpl
    async def gateway_summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Count live rows, None before every other value."""
        groups: dict[Value, list[Row]] = {} if request.by is not None else {None: []}
        field = None if request.by is None else request.kind.index(request.by)
        for row in self._table(request.kind, request.tenant).values():
            if not row.deleted:
                groups.setdefault(None if field is None else row.values[field], []).append(row)
        ordered = sorted(groups.items(), key=_none_first)
        return [_summary(value, rows) for value, rows in ordered]

    @hookimpl
    async def gateway_digest(self, span: ReadRange) -> RangeDigest:
        """Sum the digests of a stretch of rows."""
        digests = [row.digest for row in self._table(span.kind, span.tenant).values() if in_range(span, row)]
        return RangeDigest(rows=len(digests), total=sum(digests) % 2**64)

    @hookimpl
    async def gateway_purge(self, kind: KindSpec, tenant: str, before: datetime) -> int:
        """Remove rows, tombstones too, whose time lies before a moment; rows without a time stay."""
        self._check_writable()
        table, limit = self._table(kind, tenant), to_micros(before)
        old = [key for key, row in table.items() if (time := _time_of(row)) is not None and time < limit]
        for key in old:
            del table[key]
        return len(old)

    @hookimpl
    async def gateway_health(self) -> Health:
        """Say whether the store is open and how full it is."""
        if not self._open:
            return Health(ok=False, summary="closed; open the gateway again")
        details = {"rows": self._count(), "max_rows": self._max_rows}
        return Health(ok=True, summary="in memory", details=details)

    @hookimpl
    async def gateway_close(self) -> None:
        """Forget every row."""
        self._open = False
        self._tables.clear()

    def _table(self, kind: KindSpec, tenant: str) -> Table:
        self._check_open()
        return self._tables.get((kind, tenant), {})

    def _check_open(self) -> None:
        """Refuse to answer once closed: a closed store must not look like an empty one."""
        if not self._open:
            raise StoreUnavailableError("the store is closed; open the gateway again", backend=self._instance)

    def _check_writable(self) -> None:
        self._check_open()
        if self._read_only:
            raise StoreReadOnlyError("was opened for reading only", backend=self._instance)

    def _commit(self, transaction: Transaction) -> None:
        """Make a transaction's rows visible, unless they do not fit."""
        if self._count() + transaction.added > self._max_rows:
            raise StoreFullError(
                f"holds its {self._max_rows} rows; raise STORAGE_{self._instance.upper()}_MAX_ROWS, or purge",
                backend=self._instance,
            )
        for (kind, tenant, key), row in transaction.rows.items():
            self._tables[kind, tenant][key] = row

    def _count(self) -> int:
        return sum(map(len, self._tables.values()))


def _none_first(group: tuple[Value, list[Row]]) -> tuple[bool, Value]:
    value, _ = group
    return (value is not None, value)


def _time_of(row: Row) -> int | None:
    """Return the row's time field in microseconds; None where it has none."""
    if row.kind.time_field is None:
        return None
    time = row.values[row.kind.index(row.kind.time_field)]
    return time if isinstance(time, int) else None


def _summary(value: Value, rows: Sequence[Row]) -> GroupSummary:
    times = [time for row in rows if (time := _time_of(row)) is not None]
    return GroupSummary(value, len(rows), min(times, default=None), max(times, default=None))
