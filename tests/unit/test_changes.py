"""What the read-modify-write calls compute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.changes import CloseChange, DeleteChange, StatsChange
from gateway.records import CLOSED_POSITIONS, DAILY_STATS, OPERATIONS, POSITIONS, Position, Row
from gateway.records.stamp import Stamper

NOW = datetime(2026, 3, 12, tzinfo=UTC)
AMOUNTS = st.decimals(-(10**20), 10**20, allow_nan=False, allow_infinity=False, places=9)


def position(stamper: Stamper, **fields: object) -> Row:
    """Return the row of an open position."""
    base = {"condition_id": "c", "side": "YES", "entry_price": Decimal("0.5"), "opened_at": NOW}
    return stamper.stamp(POSITIONS, Position.model_validate({**base, **fields}))


def stats(stamper: Stamper, operation: str | None, **deltas: object) -> StatsChange:
    """Return a change of a day's totals."""
    return StatsChange(stamper, "2026-03-12", dict(deltas), None, operation, NOW)


def test_closing_writes_the_state_and_a_copy() -> None:
    """The position is closed, its copy carries the same facts, and both are newer than what was read."""
    stamper = Stamper()
    row = position(stamper, amount=3)
    change = CloseChange(
        stamper, {"closed_at": NOW + timedelta(hours=1), "close_reason": "stop-loss", "pnl": Decimal("-1.5")}
    )
    state, copy = change((row,))
    assert (state.kind, copy.kind) == (POSITIONS, CLOSED_POSITIONS)
    assert state.version > row.version
    closed = dict(state.record())
    assert (closed["is_open"], closed["close_reason"], closed["pnl"]) == (False, "stop-loss", Decimal("-1.5"))
    kept = dict(copy.record())
    assert {name: closed[name] for name in kept if name != "record_id"} == {
        name: kept[name] for name in kept if name != "record_id"
    }
    assert change.result == state.record()


def test_closing_twice_changes_nothing() -> None:
    """A retry finds the position closed and gives the very same rows again, for a mirror that missed them."""
    stamper = Stamper()
    first = CloseChange(stamper, {"closed_at": NOW, "close_reason": "stop-loss"})
    rows = first((position(stamper),))
    again = CloseChange(stamper, {"closed_at": NOW + timedelta(hours=1), "close_reason": "again"})
    assert again((rows[0],)) == tuple(rows)
    assert again.result == first.result == rows[0].record()


def test_closing_what_is_not_there_finds_nothing() -> None:
    """Neither a missing row nor a tombstone can be closed."""
    stamper = Stamper()
    for row in (None, stamper.tombstone(POSITIONS, ("c",), 1)):
        change = CloseChange(stamper, {"closed_at": NOW, "close_reason": "x"})
        assert change((row,)) == ()
        assert change.result is None


def test_entering_a_market_again_keeps_the_history() -> None:
    """Two positions of one market leave two copies; closing the same one on two machines leaves one."""
    copies = set()
    for opened in (NOW, NOW + timedelta(days=1), NOW):
        stamper = Stamper()
        change = CloseChange(stamper, {"closed_at": NOW + timedelta(days=2), "close_reason": "x"})
        copies.add(change((position(stamper, opened_at=opened),))[1].values[0])
    assert len(copies) == 2


@given(st.lists(st.tuples(AMOUNTS, st.integers(0, 5)), max_size=20))
def test_deltas_add_up_exactly(deltas: list[tuple[Decimal, int]]) -> None:
    """Totals are the exact sums, to the last digit, however many deltas there are."""
    stamper = Stamper()
    row: Row | None = None
    for at, (pnl, trades) in enumerate(deltas):
        row, note = stats(stamper, str(at), current_pnl=pnl, total_trades=trades)((row, None))
        assert note.kind is OPERATIONS
    expected = sum((Fraction(pnl) for pnl, _ in deltas), Fraction(0))
    totals: dict[str, Any] = (
        dict(row.record()) if row is not None else {"current_pnl": Decimal(0), "total_trades": 0}
    )
    assert Fraction(totals["current_pnl"]) == expected
    assert totals["total_trades"] == sum(trades for _, trades in deltas)


def test_an_operation_that_was_applied_changes_nothing() -> None:
    """A retry finds its note, and returns the totals and the note as they are."""
    stamper = Stamper()
    row, note = stats(stamper, "op", current_pnl=Decimal(5))((None, None))
    retry = stats(stamper, "op", current_pnl=Decimal(5))
    assert retry((row, note)) == (row, note)
    assert retry.result == row.record()


def test_the_first_initial_balance_stays() -> None:
    """The day's opening balance is set once."""
    stamper = Stamper()
    first = StatsChange(stamper, "2026-03-12", {}, Decimal(100), "a", NOW)
    row = first((None, None))[0]
    second = StatsChange(stamper, "2026-03-12", {}, Decimal(200), "b", NOW)
    assert dict(second((row, None))[0].record())["initial_balance"] == 100


def test_creating_a_day_needs_no_operation_and_leaves_totals_alone() -> None:
    """Without an operation the day is created once, with zeros."""
    stamper = Stamper()
    (row,) = stats(stamper, None)((None,))
    assert (row.kind, dict(row.record())["total_trades"]) == (DAILY_STATS, 0)
    assert stats(stamper, None)((row,)) == (row,)


def test_what_is_written_is_newer_than_what_was_read_from_a_machine_ahead() -> None:
    """A row from a clock that runs ahead is still replaced."""
    stamper = Stamper()
    ahead = position(Stamper())._replace(version=(int(datetime.now(UTC).timestamp() * 1000) + 30_000) << 16)
    change = CloseChange(stamper, {"closed_at": NOW, "close_reason": "x"})
    assert change((ahead,))[0].version > ahead.version


def test_deleting_writes_a_tombstone_with_the_time_of_the_row() -> None:
    """A deleted row keeps its place in listings, so that no store loses sight of it."""
    stamper = Stamper()
    row = position(stamper)
    change = DeleteChange(stamper, POSITIONS, ("c",))
    (tombstone,) = change((row,))
    assert change.existed
    assert tombstone.deleted
    assert tombstone.position == row.position
    assert tombstone.version > row.version
    assert tombstone.intact
    again = DeleteChange(stamper, POSITIONS, ("c",))
    assert again((tombstone,)) == (tombstone,)
    assert not again.existed
    assert DeleteChange(stamper, POSITIONS, ("c",))((None,)) == ()
