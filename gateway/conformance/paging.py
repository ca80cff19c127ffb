"""Clauses about reading page by page: no row is lost and none comes twice."""

from __future__ import annotations

from gateway.conformance.checks import keys_of, read_pages
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.kinds import PROBE_LOG, PROBE_STATE
from gateway.conformance.rows import batch, minutes, where
from gateway.dispatch import Store
from gateway.query import Op
from gateway.records.row import Key, Row

__all__ = ["PagingClauses"]

ROWS = 40


class PagingClauses:
    """Pages continue after the last row of the page before, in the direction of the listing."""

    @clause()
    async def test_pages_split_ties_in_time(self, harness: Harness, store: Store) -> None:
        """Pages of any size, in both directions, give a log whole although many of its rows share a time."""
        scribe = harness.scribe()
        rows = [scribe.log(moment=minutes(number // 13)) for number in range(ROWS)]
        await store.write(batch(*rows[::-1]))
        for size in (1, 7, ROWS):
            for descending in (False, True):
                found = await read_pages(store, scribe.query(PROBE_LOG, descending=descending), size)
                assert keys_of(found) == keys_of(rows[::-1] if descending else rows), f"pages of {size} rows"

    @clause()
    async def test_pages_over_composite_keys(self, harness: Harness, store: Store) -> None:
        """Pages of a kind with several key fields continue in the middle of the first of them."""
        scribe = harness.scribe()
        rows = [scribe.state(owner, slot) for owner in ("A", "a", "é") for slot in (-1, 0, 2, 10)]
        await store.write(batch(*rows[::-1]))
        for descending in (False, True):
            found = await read_pages(store, scribe.query(PROBE_STATE, descending=descending), 3)
            assert keys_of(found) == keys_of(rows[::-1] if descending else rows)

    @clause()
    async def test_pages_of_a_filtered_listing(self, harness: Harness, store: Store) -> None:
        """Pages of a listing with a condition, over tombstones, give every matching row once."""
        scribe = harness.scribe()
        rows = [scribe.log(moment=minutes(number // 5), flag=number % 3 == 0) for number in range(ROWS)]
        await store.write(batch(*rows, *(scribe.tombstone(row) for row in rows[::4])))
        expected = [row for number, row in enumerate(rows) if number % 3 == 0 and number % 4]
        query = scribe.query(PROBE_LOG, where(PROBE_LOG, "flag", Op.EQ, True))
        assert keys_of(await read_pages(store, query, 3)) == keys_of(expected)

    @clause()
    async def test_pages_while_rows_are_written(self, harness: Harness, store: Store) -> None:
        """Rows that were there before the first page come once each, whatever is written meanwhile."""
        scribe = harness.scribe()
        rows = [scribe.log(f"{number:03}", moment=minutes(number)) for number in range(0, ROWS, 2)]
        await store.write(batch(*rows))
        found: list[Row] = []
        after: Key | None = None
        for turn in range(ROWS):
            page = await store.query(scribe.query(PROBE_LOG, limit=3, after=after))
            if not page:
                break
            found += page
            after = page[-1].position
            between = scribe.log(f"{turn:03}-new", moment=minutes(turn))
            await store.write(
                batch(
                    between,
                    scribe.log(
                        str(rows[turn % len(rows)].key[0]),
                        moment=minutes(turn % len(rows) * 2),
                        label="rewritten",
                    ),
                )
            )
        keys = keys_of(found)
        assert len(set(keys)) == len(keys), "a row came twice"
        assert set(keys_of(rows)) <= set(keys), "a row was lost between two pages"

    @clause()
    async def test_a_page_after_the_end_is_empty(self, harness: Harness, store: Store) -> None:
        """After the last row there is nothing, and a page may begin after a place where no row is."""
        scribe = harness.scribe()
        rows = [scribe.log("a", moment=minutes(0)), scribe.log("c", moment=minutes(2))]
        await store.write(batch(*rows))
        assert list(await store.query(scribe.query(PROBE_LOG, after=rows[1].position))) == []
        nowhere = scribe.log("b", moment=minutes(1)).position
        assert list(await store.query(scribe.query(PROBE_LOG, after=nowhere))) == [rows[1]]
        assert list(await store.query(scribe.query(PROBE_LOG, after=nowhere, descending=True))) == [rows[0]]
