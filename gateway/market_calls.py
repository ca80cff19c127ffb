"""The calls about frames and prices. `gateway.market_api` documents each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, cast

from gateway.answers import Candles
from gateway.backend import Summarize
from gateway.bulk import put_columns, read_table, sample
from gateway.calls import RecordCalls, checked_limit, writable
from gateway.candles import Bar, Sample, interval_micros, whole_bars
from gateway.columns import ArrowTable
from gateway.errors import InvalidRecordError
from gateway.filters import conditions, time_bounds
from gateway.frames import arrow, frame_of
from gateway.frames_input import columns_of_frame
from gateway.query import Condition, Op, Query
from gateway.records.codec import codec_of, from_micros
from gateway.records.kind import KindSpec
from gateway.records.market import CANDLES, TICK_PRICES, Candle, TickPrice
from gateway.records.row import Row

__all__ = ["MarketCalls"]

BIG_FRAME: Final = 20_000
"""Rows from which on a frame is looked at in a thread, so that other calls get their turns."""
TIES: Final = 16
"""Ticks looked at first, to find the last of those that share the latest time."""
AT_ONCE: Final = 8
"""Symbols looked up at the same time."""


class MarketCalls(RecordCalls):
    """Implements `gateway.market_api.Frames` and `Market` on an engine."""

    async def put_frame(self, kind: str, frame: Any) -> int:
        """Store the rows of a frame; see `gateway.market_api.Frames.put_frame`."""
        spec = writable(self._kind(kind))
        engine = self.engine
        if _rows(frame) < BIG_FRAME:
            columns = columns_of_frame(spec, frame)
        else:
            columns = await asyncio.to_thread(columns_of_frame, spec, frame)
        return await put_columns(engine, spec, columns)

    async def query_frame(
        self,
        kind: str,
        *,
        where: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        columns: Iterable[str] | None = None,
    ) -> ArrowTable:
        """Return records as a table; see `gateway.market_api.Frames.query_frame`."""
        spec = self._kind(kind)
        fields = fields_of(spec, columns)
        checked_limit(limit)
        arrow()  # its lack is told before a store is asked
        chosen = (*conditions(spec, where), *time_bounds(spec, since, until))
        query = Query(spec, self.engine.stamper.tenant, chosen)
        return frame_of(spec, await read_table(self.engine, query, fields, limit))

    async def get_candles(
        self,
        symbol: str,
        interval: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = 1000,
        session_id: str | None = None,
        latest: bool = True,
    ) -> Candles:
        """Return candles; see `gateway.market_api.Market.get_candles`."""
        step = interval_micros(interval)
        # A limit counts from its end; without one both ends give the same, and upward is how stores keep them.
        down = latest and limit is not None
        if session_id is None:
            named = {"symbol": symbol, "interval": interval}
            rows = await self._list(CANDLES, named, since, until, "desc" if down else "asc", limit)
            if rows:
                return Candles([cast("Candle", row.record()) for row in _upward(rows, down)], "stored")
        checked_limit(limit)
        where = {"symbol": symbol} if session_id is None else {"symbol": symbol, "session_id": session_id}
        chosen = (*conditions(TICK_PRICES, where), *_whole_span(step, since, until))
        request = Sample(TICK_PRICES, self.engine.stamper.tenant, chosen, step, descending=down, limit=limit)
        bars = await sample(self.engine, request)
        return Candles([_candle(symbol, interval, bar) for bar in _upward(bars, down)], "ticks")

    async def latest_prices(self, symbols: Iterable[str] | None = None) -> dict[str, TickPrice]:
        """Return the latest tick of each symbol; see `gateway.market_api.Market.latest_prices`."""
        names = await self._symbols() if symbols is None else _texts(symbols)
        found: list[Row | None] = []
        for at in range(0, len(names), AT_ONCE):
            found += await asyncio.gather(*map(self._latest, names[at : at + AT_ONCE]))
        return {
            name: cast("TickPrice", row.record())
            for name, row in zip(names, found, strict=True)
            if row is not None
        }

    async def _symbols(self) -> list[str]:
        request = Summarize(TICK_PRICES, self.engine.stamper.tenant, by="symbol")
        return [str(group.value) for group in await self.engine.summarize(request)]

    async def _latest(self, symbol: str) -> Row | None:
        """Return the last tick of a symbol by time, version and digest."""
        tenant = self.engine.stamper.tenant
        chosen = conditions(TICK_PRICES, {"symbol": symbol})
        rows = list(await self.engine.query(Query(TICK_PRICES, tenant, chosen, descending=True, limit=TIES)))
        if not rows:
            return None
        place = TICK_PRICES.index("timestamp")
        moment = rows[0].values[place]
        last = max((row for row in rows if row.values[place] == moment), key=lambda row: row.stamp)
        if len(rows) == TIES and rows[-1].values[place] == moment:
            ties = Query(TICK_PRICES, tenant, (*chosen, Condition("timestamp", Op.EQ, moment)), limit=1000)
            async for page in self.engine.pages(ties):
                last = max((last, *page), key=lambda row: row.stamp)
        return last


def fields_of(kind: KindSpec, columns: Iterable[str] | None) -> tuple[str, ...]:
    """Return which columns a call asks for; raises `InvalidRecordError` for one that the kind has not."""
    if columns is None:
        return kind.field_names
    fields = _texts(columns)
    unknown = [name for name in fields if name not in kind.field_names]
    if unknown or not fields:
        raise InvalidRecordError(
            f"{kind.name} has no column {unknown[0] if unknown else ''!r}; "
            f"its columns are {', '.join(kind.field_names)}"
        )
    return tuple(fields)


def _texts(given: Iterable[str]) -> list[str]:
    """Return a list of names, each once."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidRecordError(f"give a list of names such as ['BTC'], not {type(given).__name__}")
    names = list(dict.fromkeys(given))
    if not all(isinstance(name, str) for name in names):
        raise InvalidRecordError("a name in the list is no text")
    return names


def _rows(frame: Any) -> int:
    """Return how many rows a frame has, as far as that can be told without reading it."""
    one = next(iter(frame.values()), ()) if isinstance(frame, Mapping) else frame
    return len(one) if hasattr(one, "__len__") else BIG_FRAME


def _upward(items: list[Any], down: bool) -> list[Any]:
    return items[::-1] if down else items


def _whole_span(step: int, since: datetime | None, until: datetime | None) -> list[Condition]:
    """Return the time conditions on ticks that make the candles of a span whole."""
    field = cast("str", TICK_PRICES.time_field)
    codec = codec_of(TICK_PRICES)
    given = (cast("int | None", codec.encode_field(field, bound)) for bound in (since, until))
    bounds = zip((Op.GE, Op.LT), whole_bars(step, *given), strict=True)
    return [Condition(field, op, bound) for op, bound in bounds if bound is not None]


def _candle(symbol: str, interval: str, bar: Bar) -> Candle:
    return Candle(
        symbol=symbol,
        interval=interval,
        timestamp=from_micros(bar.start),
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=bar.volume,
    )
