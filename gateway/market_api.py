"""What bots call for market data: frames, indicator series, candles and latest prices. Parts of `gateway.api`.

Frames need the extra `frames`; without it the calls that answer with one raise `ConfigurationError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from gateway.answers import Candles, SeriesDescription
from gateway.columns import ArrowTable
from gateway.records.market import Indicator, TickPrice
from gateway.series import IndicatorValue, Mode

__all__ = ["Frames", "IndicatorSeriesCalls", "Market"]


class Frames(Protocol):
    """Many records at once, by column."""

    async def put_frame(self, kind: str, frame: Any) -> int:
        """Store the rows of a frame and return how many.

        What `put_many` does with as many records, several times as fast: the same refusals, stamps, mirrors and
        durability. Nothing is stored if a value is refused. Repeating the call after an error is safe if the frame
        brings the `record_id` of each row of a log.

        Args:
            kind: What the rows are. The time of a log is required.
            frame: A mapping of columns to lists, a pandas DataFrame (a named index is a column), a `pyarrow.Table` or
                `RecordBatch`, a polars DataFrame, or anything else with Arrow's C interface. In pandas NaN means that
                there is no value, which only fields that may be None take; elsewhere NaN is refused. JSON may come
                as text.

        Raises:
            InvalidRecordError: A column is unknown or missing, or a value is refused; nothing was stored.
            StoreError: The primary did not commit some of the rows.
        """
        ...

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
        """Return records as a `pyarrow.Table`, by time for logs, by key for the rest.

        Money comes as decimals (decimal256), times as UTC microseconds, JSON as text.

        Args:
            kind: Name of the kind.
            where: As in `query`.
            since: From this time on, inclusive, by the kind's time field.
            until: Before this time, exclusive.
            limit: At most this many, from the first on; None for all.
            columns: Which fields, in this order; None for all.
        """
        ...


class IndicatorSeriesCalls(Protocol):
    """Series of computed values: one value a moment, told by session, symbol and indicator, each by equality."""

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
        """Store values of a series and return for how many moments.

        Idempotent: a value replaces the one of the same time, so a repetition or a correction never doubles. Of
        several values of one time in one call the last stays.

        Args:
            values: `IndicatorValue`s, mappings with `timestamp`, `value`, and perhaps `confidence`, `metadata` and
                `indicator_type`, or a frame with those columns.
            session_id: The session.
            symbol: The symbol.
            indicator_id: The indicator. Instead of it:
            variant_type: First part of the id `{variant_type}_{variant_id}`; `general` if it is left out.
            variant_id: Second part of it.
            mode: `append` adds to what is there. `overwrite` replaces the whole series at one stroke: a reader gets
                the old values or the new ones, never a mix; a crash before the stroke leaves the old ones, and of
                several at once the values of exactly one stay. An `append` that runs beside it is in the series
                afterwards unless it was complete before the stroke. Overwriting with nothing empties the series.

        Raises:
            InvalidRecordError: A value is refused; nothing was stored.
            StoreError: The primary did not commit; an overwrite has changed nothing, the call can be repeated.
        """
        ...

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
        """Return the values of a series, the earliest first; an empty list if there are none.

        Args:
            session_id: The session.
            symbol: The symbol.
            indicator_id: The indicator, compared for equality.
            since: From this time on, inclusive.
            until: Before this time, exclusive.
            limit: At most this many; None for all.
            latest: Whether the limit keeps the latest of them, or the earliest.
        """
        ...

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
        """Return the values of a series as a `pyarrow.Table`, the earliest first; see `load_indicators`."""
        ...

    async def describe_indicators(self, session_id: str, symbol: str, indicator_id: str) -> SeriesDescription:
        """Return what there is of a series. It is counted, so it takes as long as reading the times of all values."""
        ...

    async def prune_indicators(
        self, session_id: str, symbol: str, indicator_id: str, *, older_than: timedelta = timedelta(hours=1)
    ) -> int:
        """Delete what an overwritten series held before, and return how many values that were.

        Nothing is deleted until the current values have been current for `older_than`, so that whoever reads the
        former ones, or is about to switch to others, has that long to finish. Deleting writes tombstones, which
        `purge` removes by age.
        """
        ...


class Market(Protocol):
    """Prices."""

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
        """Return candles, the earliest first, and in `source` where they come from.

        Stored candles, if there are any in the span; else candles sampled from the symbol's tick prices. A span
        selects the candles that begin in it, and each is whole. A stretch without ticks has no candle.

        Args:
            symbol: The symbol.
            interval: Length of a candle: a whole number and `s`, `m`, `h` or `d`, such as `5m`. Candles begin at whole
                multiples of it since 1970-01-01 UTC.
            since: Candles that begin at this time or later.
            until: Candles that begin before this time.
            limit: At most this many; None for all.
            session_id: Only ticks of this session. Stored candles belong to none, so they are not looked at.
            latest: Whether the limit keeps the latest of them, or the earliest.
        """
        ...

    async def latest_prices(self, symbols: Iterable[str] | None = None) -> dict[str, TickPrice]:
        """Return the latest tick of each symbol; a symbol without ticks is left out.

        Of several ticks of one time, the one written last.

        Args:
            symbols: Which symbols; None for all there are, which takes a look at every tick.
        """
        ...
