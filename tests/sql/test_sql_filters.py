"""Queries as SQL give exactly what the reference semantics give."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.backend import Summarize
from gateway.errors import InvalidRecordError
from gateway.query import Condition, Op, Query, ReadRange, in_range, select
from gateway.records import KindSpec, Row
from gateway.records.codec import Value
from gateway.records.stamp import row_of
from gateway.sql.dialect import SQLITE
from gateway.sql.filters import digest_total, select_digest, select_page, select_summary
from gateway_sqlite.reads import read_digest, read_page, read_summary

Store = Callable[[Sequence[Row]], None]

VALUES: dict[str, st.SearchStrategy[Value]] = {
    "at": st.integers(-3, 6),
    "name": st.sampled_from(["", "a", "B", "b", "é", "𝄞", "￿", "a'b", 'a"b', "%", "a%"]),
    "whole": st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1]),
    "ratio": st.sampled_from([-1.5, 0.0, 0.1, 1e300, 5e-324]),
    "flag": st.booleans(),
    "price": st.sampled_from(["-1.5", "-10", "0", "0.000000000000000000000000000001", "9", "10", "9" * 30]),
    "extra": st.sampled_from(["{}", '{"a":1}']),
}
NAMES = list(VALUES)


def _nullable(name: str) -> st.SearchStrategy[Value]:
    return VALUES[name] if name == "at" else st.none() | VALUES[name]


@st.composite
def _conditions(draw: st.DrawFn) -> Condition:
    name, op = draw(st.sampled_from(NAMES)), draw(st.sampled_from(list(Op)))
    if op is Op.IN:
        return Condition(name, op, tuple(draw(st.lists(st.none() | VALUES[name], max_size=3))))
    return Condition(name, op, draw(st.none() | VALUES[name]))


ROWS = st.lists(st.tuples(*(_nullable(name) for name in NAMES), st.booleans()), max_size=12)


def _stored(kind: KindSpec, drawn: list[tuple[Value, ...]]) -> list[Row]:
    return [
        row_of(kind, "t", number + 1, (f"r{number}", *fields[:-1]), deleted=bool(fields[-1]))
        for number, fields in enumerate(drawn)
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=ROWS,
    where=st.lists(_conditions(), max_size=3),
    descending=st.booleans(),
    deleted=st.booleans(),
    limit=st.integers(1, 13),
    start=st.none() | st.tuples(st.integers(-3, 6), st.sampled_from(["r0", "r5", "r99"])),
)
def test_pages_are_those_of_the_reference(
    database: sqlite3.Connection,
    everything: KindSpec,
    store: Store,
    drawn: list[tuple[Value, ...]],
    where: list[Condition],
    descending: bool,
    deleted: bool,
    limit: int,
    start: tuple[Value, ...] | None,
) -> None:
    """Any conditions, order, page and kind of value: SQL and Python list the same rows in the same order."""
    rows = _stored(everything, drawn)
    database.execute("DELETE FROM everything")
    store([*rows, row_of(everything, "u", 1, ("r0", 0, None, None, None, None, None, None))])
    query = Query(everything, "t", tuple(where), descending, limit, start, deleted)
    assert read_page(database, query) == select(query, rows)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=ROWS, low=st.none() | st.integers(-3, 6), high=st.none() | st.integers(-3, 6))
def test_digests_are_sums_over_the_range(
    database: sqlite3.Connection,
    everything: KindSpec,
    store: Store,
    drawn: list[tuple[Value, ...]],
    low: int | None,
    high: int | None,
) -> None:
    """The store's fingerprint is the sum modulo 2**64 of the digests in the stretch, tombstones included."""
    rows = _stored(everything, drawn)
    database.execute("DELETE FROM everything")
    store(rows)
    span = ReadRange(
        everything, "t", None if low is None else (low, "r5"), None if high is None else (high, "r5")
    )
    inside = [row for row in rows if in_range(span, row)]
    found = read_digest(database, span)
    assert (found.rows, found.total) == (len(inside), sum(row.digest for row in inside) % 2**64)


@given(digests=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50))
def test_halves_join_to_the_sum(digests: list[int]) -> None:
    """Summing the halves apart and joining them gives the sum modulo 2**64, whatever the signs."""
    high = sum(digest >> 32 for digest in digests)
    low = sum(digest & 0xFFFFFFFF for digest in digests)
    assert digest_total(high, low) == sum(digests) % 2**64


def test_sums_do_not_overflow_in_the_store(database: sqlite3.Connection, everything: KindSpec) -> None:
    """Digests at both ends of their range are summed without SQLite's integer overflow."""
    extremes = [2**63 - 1] * 5 + [-(2**63)] * 3
    for number, digest in enumerate(extremes):
        database.execute(
            "INSERT INTO everything (tenant_id, version, digest, deleted, record_id, at) "
            "VALUES ('t', 1, ?, 0, ?, 0)",
            (digest, f"r{number}"),
        )
    assert read_digest(database, ReadRange(everything, "t")).total == sum(extremes) % 2**64


def test_counts_by_group(database: sqlite3.Connection, everything: KindSpec, store: Store) -> None:
    """Groups come in the order of their values, money by its number; tombstones do not count."""
    drawn: list[tuple[Value, ...]] = [
        (1, "b", 1, 0.5, True, "10", None, False),
        (2, "a", 1, 0.5, False, "9", None, False),
        (3, "b", 1, 0.5, True, "10", None, False),
        (4, "b", 1, 0.5, True, "10", None, True),
    ]
    store(_stored(everything, drawn))

    def groups(by: str | None) -> list[tuple[Value, int, int | None, int | None]]:
        found = read_summary(database, Summarize(everything, "t", by))
        return [(group.value, group.rows, group.first, group.last) for group in found]

    assert groups("name") == [("a", 1, 2, 2), ("b", 2, 1, 3)]
    assert [value for value, *_ in groups("price")] == ["9", "10"]
    assert [value for value, *_ in groups("flag")] == [False, True]
    assert all(isinstance(value, bool) for value, *_ in groups("flag"))
    assert groups(None) == [(None, 3, 1, 3)]


def test_counts_of_a_kind_without_time(database: sqlite3.Connection, pairs: KindSpec, store: Store) -> None:
    """A kind without time has counts and no first and last."""
    store([row_of(pairs, "t", 1, ("a", 1, None))])
    (group,) = read_summary(database, Summarize(pairs, "t"))
    assert (group.value, group.rows, group.first, group.last) == (None, 1, None, None)


def test_an_unknown_field_is_refused(everything: KindSpec) -> None:
    """A filter or a group on a field that does not exist names those that do."""
    with pytest.raises(InvalidRecordError, match=r"no field 'prize'; its fields are .*price"):
        select_page(Query(everything, "t", (Condition("prize", Op.EQ, "1"),)), SQLITE)
    with pytest.raises(InvalidRecordError, match="no field 'prize'"):
        select_summary(Summarize(everything, "t", "prize"), SQLITE)


def test_too_many_values_are_refused(everything: KindSpec) -> None:
    """A list longer than SQLite's parameters is refused with a sentence, before the store is asked."""
    values = tuple(str(number) for number in range(SQLITE.max_parameters + 1))
    with pytest.raises(InvalidRecordError, match="split the list"):
        select_page(Query(everything, "t", (Condition("name", Op.IN, values),)), SQLITE)


def test_the_longest_list_is_taken(database: sqlite3.Connection, everything: KindSpec, store: Store) -> None:
    """A list just short of the bound works on the SQLite that is installed."""
    store(_stored(everything, [(1, "7", None, None, None, None, None, False)]))
    values = tuple(str(number) for number in range(SQLITE.max_parameters - 2))
    query = Query(everything, "t", (Condition("name", Op.IN, values),))
    assert len(read_page(database, query)) == 1


def test_values_never_become_text(everything: KindSpec) -> None:
    """What a filter compares with is a parameter, however hostile it looks."""
    hostile = "'; DROP TABLE everything; --"
    text, parameters = select_page(Query(everything, hostile, (Condition("name", Op.NE, hostile),)), SQLITE)
    assert hostile not in text
    assert parameters.count(hostile) == 2


def test_listing_by_time_uses_an_index(database: sqlite3.Connection, everything: KindSpec) -> None:
    """A page in listing order is one range of an index: nothing is sorted."""
    query = Query(everything, "t", descending=True, limit=10, after=(5, "r5"))
    text, parameters = select_page(query, SQLITE)
    plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {text}", parameters))
    assert "SEARCH everything USING INDEX ix_everything__at__record_id" in plan
    assert "TEMP B-TREE" not in plan
    text, parameters = select_digest(ReadRange(everything, "t", (1, "r"), (5, "r")), SQLITE)
    plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {text}", parameters))
    assert "SEARCH everything USING INDEX ix_everything__at__record_id" in plan


def test_money_is_ordered_by_its_number(
    database: sqlite3.Connection, everything: KindSpec, store: Store
) -> None:
    """As text 9 comes after 10; as money it does not."""
    store(
        _stored(everything, [(1, None, None, None, None, price, None, False) for price in ("9", "10", "-1")])
    )
    query = Query(everything, "t", (Condition("price", Op.GT, "9"),))
    assert [row.values[6] for row in read_page(database, query)] == [str(Decimal(10))]
