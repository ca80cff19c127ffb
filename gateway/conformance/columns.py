"""Clauses about rows by column, for backends that declare `columns`. They need pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.backend import Capability
from gateway.columns import ColumnBatch
from gateway.conformance.checks import assert_stored
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import Scribe, batch, minutes, where
from gateway.conformance.strategies import examples, log_fields
from gateway.dispatch import Store
from gateway.frames import arrow_schema, table_of_rows
from gateway.query import Op, Query
from gateway.records.row import Row

__all__ = ["ColumnClauses", "columns_of_rows"]

FIELDS = PROBE_LOG.field_names


def columns_of_rows(rows: Sequence[Row]) -> ColumnBatch:
    """Return rows of one kind as a batch by column."""
    values = zip(*(row.values for row in rows), strict=True)
    return ColumnBatch(
        rows[0].kind,
        rows[0].tenant,
        [row.version for row in rows],
        [row.digest for row in rows],
        [list(column) for column in values],
    )


async def _assert_same(store: Store, query: Query, fields: tuple[str, ...] = FIELDS) -> None:
    """Compare what a query gives by column with what it gives by row."""
    expected = table_of_rows(query.kind, fields, await store.query(query))
    table = await store.read_columns(query, fields)
    assert table.schema.equals(arrow_schema(query.kind, fields)), f"the columns have the types {table.schema}"
    assert table.equals(expected), "columns and rows of one query differ"


class ColumnClauses:
    """Columns are rows, taken and given in another way."""

    @clause(Capability.COLUMNS)
    def test_columns_are_stored_as_rows(self, harness: Harness) -> None:
        """Rows given by column come back by key, every value and stamp as it was given."""
        store = harness.run(harness.open())

        @examples
        @given(st.lists(log_fields(), min_size=1, max_size=8))
        def check(fields: list[dict[str, Any]]) -> None:
            scribe = harness.scribe()
            rows = [scribe.log(**one) for one in fields]
            harness.run(store.write_columns(columns_of_rows(rows)))
            harness.run(assert_stored(store, *rows))

        check()

    @clause(Capability.COLUMNS)
    async def test_columns_are_guarded_like_rows(self, harness: Harness, store: Store) -> None:
        """Repeated columns change nothing, older ones lose, newer ones win, and a deletion stays."""
        scribe = harness.scribe()
        old = [scribe.log(f"log-{at}", label="old", moment=minutes(at)) for at in range(4)]
        new = [scribe.log(f"log-{at}", label="new", moment=minutes(at)) for at in range(4)]
        grave = scribe.tombstone(new[3])
        await store.write_columns(columns_of_rows(old[:2]))
        await store.write(batch(grave))
        for rows in (new, old, new, old):
            await store.write_columns(columns_of_rows(rows))
        await assert_stored(store, *new[:3], grave)
        live = await store.read_columns(scribe.query(PROBE_LOG), ("label",))
        assert live.column("label").to_pylist() == ["new"] * 3

    @clause(Capability.COLUMNS)
    async def test_columns_of_states(self, harness: Harness, store: Store) -> None:
        """States are taken by column too; of a key that comes twice the newer row stays."""
        scribe = harness.scribe()
        rows = [scribe.state("a", at % 3, tally=at) for at in range(5)]
        await store.write_columns(columns_of_rows(rows))
        await assert_stored(store, *rows[2:])
        await _assert_same(store, scribe.query(PROBE_STATE), PROBE_STATE.field_names)

    @clause(Capability.COLUMNS)
    async def test_columns_answer_queries_like_rows(self, harness: Harness, store: Store) -> None:
        """Filters, order, limit and pages mean the same for columns as for rows, and so do the values."""
        scribe = harness.scribe()
        rows = _rows(scribe)
        await store.write(batch(*rows))
        filters: list[tuple[Any, ...]] = [
            (),
            (where(PROBE_LOG, "label", Op.EQ, "b"),),
            (where(PROBE_LOG, "note", Op.EQ, None), where(PROBE_LOG, "moment", Op.GE, minutes(2))),
            (where(PROBE_LOG, "amount", Op.GT, "2.5"),),
        ]
        for chosen in filters:
            for descending in (False, True):
                await _assert_same(store, scribe.query(PROBE_LOG, *chosen, descending=descending))
                await _assert_same(store, scribe.query(PROBE_LOG, *chosen, descending=descending, limit=3))
        after = rows[4].position
        await _assert_same(store, scribe.query(PROBE_LOG, after=after), ("tally", "record_id"))
        await _assert_same(store, scribe.query(PROBE_LOG, after=after, descending=True), ("flag",))

    @clause(Capability.COLUMNS)
    async def test_columns_of_no_rows(self, harness: Harness, store: Store) -> None:
        """Without rows the answer has all its columns, of the right types, and other tenants' rows are not in it."""
        scribe, other = harness.scribe(), harness.scribe()
        await store.write_columns(columns_of_rows(_rows(other)))
        table = await store.read_columns(scribe.query(PROBE_LOG), FIELDS)
        assert (len(table), table.schema) == (0, arrow_schema(PROBE_LOG, FIELDS))

    @clause(Capability.COLUMNS)
    async def test_columns_are_seen_at_once(self, harness: Harness, store: Store) -> None:
        """What was acknowledged is in the next answer, by column and by row, in both ways of writing."""
        scribe = harness.scribe()
        for number in range(20):
            rows = [scribe.log(tally=number, moment=minutes(number)) for _ in range(10)]
            if number % 2:
                await store.write_columns(columns_of_rows(rows))
            else:
                await store.write(batch(*rows))
            query = scribe.query(PROBE_LOG, where(PROBE_LOG, "tally", Op.EQ, number))
            assert len(await store.read_columns(query, ("tally",))) == 10
            assert len(await store.query(query)) == 10


def _rows(scribe: Scribe) -> list[Row]:
    """Return rows that differ in every way that a query can ask about, with ties in time."""
    return [
        scribe.log(
            moment=minutes(at // 2),
            label="ab"[at % 2],
            note=None if at % 3 else f"note {at}",
            tally=None if at % 4 == 0 else at * 2**58,
            ratio=None if at % 5 == 0 else at / 7,
            flag=(None, True, False)[at % 3],
            amount=None if at == 1 else f"{at}.{at:020}1",
            seen_at=minutes(at) if at % 2 else None,
            document={"at": at, "text": '"é\n'} if at % 2 else None,
            levels=((0.1, at), (1e-7, 2.0)) if at % 3 else None,
        )
        for at in range(10)
    ]
