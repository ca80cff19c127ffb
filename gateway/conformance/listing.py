"""Clauses about queries: filters, order and limits, held to the reference `gateway.query.select`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import Scribe, batch, minutes, where
from gateway.conformance.strategies import FILTERS, examples, filters
from gateway.dispatch import Store
from gateway.query import Condition, Op, Query, select
from gateway.records.kind import KindSpec
from gateway.records.row import Row

__all__ = ["ListingClauses"]

BY_BYTES = [
    "",
    " ",
    "!",
    "0",
    "10",
    "2",
    "A",
    "Z",
    "a",
    "aa",
    "b",
    "\u00e9",
    "\u0430",
    "\ufffd",
    "\U0001f600",
]
"""Texts in the order of their UTF-8 bytes; no alphabet follows it, and UTF-16 gets its end wrong."""
ORDERINGS = (Op.LT, Op.LE, Op.GT, Op.GE)


class ListingClauses:
    """A query gives the rows it asks for, in order, and no others."""

    @clause()
    async def test_every_filter_on_every_type(self, harness: Harness, store: Store) -> None:
        """Each comparison of each field with each of a handful of values gives what the reference gives."""
        scribe = harness.scribe()
        rows = [scribe.log(**{field: value}) for field, values in FILTERS.items() for value in values]
        await store.write(batch(*rows))
        for field, values in FILTERS.items():
            for value in values:
                for op in Op:
                    wanted = [value, values[-1]] if op is Op.IN else value
                    await _as_reference(store, scribe, rows, PROBE_LOG, where(PROBE_LOG, field, op, wanted))

    @clause()
    def test_filters_combine(self, harness: Harness, store: Store) -> None:
        """Random rows under random conditions, all of which must hold, give what the reference gives."""

        @examples
        @given(
            st.lists(filters(), max_size=8),
            st.lists(_conditions(PROBE_LOG), max_size=3),
            st.booleans(),
            st.integers(1, 9),
        )
        def check(
            records: list[dict[str, Any]], where: list[Condition], descending: bool, limit: int
        ) -> None:
            scribe = harness.scribe()
            rows = [scribe.log(**fields) for fields in records]
            query = Query(PROBE_LOG, scribe.tenant, tuple(where), descending, limit)
            harness.run(_written_and_asked(store, rows, query))

        check()

    @clause()
    async def test_money_is_compared_by_value(self, harness: Harness, store: Store) -> None:
        """Amounts are compared as numbers: 9 is less than 10, and a difference in the 30th digit counts."""
        scribe = harness.scribe()
        tiny = Decimal("1e-30")
        amounts = [
            Decimal(-10),
            Decimal(-9),
            Decimal(0),
            tiny,
            Decimal("0.5"),
            Decimal(9),
            Decimal(10),
            Decimal(10**20) + Decimal("0.5"),
        ]
        rows = [scribe.log(amount=amount) for amount in amounts]
        await store.write(batch(*rows))
        for position, amount in enumerate(amounts):
            below = await store.query(scribe.query(PROBE_LOG, where(PROBE_LOG, "amount", Op.LT, amount)))
            assert list(below) == rows[:position], f"amounts below {amount}"
            above = await store.query(scribe.query(PROBE_LOG, where(PROBE_LOG, "amount", Op.GE, amount)))
            assert list(above) == rows[position:], f"amounts from {amount} on"

    @clause()
    async def test_none_in_filters(self, harness: Harness, store: Store) -> None:
        """None equals None, differs from every value, is found by `in`, and is neither less nor greater."""
        scribe = harness.scribe()
        nothing, empty, some = scribe.log(note=None), scribe.log(note=""), scribe.log(note="x")
        await store.write(batch(nothing, empty, some))
        for op, value, expected in (
            (Op.EQ, None, [nothing]),
            (Op.NE, None, [empty, some]),
            (Op.NE, "x", [nothing, empty]),
            (Op.IN, [None, "x"], [nothing, some]),
            (Op.IN, ["x", "y"], [some]),
            (Op.IN, [], []),
            *((op, None, []) for op in ORDERINGS),
            (Op.LE, "x", [empty, some]),
        ):
            found = await store.query(scribe.query(PROBE_LOG, where(PROBE_LOG, "note", op, value)))
            assert list(found) == expected, f"note {op} {value!r}"

    @clause()
    async def test_a_time_window_has_exact_bounds(self, harness: Harness, store: Store) -> None:
        """From a moment on, inclusive, and up to another, exclusive, is exact to the microsecond."""
        scribe = harness.scribe()
        step = 1 / 60_000_000
        rows = [scribe.log(moment=minutes(number * step)) for number in range(5)]
        await store.write(batch(*rows))
        window = [
            where(PROBE_LOG, "moment", Op.GE, minutes(step)),
            where(PROBE_LOG, "moment", Op.LT, minutes(4 * step)),
        ]
        assert list(await store.query(scribe.query(PROBE_LOG, *window))) == rows[1:4]
        assert list(await store.query(scribe.query(PROBE_LOG, *window, descending=True, limit=1))) == [
            rows[3]
        ]

    @clause()
    async def test_logs_are_ordered_by_time(self, harness: Harness, store: Store) -> None:
        """Log rows come by time, and those of one time by their ids, whatever the order of writing was."""
        scribe = harness.scribe()
        rows = [
            scribe.log(name, moment=minutes(at))
            for name, at in (("b", 1), ("z", 0), ("a", 1), ("A", 2), ("é", 1))
        ]
        await store.write(batch(*rows))
        expected = [rows[1], rows[2], rows[0], rows[4], rows[3]]
        assert list(await store.query(scribe.query(PROBE_LOG))) == expected
        assert list(await store.query(scribe.query(PROBE_LOG, descending=True))) == expected[::-1]

    @clause()
    async def test_states_are_ordered_by_key(self, harness: Harness, store: Store) -> None:
        """States come by key: text by its UTF-8 bytes, numbers by value."""
        scribe = harness.scribe()
        rows = [scribe.state(owner, slot) for owner in BY_BYTES[1:] for slot in (-3, 2, 10)]
        await store.write(batch(*rows[::-1]))
        assert list(await store.query(scribe.query(PROBE_STATE))) == rows
        assert list(await store.query(scribe.query(PROBE_STATE, descending=True))) == rows[::-1]

    @clause()
    async def test_text_is_compared_by_bytes(self, harness: Harness, store: Store) -> None:
        """Less and greater on text follow the UTF-8 bytes too."""
        scribe = harness.scribe()
        rows = [scribe.log(label=text) for text in BY_BYTES]
        await store.write(batch(*rows))
        for position, text in enumerate(BY_BYTES):
            found = await store.query(scribe.query(PROBE_LOG, where(PROBE_LOG, "label", Op.LT, text)))
            assert list(found) == rows[:position], f"labels below {text!r}"

    @clause()
    async def test_a_limit_counts_from_where_the_listing_starts(self, harness: Harness, store: Store) -> None:
        """A limit gives the first rows of an ascending listing and the last ones of a descending one."""
        scribe = harness.scribe()
        rows = [scribe.log(moment=minutes(number), flag=number % 2 == 0) for number in range(10)]
        await store.write(batch(*rows))
        for limit in (1, 3, 10, 11):
            assert list(await store.query(scribe.query(PROBE_LOG, limit=limit))) == rows[:limit]
            latest = await store.query(scribe.query(PROBE_LOG, limit=limit, descending=True))
            assert list(latest) == rows[::-1][:limit]
        even = await store.query(scribe.query(PROBE_LOG, where(PROBE_LOG, "flag", Op.EQ, True), limit=3))
        assert list(even) == rows[0:6:2], "a limit counts the rows that match, not those looked at"


def _conditions(kind: KindSpec) -> st.SearchStrategy[Condition]:
    def condition(field: str) -> st.SearchStrategy[Condition]:
        one = st.sampled_from(FILTERS[field])
        plain = st.builds(
            lambda op, value: where(kind, field, op, value),
            st.sampled_from([op for op in Op if op is not Op.IN]),
            one,
        )
        several = st.lists(one, max_size=3).map(lambda values: where(kind, field, Op.IN, values))
        return plain | several

    return st.sampled_from(sorted(FILTERS)).flatmap(condition)


async def _written_and_asked(store: Store, rows: Sequence[Row], query: Query) -> None:
    await store.write(batch(*rows))
    assert list(await store.query(query)) == select(query, rows), f"wrong answer to {query.where}"


async def _as_reference(
    store: Store, scribe: Scribe, rows: Sequence[Row], kind: KindSpec, condition: Condition
) -> None:
    query = scribe.query(kind, condition)
    found, expected = list(await store.query(query)), select(query, rows)
    values = [[row.values[kind.index(condition.field)] for row in some] for some in (found, expected)]
    assert found == expected, (
        f"{condition.field} {condition.op} {condition.value!r} gives {values[0]}, not {values[1]}"
    )
