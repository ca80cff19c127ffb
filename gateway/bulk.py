"""Many rows at once, along the routes of the moment: by column where the store can, by row where it cannot.

While reads are compared with another store, they are read by row: what is compared is rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

from gateway.backend import Capability
from gateway.candles import Bar, Sample, Sampler
from gateway.columns import ArrowTable, ColumnBatch, stamped
from gateway.dispatch import Store
from gateway.engine.engine import Engine
from gateway.frames import has_arrow, joined, last_position, lists_of, table_of_rows
from gateway.query import Query, following
from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Row

__all__ = ["put_columns", "read_lists", "read_table", "sample"]

WRITE_ROWS: Final = 10_000
"""Rows written in one step."""
READ_ROWS: Final = 250_000
"""Rows read by column in one step."""
PAGE_ROWS: Final = 10_000
"""Rows read by row in one step."""


async def put_columns(engine: Engine, kind: KindSpec, columns: Sequence[Sequence[Value]]) -> int:
    """Store columns of canonical values as rows written now, and return how many.

    Args:
        engine: Where they go.
        kind: What they are.
        columns: For each field of the kind the values of all rows; ids that are None are made here.

    Raises:
        StoreError: The primary did not commit some of them.
        MirrorWriteError: The primary has them, a mirror does not have some.
    """
    count = len(columns[0])
    writing: asyncio.Task[None] | None = None
    try:
        for at in range(0, count, WRITE_ROWS):
            part = [column[at : at + WRITE_ROWS] for column in columns] if count > WRITE_ROWS else columns
            batch: ColumnBatch = stamped(engine.stamper, kind, part)
            # One part is written while the next is stamped; more would only fill memory.
            if writing is not None:
                await writing
            writing = asyncio.create_task(engine.put_rows(batch))
    finally:
        if writing is not None:
            await writing
    return count


def _column_reader(engine: Engine, kind: KindSpec) -> Store | None:
    """Return the store that a kind is read from, if it can give columns and nobody compares what it gives."""
    route = engine.plan.listing(kind)
    store = engine.stores[route.reader]
    able = Capability.COLUMNS in store.capabilities and not engine.compared(kind)
    return store if able and has_arrow() else None


async def _tables(
    engine: Engine, store: Store, query: Query, fields: tuple[str, ...], limit: int | None
) -> AsyncIterator[ArrowTable]:
    """Yield tables that have the fields, and perhaps more, from a store that gives columns."""
    kind, wanted = query.kind, fields
    while True:
        query = replace(query, limit=READ_ROWS if limit is None else min(limit, READ_ROWS))
        engine.counters.reads += 1
        table = await store.read_columns(query, wanted)
        more = len(table) == query.limit and query.limit != limit
        missing = tuple(name for name in kind.order if name not in wanted)
        if more and missing:
            wanted += missing  # where a second page begins can only be told by these; most reads have none
            continue
        yield table
        if not more:
            return
        limit = None if limit is None else limit - len(table)
        query = following(query, last_position(kind, table))


async def _pages(engine: Engine, query: Query, limit: int | None) -> AsyncIterator[Sequence[Row]]:
    """Yield pages of rows, no more rows than the limit in all."""
    left = limit
    async for rows in engine.pages(
        replace(query, limit=PAGE_ROWS if limit is None else min(limit, PAGE_ROWS))
    ):
        yield rows if left is None else rows[:left]
        left = None if left is None else left - len(rows)
        if left is not None and left <= 0:
            return


async def read_table(engine: Engine, query: Query, fields: tuple[str, ...], limit: int | None) -> ArrowTable:
    """Return some columns of all rows of a query, at most `limit`, as a table of `arrow_schema`.

    Raises:
        StoreError: The store could not answer.
    """
    kind = query.kind
    store = _column_reader(engine, kind)
    if store is not None:
        tables = [table async for table in _tables(engine, store, query, fields, limit)]
    else:
        tables = [table_of_rows(kind, fields, rows) async for rows in _pages(engine, query, limit)]
    return joined(kind, fields, tables)


async def read_lists(
    engine: Engine, query: Query, fields: tuple[str, ...], limit: int | None
) -> AsyncIterator[list[list[Value]]]:
    """Yield the canonical values of some columns, a page at a time; needs no pyarrow.

    Raises:
        StoreError: The store could not answer.
    """
    kind = query.kind
    store = _column_reader(engine, kind)
    if store is not None:
        async for table in _tables(engine, store, query, fields, limit):
            yield lists_of(table.select(list(fields)))
        return
    positions = [kind.index(name) for name in fields]
    async for rows in _pages(engine, query, limit):
        yield [[row.values[at] for row in rows] for at in positions]


async def sample(engine: Engine, request: Sample) -> list[Bar]:
    """Return bars, computed by the store that is read, or here from a stream of its rows.

    Raises:
        StoreError: The store could not answer.
    """
    route = engine.plan.listing(request.kind)
    store = engine.stores[route.reader]
    if Capability.SAMPLE in store.capabilities and not engine.compared(request.kind):
        engine.counters.reads += 1
        return list(await store.sample(request))
    query = Query(request.kind, request.tenant, request.where, request.descending, PAGE_ROWS)
    sampler, bars = Sampler(request), list[Bar]()
    async for rows in engine.pages(query):
        bars += filter(None, map(sampler.add, rows))
        if request.limit is not None and len(bars) >= request.limit:
            return bars[: request.limit]
    last = sampler.end()
    return bars if last is None else [*bars, last]
