"""What clauses assert again and again, with messages that say what a backend did wrong."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.conformance.rows import Scribe, digest_sum, span
from gateway.dispatch import Store
from gateway.query import Query
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row

__all__ = ["MANY", "all_rows", "assert_stored", "describe", "fetch", "keys_of", "read_pages", "state_of"]

MANY = 100_000
"""A limit that no clause reaches."""


async def fetch(store: Store, row: Row) -> Row | None:
    """Return what is stored under a row's key."""
    found = await store.get(row.kind, row.tenant, [row.key])
    assert len(found) == 1, f"one key was asked for and {len(found)} answers came"
    return found[0]


async def all_rows(store: Store, scribe: Scribe, kind: KindSpec) -> Sequence[Row]:
    """Return all rows of a tenant in listing order, tombstones included."""
    return await store.query(scribe.query(kind, limit=MANY, include_deleted=True))


async def state_of(store: Store, scribe: Scribe, kind: KindSpec) -> tuple[list[Row], int, int]:
    """Return all that can be seen of a kind: its rows, and the digest that the store computes itself."""
    rows = list(await all_rows(store, scribe, kind))
    fingerprint = await store.digest(span(scribe, kind))
    return rows, fingerprint.rows, fingerprint.total


async def assert_stored(store: Store, *rows: Row) -> None:
    """Check that rows come back exactly as they were written, by key and in a listing."""
    for row in rows:
        found = await fetch(store, row)
        assert found is not None, f"{describe(row)} was acknowledged and is not there"
        assert found == row, f"{describe(row)} came back as {describe(found)}: {_differences(row, found)}"
        assert found.intact, f"{describe(row)} came back with other types: {_differences(row, found)}"
        listed = await store.query(Query(row.kind, row.tenant, limit=MANY, include_deleted=True))
        twins = [other for other in listed if other.key == row.key]
        assert twins == [row], (
            f"the listing has {len(twins)} rows of {describe(row)}, or not this one: {twins}"
        )
        assert twins[0].intact, (
            f"the listing has {describe(row)} with other types: {_differences(row, twins[0])}"
        )


def assert_fingerprint(state: tuple[list[Row], int, int], expected: Sequence[Row]) -> None:
    """Check rows and the store's own digest against the rows that must be there."""
    rows, count, total = state
    assert rows == list(expected), (
        f"stored are {list(map(describe, rows))}, not {list(map(describe, expected))}"
    )
    assert (count, total) == (len(expected), digest_sum(expected)), (
        "the store's digest is not that of its rows"
    )


async def read_pages(store: Store, query: Query, size: int) -> list[Row]:
    """Read a listing page by page."""
    found: list[Row] = []
    after: Key | None = query.after
    while True:
        page = await store.query(_page(query, size, after))
        assert len(page) <= size, f"a page of at most {size} rows has {len(page)}"
        found += page
        if len(page) < size:
            return found
        assert after != page[-1].position, (
            "paging stands still: the next page begins where the last one began"
        )
        after = page[-1].position


def _page(query: Query, size: int, after: Key | None) -> Query:
    return Query(query.kind, query.tenant, query.where, query.descending, size, after, query.include_deleted)


def keys_of(rows: Sequence[Row]) -> list[Key]:
    """Return the keys of rows, in their order."""
    return [row.key for row in rows]


def describe(row: Row | None) -> str:
    """Return a row in a form short enough for a message."""
    if row is None:
        return "nothing"
    what = "tombstone" if row.deleted else "row"
    return f"{what} {row.kind.name}{row.key!r} version {row.version}"


def _differences(wanted: Row, found: Row) -> str:
    """Name the fields in which two rows differ, types included."""
    parts = [
        f"{spec.name} was {_short(before)}, is {_short(after)}"
        for spec, before, after in zip(wanted.kind.fields, wanted.values, found.values, strict=False)
        if (before, type(before)) != (after, type(after))
    ]
    return "; ".join(parts) or "version, digest, tenant or deletion differs"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"
