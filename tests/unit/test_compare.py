"""Comparison of rows and listings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.compare import REDACTED, FieldDifference, Outcome, Reason, caught_up, compare_pages, compare_rows
from gateway.records import Comparison, Flag, KindSpec, LogRecord, Money, Number, Record, Shape, Text, Time
from gateway.records.codec import Value
from gateway.records.row import Row
from gateway.records.stamp import row_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Order(Record):
    order_id: Text
    price: Money | None = None
    score: Number | None = None
    open: Flag = True
    note: Text | None = None


class Fill(LogRecord):
    timestamp: Time
    price: Money


ORDERS = KindSpec("orders", Order, key=("order_id",), shape=Shape.STATE)
LOOSE = KindSpec(
    "loose_orders",
    type("LooseOrder", (Order,), {}),
    key=("order_id",),
    shape=Shape.STATE,
    comparison=Comparison(ignore=frozenset({"note"}), tolerance={"score": 0.5}),
)
PRIVATE = KindSpec(
    "private_orders",
    type("PrivateOrder", (Order,), {}),
    key=("order_id",),
    shape=Shape.STATE,
    comparison=Comparison(redact=frozenset({"note", "order_id"})),
)
FILLS = KindSpec("fills", Fill, time_field="timestamp")

VALUES = st.tuples(
    st.none() | st.sampled_from(["1", "1.5", "-3"]),
    st.none() | st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0),
    st.booleans(),
    st.none() | st.text(max_size=3),
)
VERSIONS = st.integers(0, 5)


def _order(version: int, *values: Value, key: str = "a", kind: KindSpec = ORDERS) -> Row:
    return row_of(kind, "t", version, (key, *(values or ("1", 0.5, True, None))))


def _tombstone(version: int, key: str = "a") -> Row:
    return row_of(ORDERS, "t", version, (key, None, None, None, None), deleted=True)


def _damaged(row: Row) -> Row:
    return row._replace(digest=row.digest ^ 1)


def _fill(number: int, *, version: int = 1, price: str = "1") -> Row:
    micros = (T0 + timedelta(seconds=number) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return row_of(FILLS, "t", version, (f"r{number:03}", micros, price))


ROWS = st.one_of(
    st.none(),
    st.builds(_tombstone, VERSIONS),
    st.builds(lambda v, values: _order(v, *values), VERSIONS, VALUES),
)


@given(ROWS)
def test_a_row_matches_itself(row: Row | None) -> None:
    """Whatever a row holds, compared with itself it matches, and nothing against nothing too."""
    found = compare_rows(ORDERS, row, row)
    assert (found.outcome, found.reason, found.differences) == (Outcome.MATCH, None, ())


@given(ROWS, ROWS)
def test_the_sides_are_treated_alike(left: Row | None, right: Row | None) -> None:
    """Exchanging the sides gives the same outcome, with reason and values exchanged."""
    there, back = compare_rows(ORDERS, left, right), compare_rows(ORDERS, right, left)
    assert there.outcome is back.outcome
    assert {one.field: (one.left, one.right) for one in there.differences} == {
        one.field: (one.right, one.left) for one in back.differences
    }
    if there.reason is not None and back.reason is not None:
        assert (
            there.reason.name.replace("LEFT", "x").replace("RIGHT", "LEFT").replace("x", "RIGHT")
            == back.reason.name
        )


@given(ROWS, ROWS)
def test_rows_match_exactly_if_nothing_tells_them_apart(left: Row | None, right: Row | None) -> None:
    """Without rules that allow it, two rows match only if version, deletion and every value are the same."""
    same = (left is None and right is None) or (
        left is not None and right is not None and left.stamp == right.stamp and left.deleted == right.deleted
    )
    assert (compare_rows(ORDERS, left, right).outcome is Outcome.MATCH) == same


ALIKE = st.sampled_from(["1", 1, 1.0, True, 0, 0.0, -0.0, False, None, ""])


@given(
    st.lists(ALIKE, min_size=4, max_size=4),
    st.lists(ALIKE, min_size=4, max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_rows_of_one_stamp_match_exactly_if_neither_is_damaged(
    right: list[Value], wrong: list[Value], moved: bool, both: bool
) -> None:
    """However alike the values of a damaged row look, whosever row it became, and though both are damaged alike."""
    left = row_of(ORDERS, "t", 1, ("a", *right))
    other = left._replace(values=("a", *wrong), tenant="u" if moved else "t")
    mine = other if both else left
    matches = compare_rows(ORDERS, mine, other).outcome is Outcome.MATCH
    assert matches == (mine.intact and other.intact)


@given(VALUES, VALUES, VERSIONS, VERSIONS)
def test_the_fields_named_are_those_that_differ(
    left: tuple[Value, ...], right: tuple[Value, ...], one: int, two: int
) -> None:
    """Every differing field is named with its two values, and no other is."""
    found = compare_rows(ORDERS, _order(one, *left), _order(two, *right))
    names = ("price", "score", "open", "note")
    expected = [
        FieldDifference(name, mine, theirs)
        for name, mine, theirs in zip(names, left, right, strict=True)
        if mine != theirs
    ]
    assert list(found.differences) == expected


@pytest.mark.parametrize(
    ("left", "right", "outcome", "reason"),
    [
        (_order(1), None, Outcome.LAGGING, Reason.MISSING_RIGHT),
        (None, _order(1), Outcome.LAGGING, Reason.MISSING_LEFT),
        (_tombstone(2), None, Outcome.LAGGING, Reason.MISSING_RIGHT),
        (_order(1), _order(2), Outcome.LAGGING, Reason.OLDER_LEFT),
        (_order(2), _order(1), Outcome.LAGGING, Reason.OLDER_RIGHT),
        (_tombstone(2), _tombstone(3), Outcome.LAGGING, Reason.OLDER_LEFT),
        (_tombstone(2), _order(1), Outcome.LAGGING, Reason.DELETED_LEFT),
        (_order(2), _tombstone(1), Outcome.LAGGING, Reason.DELETED_RIGHT),
        (_order(2), _tombstone(2), Outcome.DIVERGED, Reason.DELETED_RIGHT),
        (_order(1, "1", 0.5, True, None), _order(1, "2", 0.5, True, None), Outcome.DIVERGED, Reason.CONTENT),
        (_order(1, None, 0.5, True, None), _order(1), Outcome.DIVERGED, Reason.CONTENT),
        (_damaged(_order(1)), _order(2), Outcome.DIVERGED, Reason.DAMAGED_LEFT),
        (_order(2), _damaged(_order(2)), Outcome.DIVERGED, Reason.DAMAGED_RIGHT),
        (None, _damaged(_order(2)), Outcome.DIVERGED, Reason.DAMAGED_RIGHT),
        (_damaged(_order(2)), None, Outcome.DIVERGED, Reason.DAMAGED_LEFT),
    ],
)
def test_every_way_to_differ_has_its_own_name(
    left: Row | None, right: Row | None, outcome: Outcome, reason: Reason
) -> None:
    """Missing, older, deleted, changed and damaged are told apart, and only what time may mend is lagging."""
    found = compare_rows(ORDERS, left, right)
    assert (found.outcome, found.reason) == (outcome, reason)
    assert found.left_version == (None if left is None else left.version)
    assert found.right_version == (None if right is None else right.version)


def test_a_null_is_a_value_and_not_a_missing_row() -> None:
    """A field that is NULL on one side is named with None against the value."""
    found = compare_rows(ORDERS, _order(1, None, 0.5, True, None), _order(1, "1", 0.5, True, ""))
    assert found.differences == (FieldDifference("price", None, "1"), FieldDifference("note", None, ""))


@pytest.mark.parametrize(("left", "right"), [(True, 1), (1.0, 1), ("1", 1)])
def test_values_of_other_types_are_other_values(left: Value, right: Value) -> None:
    """A store that gives back 1 for True, or a number for text, is found out."""
    found = compare_rows(ORDERS, _order(1, "1", 0.5, left, None), _order(1, "1", 0.5, right, None))
    assert found.reason is Reason.CONTENT
    assert found.fields == ("open",)


def test_the_kinds_rules_ignore_and_tolerate() -> None:
    """Ignored fields and floats within the tolerance do not differ; beyond it they do."""
    left = _order(1, "1", 0.5, True, "x", kind=LOOSE)
    assert compare_rows(LOOSE, left, _order(1, "1", 1.0, True, "y", kind=LOOSE)).outcome is Outcome.MATCH
    found = compare_rows(LOOSE, left, _order(1, "1", 1.5, True, "y", kind=LOOSE))
    assert (found.outcome, found.fields) == (Outcome.DIVERGED, ("score",))


def test_private_values_never_show() -> None:
    """Redacted fields appear by name only, in differences, in the key, and in the representation."""
    left = _order(1, "1", 0.5, True, "secret-a", key="secret-key", kind=PRIVATE)
    right = _order(1, "1", 0.5, True, "secret-b", key="secret-key", kind=PRIVATE)
    found = compare_rows(PRIVATE, left, right)
    assert found.differences == (FieldDifference("note", REDACTED, REDACTED),)
    assert found.shown_key == (REDACTED,)
    assert "secret" not in repr(found)


def test_long_values_are_shortened() -> None:
    """A megabyte of text does not travel into a report."""
    found = compare_rows(ORDERS, _order(1, "1", 0.5, True, "x" * 1_000_000), _order(1, "1", 0.5, True, "y"))
    (difference,) = found.differences
    assert str(difference.left).endswith("(1000000 characters)")
    assert len(str(difference.left)) < 300


def test_of_long_texts_the_part_that_differs_is_shown() -> None:
    """Two texts that begin alike are not shown as two texts that are alike."""
    texts = ("x" * 5_000 + "a" + "y" * 400, "x" * 5_000 + "b")
    rows = (_order(1, "1", 0.5, True, text) for text in texts)
    (difference,) = compare_rows(ORDERS, *rows).differences
    assert difference.left == f"[from character 4961] {'x' * 40}a{'y' * 159}... (5401 characters)"
    assert difference.right == f"[from character 4961] {'x' * 40}b"


@given(
    st.lists(st.integers(0, 50), unique=True), st.lists(st.integers(0, 50), unique=True), st.integers(1, 60)
)
def test_full_pages_are_judged_as_far_as_both_reach(left: list[int], right: list[int], limit: int) -> None:
    """Two full pages differ exactly in the rows that one lacks, as far as both of them reach."""
    mine, theirs = sorted(left)[:limit], sorted(right)[:limit]
    ends = [page[-1] for page in (mine, theirs) if len(page) == limit]
    end = min(ends, default=10_000)
    expected = {number for number in set(mine) ^ set(theirs) if number <= end}
    found = compare_pages(FILLS, [_fill(n) for n in mine], [_fill(n) for n in theirs], limit=limit)
    assert {int(str(row.key[0])[1:]) for row in found.rows} == expected
    assert found.outcome is (Outcome.LAGGING if expected else Outcome.MATCH)


def test_a_row_shifted_out_of_a_full_page_is_no_difference() -> None:
    """One missing row is reported once, and not again for the row that moved up into the page."""
    left = [_fill(number) for number in (9, 8, 7)]
    right = [_fill(number) for number in (9, 7, 6)]
    found = compare_pages(FILLS, left, right, limit=3, descending=True)
    assert [row.key for row in found.rows] == [("r008",)]


def _reversed(rows: Sequence[Row]) -> list[Row]:
    return list(reversed(rows))


def test_order_counts_where_it_was_asked_for() -> None:
    """The same rows in another order diverge, unless the order does not matter."""
    rows = [_fill(number) for number in range(3)]
    found = compare_pages(FILLS, rows, _reversed(rows))
    assert (found.outcome, found.misordered, found.rows) == (Outcome.DIVERGED, True, ())
    assert compare_pages(FILLS, rows, _reversed(rows), ordered=False).outcome is Outcome.MATCH


def test_a_listing_is_as_bad_as_its_worst_row() -> None:
    """One lagging row makes a listing lag; one diverged row makes it diverge."""
    rows = [_fill(1), _fill(2)]
    assert compare_pages(FILLS, rows, [_fill(1), _fill(2, version=2)]).outcome is Outcome.LAGGING
    changed = [_fill(1, price="2"), _fill(2, version=2)]
    assert compare_pages(FILLS, rows, changed).outcome is Outcome.DIVERGED


def test_a_row_listed_twice_is_found() -> None:
    """A store that gives a row twice does not pass for one that gives it once."""
    found = compare_pages(FILLS, [_fill(1)], [_fill(1), _fill(1)])
    assert found.outcome is Outcome.DIVERGED
    assert [row.reason for row in found.rows] == [Reason.REPEATED_RIGHT]


def test_a_key_written_all_the_time_is_followed() -> None:
    """Two looks at a busy key show that the stores follow each other, or that one stands still."""
    first = compare_rows(ORDERS, _order(5), _order(4))
    assert caught_up(first, compare_rows(ORDERS, _order(8), _order(7)))
    assert caught_up(first, compare_rows(ORDERS, _order(5), _order(5)))
    assert not caught_up(first, compare_rows(ORDERS, _order(8), _order(4)))
    assert not caught_up(first, compare_rows(ORDERS, _order(5), None))


def test_what_time_does_not_explain_never_catches_up() -> None:
    """Other content under one version is no lag, however the versions move."""
    first = compare_rows(ORDERS, _order(5, "1", 0.5, True, None), _order(5, "2", 0.5, True, None))
    again = compare_rows(ORDERS, _order(6, "1", 0.5, True, None), _order(6, "2", 0.5, True, None))
    assert not caught_up(first, again)


def test_the_decimal_of_a_money_field_is_compared_as_it_is_stored() -> None:
    """Money that lost a digit on its way through a store is a difference of that field."""
    exact = str(Decimal(1) / Decimal(3))
    found = compare_rows(ORDERS, _order(1, exact, 0.5, True, None), _order(1, exact[:-1], 0.5, True, None))
    assert found.fields == ("price",)
