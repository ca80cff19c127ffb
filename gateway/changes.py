"""What the read-modify-write calls compute: closing a position, adding to a day's totals, deleting. Pure.

Each is the `apply` of an `Update`: it gets the current rows and returns the rows to write, and is called by the
store while nobody else can write. Ids, versions and results are decided here, once, and replicated as values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from gateway.records.activity import DAILY_STATS, OPERATIONS, DailyStats, Operation
from gateway.records.codec import MONEY_CONTEXT, make_record
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.stamp import Stamper
from gateway.records.trading import CLOSED_POSITIONS, POSITIONS, ClosedPosition, Position

__all__ = ["CloseChange", "DeleteChange", "StatsChange"]

Rows = Sequence[Row | None]


def _live(row: Row | None) -> Row | None:
    return None if row is None or row.deleted else row


def _after(stamper: Stamper, current: Rows) -> None:
    """Make sure that what is written next is newer than what was read, whatever other machines' clocks say."""
    for row in current:
        if row is not None:
            stamper.clock.observe(row.version)


@dataclass
class CloseChange:
    """Close a market's position and keep a copy of it.

    Attributes:
        stamper: Makes the rows.
        fields: What changes: `closed_at`, `close_reason`, `exit_price`, `pnl`.
        result: The position as it is afterwards; None if there is none.
    """

    stamper: Stamper
    fields: dict[str, Any]
    result: Position | None = None

    def __call__(self, current: Rows) -> Sequence[Row]:
        """Return the closed position and its copy; nothing if there is nothing to close."""
        row = _live(current[0])
        held = row.record() if row is not None else None
        if not isinstance(held, Position) or not held.is_open:
            self.result = held if isinstance(held, Position) else None
            return ()
        _after(self.stamper, current)
        closed = make_record(POSITIONS, {**dict(held), **self.fields, "is_open": False})
        assert isinstance(closed, Position)  # noqa: S101 - tells the type checker what POSITIONS makes
        self.result = closed
        state = self.stamper.stamp(POSITIONS, closed)
        return (state, self.stamper.stamp(CLOSED_POSITIONS, _copy_of(self.stamper.tenant, closed)))


def _copy_of(tenant: str, closed: Position) -> ClosedPosition:
    """Return the history record of a closed position, with an id that depends on which position it was alone."""
    identity = f"{tenant}\n{closed.condition_id}\n{closed.opened_at.timestamp():.6f}\n{closed.closed_at}"
    fields = {name: value for name, value in closed if name in ClosedPosition.model_fields}
    return ClosedPosition(record_id=hashlib.blake2b(identity.encode(), digest_size=16).hexdigest(), **fields)


@dataclass
class StatsChange:
    """Add deltas to a day's totals, unless the operation was applied before.

    Attributes:
        stamper: Makes the rows.
        date: The day.
        deltas: Field to what is added.
        initial_balance: Set if the day has none.
        operation_id: Which operation this is; None only creates the day.
        now: When it is applied.
        result: The totals afterwards.
    """

    stamper: Stamper
    date: str
    deltas: dict[str, Any]
    initial_balance: Any
    operation_id: str | None
    now: datetime
    result: DailyStats | None = None

    def __call__(self, current: Rows) -> Sequence[Row]:
        """Return the day's new totals and the note that the operation was applied."""
        row, *applied = current
        live = _live(row)
        held = live.record() if live is not None else None
        totals = held if isinstance(held, DailyStats) else DailyStats(date=self.date)
        if any(_live(note) is not None for note in applied) or (
            self.operation_id is None and held is not None
        ):
            self.result = totals
            return ()
        _after(self.stamper, current)
        self.result = self._added(totals)
        rows = [self.stamper.stamp(DAILY_STATS, self.result)]
        if self.operation_id is not None:
            note = Operation(
                operation_id=self.operation_id, kind=DAILY_STATS.name, key=self.date, applied_at=self.now
            )
            rows.append(self.stamper.stamp(OPERATIONS, note))
        return rows

    def _added(self, totals: DailyStats) -> DailyStats:
        fields = dict(totals)
        for name, delta in self.deltas.items():
            exact = isinstance(delta, Decimal)
            fields[name] = MONEY_CONTEXT.add(fields[name], delta) if exact else fields[name] + delta
        if totals.initial_balance is None:
            fields["initial_balance"] = self.initial_balance
        added = make_record(DAILY_STATS, fields)
        assert isinstance(added, DailyStats)  # noqa: S101 - tells the type checker what DAILY_STATS makes
        return added


@dataclass
class DeleteChange:
    """Delete a key by writing a tombstone.

    Attributes:
        stamper: Makes the row.
        kind: The kind.
        key: Canonical key.
        existed: Whether there was a live row.
    """

    stamper: Stamper
    kind: KindSpec
    key: Key
    existed: bool = False

    def __call__(self, current: Rows) -> Sequence[Row]:
        """Return the tombstone; nothing if there is nothing to delete."""
        row = _live(current[0])
        self.existed = row is not None
        if row is None:
            return ()
        _after(self.stamper, current)
        moment = row.values[self.kind.index(self.kind.time_field)] if self.kind.time_field else None
        return (self.stamper.tombstone(self.kind, self.key, moment),)
