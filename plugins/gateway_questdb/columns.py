"""Rows by column: exports as Parquet over HTTP, read into Arrow.

An export is four times as fast as rows over the PostgreSQL protocol, as long as the server need not choose among
versions nor sort. It need not where no two rows of the answer have one time: then every row is the only version of its
kind that can be there, and time alone is the order. So that is looked at in the answer, and only otherwise the export
is done once more, with the choice.
"""

from __future__ import annotations

import asyncio
import io
from typing import Any, Final

from gateway.columns import ArrowTable
from gateway.frames import arrow, arrow_schema, table_of_rows
from gateway.query import Query
from gateway_questdb.conditions import Literals
from gateway_questdb.http import Http
from gateway_questdb.layout import Form, Layout
from gateway_questdb.listings import export, pushable
from gateway_questdb.lookups import loose_count, loose_ids
from gateway_questdb.origins import Origin
from gateway_questdb.reads import Answers
from gateway_questdb.statements import Statement
from gateway_questdb.values import LEAST_LONG, least_fields

__all__ = ["Columns"]

_LOOSE: Final = 50_000
"""Loose rows of a tenant up to which an export is compared with them."""

_LONGEST: Final = 30_000
"""Bytes of a statement that fit into the first line of a request, which servers limit to 64 KiB."""


class Columns:
    """Reads by column.

    Args:
        answers: Waits for tables, knows what rows can be, and reads by row what cannot be exported.
        http: To export with.
    """

    def __init__(self, answers: Answers, http: Http) -> None:
        self._answers = answers
        self._http = http

    async def read(self, query: Query, fields: tuple[str, ...]) -> ArrowTable:
        """Return some columns of the rows of a query, as `ColumnStore.gateway_read_columns` says."""
        arrow()
        layout = await self._answers.layout(query.kind)

        async def ask(origin: Origin) -> ArrowTable:
            return await self._read(layout, query, fields, origin)

        return await self._answers.by_origin(layout, query.tenant, ask)

    async def _read(
        self, layout: Layout, query: Query, fields: tuple[str, ...], origin: Origin
    ) -> ArrowTable:
        statement = export(layout, query, origin, fields, query.limit, ordered=True)
        # A whole number that is the least one cannot be told from None in an export.
        least = set(fields) & set(least_fields(layout))
        long = len(statement.text.encode()) > _LONGEST
        if statement.unsure or least or long or not Literals.holds(query):
            rows = await self._answers.page(layout, query, origin)
            return await asyncio.to_thread(table_of_rows, query.kind, fields, rows)
        if layout.log and pushable(layout, query, min(origin, Origin.DATED)):
            found = await self._plain(layout, query, fields, origin)
            if found is not None:
                return found
        return await self._export(layout, statement, fields)

    async def _plain(
        self, layout: Layout, query: Query, fields: tuple[str, ...], origin: Origin
    ) -> ArrowTable | None:
        """Return what an export gives in which no versions were chosen; None if there were some to choose."""
        key = layout.kind.key[0]
        if origin is Origin.LOOSE:
            ((count,),) = await self._answers.fetch(loose_count(layout, query.tenant))
            if count > _LOOSE:
                return None
        needed = (layout.designated,) if origin is not Origin.LOOSE else (layout.designated, key)
        named = (*fields, *(name for name in needed if name not in fields))
        plain = export(layout, query, Origin.FRESH, named, query.limit + 1, ordered=False)
        found = await self._export(layout, plain, named)
        if not _distinct(found.column(layout.designated)):
            return None
        if origin is Origin.LOOSE:
            loose = loose_ids(layout, query.tenant, _LOOSE + 1)
            others = await self._export(layout, loose, (key,))
            if len(others) > _LOOSE or _common(found.column(key), others.column(key)):
                return None
        return found.slice(0, query.limit).select(list(fields))

    async def _export(self, layout: Layout, statement: Statement, fields: tuple[str, ...]) -> ArrowTable:
        return await asyncio.to_thread(self._exported, layout, statement, fields)

    def _exported(self, layout: Layout, statement: Statement, fields: tuple[str, ...]) -> ArrowTable:
        body = self._http.get("exp", {"fmt": "parquet", "query": statement.text})
        schema = arrow_schema(layout.kind, fields)
        if not body:
            return schema.empty_table()
        import pyarrow.parquet as pq  # type: ignore[import-untyped] # it brings no types

        found = pq.read_table(io.BytesIO(body), use_threads=False)
        columns = [
            _canonical(layout, name, found.column(at)).cast(one.type)
            for at, (name, one) in enumerate(zip(fields, schema, strict=True))
        ]
        return arrow().table(columns, schema=schema)


def _canonical(layout: Layout, name: str, column: Any) -> Any:
    """Return a column of an export as canonical values."""
    pa, form = arrow(), layout.form(name)
    if form is Form.DECIMAL:
        return pa.compute.utf8_rtrim(pa.compute.utf8_rtrim(column.cast(pa.string()), "0"), ".")
    if form is Form.FLAG:
        return pa.compute.equal(column.cast(pa.string()), "true")
    if form is Form.TIMESTAMP:
        return column.cast(pa.int64())
    if form is Form.LONG and name in layout.kind.key:
        return column.fill_null(LEAST_LONG)
    if form in {Form.VARCHAR, Form.SYMBOL}:
        return column.cast(pa.string())
    return column


def _common(ids: Any, others: Any) -> bool:
    """Tell whether two columns have a value in common."""
    pa = arrow()
    return bool(pa.compute.any(pa.compute.is_in(ids, value_set=others.combine_chunks())).as_py())


def _distinct(times: Any) -> bool:
    """Tell whether no two neighbours in a column of ascending or descending times are equal."""
    pa = arrow()
    count = len(times)
    if count < 2:
        return True
    plain = times.combine_chunks()
    return not pa.compute.any(pa.compute.equal(plain.slice(0, count - 1), plain.slice(1))).as_py()
