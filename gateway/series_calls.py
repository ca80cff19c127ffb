"""The calls about indicator series. `gateway.market_api.IndicatorSeriesCalls` documents each.

How an overwrite is one stroke: its values are written under a generation of their own first, and count for nothing
yet. Then one row of `indicator_series` is written, which names that generation. Readers read that row, then the values
of the generation it names.

How an append stays in the series though an overwrite runs beside it: it is written under the generation that seems
to be the current one, and afterwards that is looked up. If it has changed, the values are written again, under the
new one. So what was acknowledged was in the current generation at a moment after the call began.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from gateway.answers import SeriesDescription
from gateway.bulk import put_columns, read_lists, read_table
from gateway.calls import checked_limit
from gateway.columns import ArrowTable
from gateway.errors import InvalidRecordError, StoreBusyError
from gateway.filters import time_bounds
from gateway.frames import arrow, frame_of
from gateway.market_calls import MarketCalls, fields_of
from gateway.query import Query
from gateway.records.codec import Value, from_micros
from gateway.records.market import INDICATOR_SERIES, INDICATORS, Indicator, IndicatorSeries
from gateway.records.row import Row
from gateway.series import (
    LOADED,
    IndicatorValue,
    Mode,
    Series,
    SeriesColumns,
    columns_of_values,
    completed,
    indicators_of,
    mode_of,
    of_generation,
    series_of,
)

__all__ = ["SeriesCalls"]

MAX_SWITCHES: Final = 20
"""Overwrites that one append may be overtaken by."""
GUESSES: Final = 10_000
"""Series whose generation is remembered, as a first guess."""


class SeriesCalls(MarketCalls):
    """Implements `gateway.market_api.IndicatorSeriesCalls` on an engine."""

    _guesses: dict[Series, str | None]

    async def save_indicators(
        self,
        values: Iterable[IndicatorValue | Indicator | Mapping[str, Any]] | Any,
        *,
        session_id: str,
        symbol: str,
        indicator_id: str | None = None,
        variant_type: str | None = None,
        variant_id: str | None = None,
        mode: Mode = "append",
    ) -> int:
        """Store values of a series; see `gateway.market_api.IndicatorSeriesCalls.save_indicators`."""
        series = series_of(session_id, symbol, indicator_id, variant_type, variant_id)
        overwrite = mode_of(mode) == "overwrite"
        columns = columns_of_values(values, series)
        if overwrite:
            await self._overwrite(series, columns)
        elif columns[0]:
            await self._append(series, columns)
        return len(columns[0])

    async def _overwrite(self, series: Series, columns: SeriesColumns) -> None:
        engine = self.engine
        generation = engine.stamper.new_id()
        if columns[0]:
            await put_columns(engine, INDICATORS, of_generation(columns, series, generation))
        before = await engine.get(INDICATOR_SERIES, series.key)
        if before is not None:
            engine.stamper.clock.observe(before.version)  # another machine's clock may be ahead
        session_id, symbol, indicator_id = series.key
        record = IndicatorSeries(
            session_id=session_id,
            symbol=symbol,
            indicator_id=indicator_id,
            generation=generation,
            switched_at=datetime.now(UTC),
        )
        await engine.put(INDICATOR_SERIES, record)
        self._guess(series, generation)

    async def _append(self, series: Series, columns: SeriesColumns) -> None:
        for _ in range(MAX_SWITCHES):
            known = series in self._guesses
            generation = self._guesses[series] if known else await self._generation(series)
            await put_columns(self.engine, INDICATORS, of_generation(columns, series, generation))
            if await self._generation(series) == generation:
                return
        raise StoreBusyError(
            f"the series {'/'.join(series.key)} was overwritten {MAX_SWITCHES} times while values were added to it; "
            "stop whoever overwrites it, and repeat the call"
        )

    async def _state(self, series: Series) -> Row | None:
        return await self.engine.get(INDICATOR_SERIES, series.key)

    async def _generation(self, series: Series) -> str | None:
        """Return the current generation of a series, and remember it as the next guess."""
        row = await self._state(series)
        held = None if row is None else cast("str", row.values[INDICATOR_SERIES.index("generation")])
        self._guess(series, held)
        return held

    def _guess(self, series: Series, generation: str | None) -> None:
        if len(self._guesses) >= GUESSES:
            self._guesses.clear()
        self._guesses[series] = generation

    async def load_indicators(
        self,
        session_id: str,
        symbol: str,
        indicator_id: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        latest: bool = True,
    ) -> list[Indicator]:
        """Return the values of a series; see `gateway.market_api.IndicatorSeriesCalls.load_indicators`."""
        series = series_of(session_id, symbol, indicator_id, None, None)
        generation, query = await self._values(series, since, until, limit, latest)
        pages = read_lists(self.engine, query, LOADED, limit)
        found: list[Indicator] = []
        async for lists in pages:
            found += indicators_of(completed(lists, series, generation))
        return found[::-1] if query.descending else found

    async def load_indicator_columns(
        self,
        session_id: str,
        symbol: str,
        indicator_id: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        latest: bool = True,
        columns: Iterable[str] = ("timestamp", "value", "confidence"),
    ) -> ArrowTable:
        """Return a series as a table; see `gateway.market_api.IndicatorSeriesCalls.load_indicator_columns`."""
        series = series_of(session_id, symbol, indicator_id, None, None)
        fields = fields_of(INDICATORS, columns)
        arrow()  # its lack is told before a store is asked
        _, query = await self._values(series, since, until, limit, latest)
        table = await read_table(self.engine, query, fields, limit)
        if query.descending:
            table = table.take(list(range(len(table) - 1, -1, -1)))
        return frame_of(INDICATORS, table)

    async def _values(
        self, series: Series, since: datetime | None, until: datetime | None, limit: int | None, latest: bool
    ) -> tuple[str | None, Query]:
        """Return the current generation and the query for its values; descending if a limit keeps the latest."""
        checked_limit(limit)
        bounds = time_bounds(INDICATORS, since, until)
        generation = await self._generation(series)
        chosen = (*series.where(generation), *bounds)
        return generation, Query(
            INDICATORS, self.engine.stamper.tenant, chosen, descending=latest and limit is not None
        )

    async def describe_indicators(self, session_id: str, symbol: str, indicator_id: str) -> SeriesDescription:
        """Return what there is of a series; see `gateway.market_api.IndicatorSeriesCalls.describe_indicators`."""
        series = series_of(session_id, symbol, indicator_id, None, None)
        generation = await self._generation(series)
        engine = self.engine
        store = engine.plan.listing(INDICATORS).reader
        query = Query(INDICATORS, engine.stamper.tenant, series.where(generation))
        rows, first, last = 0, None, None
        async for (moments,) in read_lists(engine, query, ("timestamp",), None):
            if moments:
                first = cast("int", moments[0]) if first is None else first
                rows, last = rows + len(moments), cast("int", moments[-1])
        began, ended = (None if end is None else from_micros(end) for end in (first, last))
        return SeriesDescription(rows > 0, rows, began, ended, store, generation)

    async def prune_indicators(
        self, session_id: str, symbol: str, indicator_id: str, *, older_than: timedelta = timedelta(hours=1)
    ) -> int:
        """Delete former values; see `gateway.market_api.IndicatorSeriesCalls.prune_indicators`."""
        age = _age(older_than)
        series = series_of(session_id, symbol, indicator_id, None, None)
        row = await self._state(series)
        if row is None:
            return 0
        current = cast("IndicatorSeries", row.record())
        if datetime.now(UTC) - current.switched_at < age:
            return 0
        count = 0
        async for rows in self._former(series, current.generation):
            stamper = self.engine.stamper
            stamper.clock.observe(max(row.version for row in rows))
            moment = INDICATORS.index("timestamp")
            gone = [stamper.tombstone(INDICATORS, one.key, one.values[moment]) for one in rows]
            await self.engine.put_rows(gone)
            count += len(gone)
        return count

    async def _former(self, series: Series, current: str) -> AsyncIterator[list[Row]]:
        """Yield pages of the values that were current before; those of an overwrite under way are newer."""
        query = Query(INDICATORS, self.engine.stamper.tenant, series.where(None)[:-1])
        place = INDICATORS.index("generation")
        async for rows in self.engine.pages(query):
            former = [row for row in rows if _before(row.values[place], current)]
            if former:
                yield former


def _age(older_than: object) -> timedelta:
    if not isinstance(older_than, timedelta) or older_than < timedelta(0):
        raise InvalidRecordError(
            "older_than is a length of time such as timedelta(hours=1), and not negative"
        )
    return older_than


def _before(generation: Value, current: str) -> bool:
    """Tell whether a generation came before another; ids of generations sort by time, and none is the first."""
    return generation is None or (isinstance(generation, str) and generation < current)
