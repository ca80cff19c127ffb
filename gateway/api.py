"""What bots call: one stable, typed API over every store.

`StorageGateway` joins the parts; a function that needs only trades can ask for `Trades`. Every method:

* takes a record object or the same fields as keyword arguments, and never changes what it was given;
* wants aware times and exact numbers, and refuses NaN, infinities, naive datetimes and unknown fields with
  `InvalidRecordError` before any store is touched;
* raises `StoreError` when a store cannot answer. An empty list and None always mean "there is none".

A write returns an `Ack` once the primary committed it, and, while the mirror mode is `sync`, once the mirror has too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import date as Date
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, overload

from typing_extensions import Unpack

from gateway.answers import Ack, GatewayHealth, Page, Session
from gateway.fields import AlertFields, EventFields, Number, PositionFields, SnapshotFields, TradeFields
from gateway.market_api import Frames, IndicatorSeriesCalls, Market
from gateway.records.activity import Alert, DailyStats, Event
from gateway.records.kind import Record
from gateway.records.market import OrderBookSnapshot
from gateway.records.trading import Position, Trade

__all__ = [
    "Ack",
    "Alerts",
    "Events",
    "Frames",
    "GatewayHealth",
    "IndicatorSeriesCalls",
    "Maintenance",
    "Market",
    "Order",
    "Page",
    "Positions",
    "Records",
    "Session",
    "Snapshots",
    "Statistics",
    "StorageGateway",
    "Trades",
]

Order = Literal["asc", "desc"]
"""Listing order: by time for logs, by key for the rest."""


class Positions(Protocol):
    """What the bot holds, one position a market. Survives restarts; closed ones stay as history."""

    @overload
    async def save_position(self, position: Position, /) -> Ack: ...
    @overload
    async def save_position(self, /, **fields: Unpack[PositionFields]) -> Ack: ...
    async def save_position(self, position: Position | None = None, /, **fields: Any) -> Ack:
        """Store a position, replacing what was known of this market. Idempotent; the last call wins.

        Raises:
            InvalidRecordError: A required field is missing or a value is refused.
        """
        ...

    async def load_position(self, condition_id: str) -> Position | None:
        """Return a market's position, open or closed last; None if there never was one."""
        ...

    async def close_position(
        self,
        condition_id: str,
        reason: str,
        *,
        closed_at: datetime | None = None,
        exit_price: Number | None = None,
        pnl: Number | None = None,
    ) -> Position | None:
        """Close a market's position and keep a copy in `closed_positions`, in one step.

        Idempotent: closing what is closed already changes nothing and returns it as it is.

        Args:
            condition_id: The market.
            reason: `stop-loss`, `take-profit`, `market-close` or the bot's own.
            closed_at: Defaults to now.
            exit_price: Price got for one unit.
            pnl: Profit, in the quote currency.

        Returns:
            The closed position; None if there is no position in this market.
        """
        ...

    async def get_open_positions(self) -> list[Position]:
        """Return all open positions, by market id."""
        ...


class Trades(Protocol):
    """What the bot did in the market."""

    @overload
    async def insert_trade(self, trade: Trade, /) -> Ack: ...
    @overload
    async def insert_trade(self, /, **fields: Unpack[TradeFields]) -> Ack: ...
    async def insert_trade(self, trade: Trade | None = None, /, **fields: Any) -> Ack:
        """Store a trade. Give a `record_id` to make retries idempotent; without one, each call is a new trade."""
        ...

    async def get_trades(
        self,
        *,
        market: str | None = None,
        date: Date | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = 100,
        order: Order = "desc",
    ) -> list[Trade]:
        """Return trades, the newest first unless `order="asc"`.

        Args:
            market: Only this market name.
            date: Only this day, in UTC.
            since: From this time on, inclusive.
            until: Before this time, exclusive.
            limit: At most this many, counted from the end the listing starts at; None for all.
            order: `desc` for the newest first.
        """
        ...


class Events(Protocol):
    """Sessions recorded step by step, for replay."""

    @overload
    async def record_event(self, event: Event, /) -> Ack: ...
    @overload
    async def record_event(self, /, **fields: Unpack[EventFields]) -> Ack: ...
    async def record_event(self, event: Event | None = None, /, **fields: Any) -> Ack:
        """Store one event. `timestamp` defaults to now."""
        ...

    async def get_events(
        self,
        session_id: str | None = None,
        *,
        event_type: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        order: Order = "asc",
    ) -> list[Event]:
        """Return events in the order they happened; all of them unless `limit` is given."""
        ...

    async def list_sessions(self) -> list[Session]:
        """Return the recorded sessions, the latest first."""
        ...


class Snapshots(Protocol):
    """Order books, many a second: buffered, written in batches."""

    @overload
    async def buffer_snapshot(self, snapshot: OrderBookSnapshot, /) -> str: ...
    @overload
    async def buffer_snapshot(self, /, **fields: Unpack[SnapshotFields]) -> str: ...
    async def buffer_snapshot(self, snapshot: OrderBookSnapshot | None = None, /, **fields: Any) -> str:
        """Take a snapshot for the next batch and return its record id at once.

        The batch is written at 100 rows or after one second, whichever comes first, and on close; a crash loses at
        most what was buffered. When the store is too slow and the buffer is full, the call waits (policy `block`) or
        raises `QueueFullError` (policy `refuse`).
        """
        ...

    async def flush(self) -> int:
        """Write what is buffered and return how many rows that were.

        Raises:
            StoreError: The store did not take them; they stay buffered and are tried again.
        """
        ...

    async def get_snapshots(
        self,
        condition_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = 100,
        order: Order = "desc",
    ) -> list[OrderBookSnapshot]:
        """Return stored snapshots, the newest first. Buffered ones are not stored yet; `flush` first to see them."""
        ...


class Alerts(Protocol):
    """What people were told."""

    @overload
    async def insert_alert(self, alert: Alert, /) -> Ack: ...
    @overload
    async def insert_alert(self, /, **fields: Unpack[AlertFields]) -> Ack: ...
    async def insert_alert(self, alert: Alert | None = None, /, **fields: Any) -> Ack:
        """Store an alert. `timestamp` defaults to now."""
        ...

    async def get_alerts(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        alert_type: str | None = None,
        level: str | None = None,
        limit: int | None = 100,
        order: Order = "desc",
    ) -> list[Alert]:
        """Return alerts, the newest first."""
        ...


class Statistics(Protocol):
    """Totals of a day, changed by deltas."""

    async def get_or_create_daily_stats(self, date: Date | str) -> DailyStats:
        """Return the day's totals, creating them with zeros if there are none."""
        ...

    async def update_daily_stats(
        self,
        date: Date | str,
        *,
        pnl_delta: Number = 0,
        trade_count_delta: int = 0,
        winning_delta: int = 0,
        losing_delta: int = 0,
        volume_delta: Number = 0,
        initial_balance: Number | None = None,
        operation_id: str | None = None,
    ) -> DailyStats:
        """Add to the day's totals, atomically, and return what they are then.

        Args:
            date: The day, in UTC.
            pnl_delta: Profit to add, in the quote currency.
            trade_count_delta: Trades to add.
            winning_delta: Winning trades to add.
            losing_delta: Losing trades to add.
            volume_delta: Volume to add, in the quote currency.
            initial_balance: Set, not added; the first one given stays.
            operation_id: Any text that is the same on a retry: a call with an id seen within 30 days changes nothing
                and returns the totals as they are. Without one, a retry counts twice.
        """
        ...


class Records(Protocol):
    """Any registered kind, by its name or its record objects."""

    @overload
    async def put(self, record: Record, /) -> Ack: ...
    @overload
    async def put(self, kind: str, /, **fields: Any) -> Ack: ...
    async def put(self, record: Record | str, /, **fields: Any) -> Ack:
        """Store one record: `put(Candle(...))` or `put("candles", symbol=...)`.

        A kind whose durability is `buffered` is taken for the next batch, as `buffer_snapshot` does.
        """
        ...

    async def put_many(self, records: Iterable[Record], /) -> int:
        """Store many records in few transactions and return how many.

        Repeating the call after an error is safe if the records of logs carry their own `record_id`.
        """
        ...

    async def get(self, kind: str, *key: Any) -> Record | None:
        """Return one record by its key: `get("candles", "BTC", "5m", when)`; None if there is none."""
        ...

    async def delete(self, kind: str, *key: Any) -> bool:
        """Delete one record by its key, in every store; returns whether there was one."""
        ...

    async def query(
        self,
        kind: str,
        *,
        where: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        order: Order = "asc",
        limit: int = 1000,
        after: str | None = None,
    ) -> Page[Record]:
        """Return a page of records.

        Args:
            kind: Name of the kind.
            where: Field to value; a field name may end in `__ne`, `__lt`, `__le`, `__gt`, `__ge` or `__in`.
            since: From this time on, inclusive, by the kind's time field.
            until: Before this time, exclusive.
            order: By time for logs, by key for the rest.
            limit: Records a page, 1 to 10,000.
            after: The cursor of the page before.
        """
        ...

    def stream(
        self,
        kind: str,
        *,
        where: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        order: Order = "asc",
    ) -> AsyncIterator[Record]:
        """Yield records one by one, fetched in pages; memory stays bounded however many there are."""
        ...


class Maintenance(Protocol):
    """Upkeep."""

    async def purge(self, kind: str, *, older_than: timedelta | None = None) -> int:
        """Remove old rows of a kind from every store the bot writes to, for good; returns how many on the primary.

        Args:
            kind: A log, or a kind that declares a retention.
            older_than: Age by the kind's time field; defaults to the kind's retention.

        Raises:
            InvalidRecordError: The kind keeps what is current, or has no retention and no age was given.
        """
        ...

    async def health(self) -> GatewayHealth:
        """Return whether every store answers. Does not raise for one that is down."""
        ...


class StorageGateway(
    Positions,
    Trades,
    Events,
    Snapshots,
    Alerts,
    Statistics,
    Records,
    Frames,
    IndicatorSeriesCalls,
    Market,
    Maintenance,
    Protocol,
):
    """Everything a bot can call."""
