"""The calls by name that bots use most. `gateway.api` documents each."""

from __future__ import annotations

from datetime import UTC, datetime
from datetime import date as Date
from decimal import Decimal
from typing import Any, cast, overload

from typing_extensions import Unpack

from gateway.api import Ack, Order, Session
from gateway.backend import KeyRef, Summarize
from gateway.changes import CloseChange, StatsChange
from gateway.errors import InvalidRecordError, StoreError
from gateway.fields import AlertFields, EventFields, Number, PositionFields, SnapshotFields, TradeFields
from gateway.filters import day_bounds, key_of
from gateway.records.activity import ALERTS, DAILY_STATS, EVENTS, OPERATIONS, Alert, DailyStats, Event
from gateway.records.codec import codec_of, from_micros
from gateway.records.market import ORDER_BOOK_SNAPSHOTS, OrderBookSnapshot
from gateway.records.trading import POSITIONS, TRADES, Position, Trade
from gateway.records.types import StorageType
from gateway.series_calls import SeriesCalls

__all__ = ["BotCalls"]


class BotCalls(SeriesCalls):
    """Implements the typed parts of `gateway.api` on an engine and a buffer."""

    # Positions

    @overload
    async def save_position(self, position: Position, /) -> Ack: ...
    @overload
    async def save_position(self, /, **fields: Unpack[PositionFields]) -> Ack: ...
    async def save_position(self, position: Position | None = None, /, **fields: Any) -> Ack:
        """Store a position; see `gateway.api.Positions.save_position`."""
        kind, record = self._record(position, fields, POSITIONS.name)
        return await self.engine.put(kind, record)

    async def load_position(self, condition_id: str) -> Position | None:
        """Return a market's position; see `gateway.api.Positions.load_position`."""
        return cast("Position | None", await self._get(POSITIONS, (condition_id,)))

    async def close_position(
        self,
        condition_id: str,
        reason: str,
        *,
        closed_at: datetime | None = None,
        exit_price: Number | None = None,
        pnl: Number | None = None,
    ) -> Position | None:
        """Close a market's position; see `gateway.api.Positions.close_position`."""
        given = {
            "closed_at": datetime.now(UTC) if closed_at is None else closed_at,
            "close_reason": reason,
            "exit_price": exit_price,
            "pnl": pnl,
        }
        fields = {name: value for name, value in given.items() if value is not None}
        for name, value in fields.items():
            codec_of(POSITIONS).encode_field(name, value)  # refuse bad arguments before any store is asked
        lead = KeyRef(POSITIONS, key_of(POSITIONS, (condition_id,)))
        change = CloseChange(self.engine.stamper, fields)
        await self.engine.update(lead, (lead,), change)
        return change.result

    async def get_open_positions(self) -> list[Position]:
        """Return all open positions; see `gateway.api.Positions.get_open_positions`."""
        rows = await self._list(POSITIONS, {"is_open": True}, None, None, "asc", None)
        return [cast("Position", row.record()) for row in rows]

    # Trades

    @overload
    async def insert_trade(self, trade: Trade, /) -> Ack: ...
    @overload
    async def insert_trade(self, /, **fields: Unpack[TradeFields]) -> Ack: ...
    async def insert_trade(self, trade: Trade | None = None, /, **fields: Any) -> Ack:
        """Store a trade; see `gateway.api.Trades.insert_trade`."""
        kind, record = self._record(trade, fields, TRADES.name)
        return await self.engine.put(kind, record)

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
        """Return trades; see `gateway.api.Trades.get_trades`."""
        if date is not None:
            if since is not None or until is not None:
                raise InvalidRecordError("give date, or since and until, not both")
            since, until = day_bounds(date)
        rows = await self._list(TRADES, {"market_name": market}, since, until, order, limit)
        return [cast("Trade", row.record()) for row in rows]

    # Events

    @overload
    async def record_event(self, event: Event, /) -> Ack: ...
    @overload
    async def record_event(self, /, **fields: Unpack[EventFields]) -> Ack: ...
    async def record_event(self, event: Event | None = None, /, **fields: Any) -> Ack:
        """Store one event; see `gateway.api.Events.record_event`."""
        kind, record = self._record(event, fields, EVENTS.name)
        return await self.engine.put(kind, record)

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
        """Return events; see `gateway.api.Events.get_events`."""
        where = {"session_id": session_id, "event_type": event_type}
        rows = await self._list(EVENTS, where, since, until, order, limit)
        return [cast("Event", row.record()) for row in rows]

    async def list_sessions(self) -> list[Session]:
        """Return the recorded sessions; see `gateway.api.Events.list_sessions`."""
        groups = await self.engine.summarize(Summarize(EVENTS, self.engine.stamper.tenant, by="session_id"))
        sessions = [
            Session(str(group.value), group.rows, from_micros(group.first or 0), from_micros(group.last or 0))
            for group in groups
        ]
        return sorted(sessions, key=lambda session: (session.started_at, session.session_id), reverse=True)

    # Snapshots

    @overload
    async def buffer_snapshot(self, snapshot: OrderBookSnapshot, /) -> str: ...
    @overload
    async def buffer_snapshot(self, /, **fields: Unpack[SnapshotFields]) -> str: ...
    async def buffer_snapshot(self, snapshot: OrderBookSnapshot | None = None, /, **fields: Any) -> str:
        """Take a snapshot for the next batch; see `gateway.api.Snapshots.buffer_snapshot`."""
        kind, record = self._record(snapshot, fields, ORDER_BOOK_SNAPSHOTS.name)
        return str((await self._put(kind, record)).record_id)

    async def flush(self) -> int:
        """Write what is buffered; see `gateway.api.Snapshots.flush`."""
        return await self.buffer.flush()

    async def get_snapshots(
        self,
        condition_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = 100,
        order: Order = "desc",
    ) -> list[OrderBookSnapshot]:
        """Return stored snapshots; see `gateway.api.Snapshots.get_snapshots`."""
        rows = await self._list(
            ORDER_BOOK_SNAPSHOTS, {"condition_id": condition_id}, since, until, order, limit
        )
        return [cast("OrderBookSnapshot", row.record()) for row in rows]

    # Alerts

    @overload
    async def insert_alert(self, alert: Alert, /) -> Ack: ...
    @overload
    async def insert_alert(self, /, **fields: Unpack[AlertFields]) -> Ack: ...
    async def insert_alert(self, alert: Alert | None = None, /, **fields: Any) -> Ack:
        """Store an alert; see `gateway.api.Alerts.insert_alert`."""
        kind, record = self._record(alert, fields, ALERTS.name)
        return await self.engine.put(kind, record)

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
        """Return alerts; see `gateway.api.Alerts.get_alerts`."""
        rows = await self._list(
            ALERTS, {"alert_type": alert_type, "level": level}, since, until, order, limit
        )
        return [cast("Alert", row.record()) for row in rows]

    # Statistics

    async def get_or_create_daily_stats(self, date: Date | str) -> DailyStats:
        """Return the day's totals; see `gateway.api.Statistics.get_or_create_daily_stats`."""
        day = day_bounds(date)[0].date().isoformat()
        held = await self._get(DAILY_STATS, (day,))
        return cast("DailyStats", held) if held is not None else await self._change_stats(day, {}, None, None)

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
        """Add to the day's totals; see `gateway.api.Statistics.update_daily_stats`."""
        day = day_bounds(date)[0].date().isoformat()
        deltas = {
            "current_pnl": pnl_delta,
            "total_trades": trade_count_delta,
            "winning_trades": winning_delta,
            "losing_trades": losing_delta,
            "total_volume": volume_delta,
        }
        # Every delta is applied under an operation id, the caller's or one of ours: the lane may try again too.
        operation = self._operation(operation_id)
        exact = {name: _exact(name, delta) for name, delta in deltas.items()}
        if None in exact.values():
            missing = ", ".join(name for name, delta in exact.items() if delta is None)
            raise InvalidRecordError(
                f"what is added to {missing} is a number, not None; leave it out to add nothing"
            )
        return await self._change_stats(day, exact, _exact("initial_balance", initial_balance), operation)

    def _operation(self, operation_id: str | None) -> str:
        if operation_id is None:
            return self.engine.stamper.new_id()
        return str(key_of(OPERATIONS, (operation_id,))[0])

    async def _change_stats(
        self, day: str, deltas: dict[str, Any], balance: Any, operation: str | None
    ) -> DailyStats:
        lead = KeyRef(DAILY_STATS, (day,))
        noted = (KeyRef(OPERATIONS, (operation,)),) if operation is not None else ()
        change = StatsChange(self.engine.stamper, day, deltas, balance, operation, datetime.now(UTC))
        try:
            await self.engine.update(lead, (lead, *noted), change)
        except StoreError as error:
            error.retry_with = {"operation_id": operation} if operation is not None else {}
            raise
        return cast("DailyStats", change.result)


def _exact(name: str, value: Any) -> Any:
    """Return a delta as the field's own type: money as an exact decimal, counts as they are."""
    canonical = codec_of(DAILY_STATS).encode_field(name, value)
    money = DAILY_STATS.field_spec(name).storage is StorageType.MONEY
    return Decimal(str(canonical)) if money and canonical is not None else canonical
