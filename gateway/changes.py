"""What the read-modify-write calls compute: closing a position, adding to a day's totals, deleting. Pure.

Each is the `apply` of an `Update`: it gets the current rows and returns the rows to write, and is called by the
store while nobody else can write. Ids, versions and results are decided here, once, and replicated as values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from gateway.records.activity import DAILY_STATS, OPERATIONS, DailyStats, Operation
from gateway.records.codec import MONEY_CONTEXT, codec_of, make_record, to_micros
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.stamp import Stamper, row_of
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
        """Return the closed position and its copy; nothing if there is no position.

        What is closed already is returned as it is: a repetition changes nothing on this store, and brings a mirror
        that missed it into step.
        """
        row = _live(current[0])
        held = row.record() if row is not None else None
        if row is None or not isinstance(held, Position):
            self.result = None
            return ()
        if held.is_open:
            _after(self.stamper, current)
            made = make_record(POSITIONS, {**dict(held), **self.fields, "is_open": False})
            assert isinstance(made, Position)  # noqa: S101 - tells the type checker what POSITIONS makes
            held, row = made, self.stamper.stamp(POSITIONS, made)
        self.result = held
        return (row,) if held.closed_at is None else (row, _copy_of(row, held, held.closed_at))


def _copy_of(row: Row, closed: Position, closed_at: datetime) -> Row:
    """Return the history row of a closed position: the same one whenever and wherever it is made."""
    moments = (to_micros(closed.opened_at), to_micros(closed_at))
    identity = "\n".join(map(str, (row.tenant, closed.condition_id, *moments)))
    fields = {name: value for name, value in closed if name in ClosedPosition.model_fields}
    copy = ClosedPosition(record_id=hashlib.blake2b(identity.encode(), digest_size=16).hexdigest(), **fields)
    return row_of(CLOSED_POSITIONS, row.tenant, row.version, codec_of(CLOSED_POSITIONS).encode(copy))


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
        noted = [note for note in applied if note is not None and not note.deleted]
        if row is not None and (noted or (self.operation_id is None and held is not None)):
            self.result = totals
            return (row, *noted)  # as they are, for a mirror that missed them
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
    _made: Row | None = field(default=None, init=False, repr=False)

    def __call__(self, current: Rows) -> Sequence[Row]:
        """Return the tombstone; nothing if there is nothing to delete."""
        row = current[0]
        # One of its own is met where a write is repeated whose answer was lost.
        own = row is not None and self._made is not None and row.stamp == self._made.stamp
        self.existed = own or _live(row) is not None
        if row is None or row.deleted:
            return () if row is None else (row,)  # as it is, for a mirror that missed it
        _after(self.stamper, current)
        moment = row.values[self.kind.index(self.kind.time_field)] if self.kind.time_field else None
        self._made = self.stamper.tombstone(self.kind, self.key, moment)
        return (self._made,)
