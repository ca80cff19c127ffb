"""The reference store with columns and bars, and backends that get them wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.backend import Capability, WriteBatch, WriteReceipt
from gateway.candles import Bar, Sample, bars_of
from gateway.columns import ArrowTable, ColumnBatch
from gateway.frames import table_of_rows
from gateway.hookspecs import hookimpl
from gateway.query import Query, matches, select
from gateway.records.codec import Value
from gateway.records.row import Row
from tests.conformance.broken.specimen import Specimen, breaks, spec_of


class Columnar(Specimen):
    """Takes and gives columns, and samples, as the reference says."""

    capabilities = Specimen.capabilities | {Capability.COLUMNS, Capability.SAMPLE}

    @hookimpl
    async def gateway_write_columns(self, batch: ColumnBatch) -> WriteReceipt:
        """Store the rows."""
        return await self.gateway_write(WriteBatch(batch.rows()))

    @hookimpl
    async def gateway_read_columns(self, query: Query, fields: tuple[str, ...]) -> ArrowTable:
        """Give the rows by column."""
        rows = select(query, self._table(query.kind, query.tenant).values())
        return table_of_rows(query.kind, fields, rows)

    @hookimpl
    async def gateway_sample(self, request: Sample) -> Sequence[Bar]:
        """Give the bars of the rows."""
        return bars_of(self.chosen(request), request)

    def chosen(self, request: Sample) -> list[Row]:
        """Return the rows of a request."""
        rows = self._table(request.kind, request.tenant).values()
        return [row for row in rows if not row.deleted and all(matches(one, row) for one in request.where)]


COLUMNAR = spec_of(Columnar)


@breaks("test_columns_are_stored_as_rows")
class TextsWithoutEnd(Columnar):
    """Cuts what it is given by column at a length."""

    @hookimpl
    async def gateway_write_columns(self, batch: ColumnBatch) -> WriteReceipt:
        """Store rounded numbers."""
        cut = [row._replace(values=tuple(map(_shortened, row.values))) for row in batch]
        return await self.gateway_write(WriteBatch(cut))


def _shortened(value: Value) -> Value:
    return round(value, 3) if isinstance(value, float) else value


@breaks("test_columns_are_guarded_like_rows")
class LastColumnsWin(Columnar):
    """Stores what comes by column whatever its version."""

    @hookimpl
    async def gateway_write_columns(self, batch: ColumnBatch) -> WriteReceipt:
        """Replace the rows."""
        for row in batch:
            self._tables[row.kind, row.tenant][row.key] = row
        return WriteReceipt()


@breaks("test_columns_of_states")
class FirstOfAKey(Columnar):
    """Keeps the first row of a key in a batch."""

    @hookimpl
    async def gateway_write_columns(self, batch: ColumnBatch) -> WriteReceipt:
        """Store each key once."""
        rows = {row.key: row for row in reversed(batch)}
        return await self.gateway_write(WriteBatch(list(rows.values())))


@breaks("test_columns_answer_queries_like_rows")
class AlwaysAscending(Columnar):
    """Does not look at the direction when it gives columns."""

    @hookimpl
    async def gateway_read_columns(self, query: Query, fields: tuple[str, ...]) -> ArrowTable:
        """Answer another query."""
        return await super().gateway_read_columns(replace(query, descending=False), fields)


@breaks("test_columns_of_no_rows")
class ColumnsOfNothing(Columnar):
    """Forgets the types where there are no rows."""

    @hookimpl
    async def gateway_read_columns(self, query: Query, fields: tuple[str, ...]) -> ArrowTable:
        """Answer with columns of no type."""
        table = await super().gateway_read_columns(query, fields)
        return table if len(table) else table.from_pydict({name: [] for name in fields})


@breaks("test_columns_are_seen_at_once", "test_bars_are_seen_at_once")
class OneBehind(Columnar):
    """Shows what was acknowledged when the next batch comes."""

    _late: WriteBatch | None = None

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Store the batch before."""
        late, self._late = self._late, batch
        return WriteReceipt() if late is None else await super().gateway_write(late)


@breaks("test_bars_are_those_of_the_reference")
class UnevenBars(Columnar):
    """Begins its bars at the first tick."""

    @hookimpl
    async def gateway_sample(self, request: Sample) -> Sequence[Bar]:
        """Shift the beginnings."""
        bars = await super().gateway_sample(request)
        return [bar._replace(start=bar.start + 1) for bar in bars]


@breaks("test_bars_of_one_instant")
class ClosedByArrival(Columnar):
    """Takes what arrived last for what is newest."""

    @hookimpl
    async def gateway_sample(self, request: Sample) -> Sequence[Bar]:
        """Close with the last row there is."""
        value = request.kind.index(request.value)
        last = self.chosen(request)[-1].values[value]
        bars = await super().gateway_sample(request)
        return [*bars[:-1], bars[-1]._replace(close=float(last or 0))]


@breaks("test_bars_in_both_directions")
class LimitFromTheStart(Columnar):
    """Counts the limit from the earliest bar, whatever the direction."""

    @hookimpl
    async def gateway_sample(self, request: Sample) -> Sequence[Bar]:
        """Limit first, turn then."""
        bars = await super().gateway_sample(replace(request, descending=False))
        return bars[::-1] if request.descending else bars


@breaks("test_bars_of_chosen_ticks")
class EverySession(Columnar):
    """Looks at the symbol alone."""

    def chosen(self, request: Sample) -> list[Row]:
        """Leave the other conditions out."""
        return super().chosen(replace(request, where=request.where[:1]))


@breaks("test_bars_leave_out_what_is_gone")
class BarsOfTheDead(Columnar):
    """Never forgets a tick."""

    @hookimpl
    async def gateway_write(self, batch: WriteBatch) -> WriteReceipt:
        """Leave tombstones out."""
        live = [step for step in batch.steps if not (isinstance(step, Row) and step.deleted)]
        return await super().gateway_write(WriteBatch(live))
