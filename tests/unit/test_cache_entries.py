"""Names, marks and bytes of cached rows."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.breaker import Breaker
from gateway.cache.contract import MARK_DIGITS
from gateway.cache.entries import NO_ROW, OtherShapeError, mark_of, mark_of_version, name_of, pack, unpack
from gateway.records import BOT_STATE, POSITIONS, KindSpec, Position, Record
from gateway.records.codec import Value
from gateway.records.row import Row
from gateway.records.stamp import Stamper, row_of
from gateway.records.types import Text

STAMPER = Stamper()
TENANT = STAMPER.tenant
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(min_size=1, max_size=40)


def position(key: str = "a", **fields: Any) -> Row:
    """Return a row."""
    made = Position(
        condition_id=key,
        side="YES",
        entry_price=Decimal("0.1"),
        opened_at=datetime(2026, 3, 12, tzinfo=UTC),
        **fields,
    )
    return STAMPER.stamp(POSITIONS, made)


@given(key=TEXTS, side=st.text(max_size=20), amount=st.decimals(-10, 10, places=4))
def test_a_row_comes_back_as_it_was(key: str, side: str, amount: Decimal) -> None:
    """Whatever a row holds, packing and unpacking gives the same row."""
    filled: dict[str, Value] = {
        "condition_id": key,
        "side": side,
        "amount": str(amount),
        "is_open": True,
        "opened_at": -5,
    }
    row = row_of(POSITIONS, TENANT, 7, [filled.get(name) for name in POSITIONS.field_names])
    assert unpack(POSITIONS, TENANT, (key,), pack(POSITIONS, TENANT, (key,), row)) == row


def test_a_tombstone_and_a_missing_row_come_back_as_such() -> None:
    """There is no row, and there is a row that was deleted, are two answers."""
    grave = STAMPER.tombstone(POSITIONS, ("a",), 5)
    assert unpack(POSITIONS, TENANT, ("a",), pack(POSITIONS, TENANT, ("a",), grave)) == grave
    assert unpack(POSITIONS, TENANT, ("a",), pack(POSITIONS, TENANT, ("a",), None)) is None


def test_bytes_of_something_else_are_refused() -> None:
    """Another key, tenant or kind, a changed or cut row, and garbage are not taken for the row."""
    row = position()
    value, none = pack(POSITIONS, TENANT, ("a",), row), pack(POSITIONS, TENANT, ("a",), None)
    other = "11111111-1111-1111-1111-111111111111"
    changed = value.replace(b"YES", b"YEX")
    assert changed != value
    cases: list[tuple[KindSpec, str, tuple[str, ...], bytes]] = [
        (POSITIONS, TENANT, ("b",), value),
        (POSITIONS, other, ("a",), value),
        (BOT_STATE, TENANT, ("a", "b"), value),
        (POSITIONS, TENANT, ("b",), none),
        (POSITIONS, other, ("a",), none),
        (POSITIONS, TENANT, ("a",), changed),
        (POSITIONS, TENANT, ("a",), value[:-3]),
        (POSITIONS, TENANT, ("a",), b""),
        (POSITIONS, TENANT, ("a",), b"\x93\x01\x02\x03"),
        (POSITIONS, TENANT, ("a",), b"\x94\x01\x02\x03\x91\xc0"),
        (POSITIONS, TENANT, ("a",), b"\x95\x00\x01\x02\x03\x91\xc0"),
        (POSITIONS, TENANT, ("a",), b"\xff\x00garbage"),
    ]
    for kind, tenant, key, bad in cases:
        with pytest.raises(ValueError, match="row"):
            unpack(kind, tenant, key, bad)


@given(one=st.binary(max_size=60))
def test_no_bytes_break_it(one: bytes) -> None:
    """Whatever a server gives back, it is a row, no row, or refused."""
    with pytest.raises(ValueError, match="row"):
        unpack(POSITIONS, TENANT, ("a",), one)


@given(one=st.tuples(st.integers(0, 2**63 - 1), INT64), two=st.tuples(st.integers(0, 2**63 - 1), INT64))
def test_marks_sort_as_rows_do(one: tuple[int, int], two: tuple[int, int]) -> None:
    """The order of marks as texts is that of version and digest, and no row is below `NO_ROW`."""
    rows = [Row(POSITIONS, TENANT, version, digest, False, ("a",)) for version, digest in (one, two)]
    marks = [mark_of(row) for row in rows]
    assert (marks[0] < marks[1]) == (rows[0].stamp < rows[1].stamp)
    assert {len(mark) for mark in (*marks, NO_ROW)} == {MARK_DIGITS}
    assert marks[0] >= mark_of_version(one[0]) >= NO_ROW


@given(
    one=st.tuples(TEXTS, TEXTS, st.tuples(TEXTS, TEXTS)),
    two=st.tuples(TEXTS, TEXTS, st.tuples(TEXTS, TEXTS)),
)
def test_different_rows_have_different_names(
    one: tuple[str, str, tuple[str, str]], two: tuple[str, str, tuple[str, str]]
) -> None:
    """Key, tenant and epoch each make another entry; tenants and epochs have no colons in them."""
    names = [
        name_of(epoch.replace(":", "."), BOT_STATE, tenant.replace(":", "."), key)
        for epoch, tenant, key in (one, two)
    ]
    plain = [(epoch.replace(":", "."), tenant.replace(":", "."), key) for epoch, tenant, key in (one, two)]
    assert (names[0] == names[1]) == (plain[0] == plain[1])


class Shorter(Record):
    """A position as a release before knew it."""

    condition_id: Text
    side: Text


def test_releases_that_know_other_fields_share_an_entry_and_no_rows() -> None:
    """Each drops what the other one keeps, and neither takes a row that has fields it does not know."""
    fewer = KindSpec("positions", Shorter, key=("condition_id",), shape=POSITIONS.shape)
    assert name_of("e", fewer, TENANT, ("a",)) == name_of("e", POSITIONS, TENANT, ("a",))
    older = row_of(fewer, TENANT, 7, ["a", "YES"])
    for theirs, row, ours in ((fewer, older, POSITIONS), (POSITIONS, position(), fewer)):
        value = pack(theirs, TENANT, ("a",), row)
        with pytest.raises(OtherShapeError):
            unpack(ours, TENANT, ("a",), value)
        assert unpack(theirs, TENANT, ("a",), value) == row
        assert unpack(ours, TENANT, ("a",), pack(theirs, TENANT, ("a",), None)) is None


def test_a_breaker_opens_after_some_failures_and_lets_one_try() -> None:
    """Three failures in a row close the way for a while; then one asks, and an answer opens it for all."""
    breaker = Breaker(3, pause=1.0)
    for now in (0.0, 0.1):
        breaker.failed(now)
        assert breaker.allows(now)
    breaker.failed(0.2)
    assert not breaker.allows(1.1)
    assert breaker.allows(1.3)
    assert not breaker.allows(1.4), "one tries, the others wait for what it finds"
    breaker.failed(1.5)
    assert not breaker.allows(3.4)
    assert breaker.allows(3.6)
    breaker.succeeded()
    assert breaker.allows(3.6)
    assert breaker.allows(3.6)
    assert repr(breaker) == "<Breaker failures=0>"
