"""Reading: keys, pages, counts and digests, run on a reader's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.backend import GroupSummary, RangeDigest, Summarize
from gateway.query import Query, ReadRange
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.types import StorageType
from gateway.sql.dialect import SQLITE
from gateway.sql.filters import digest_total, select_digest, select_page, select_summary
from gateway.sql.statements import statements_of

__all__ = ["get_rows", "read_digest", "read_page", "read_summary"]


def get_rows(
    connection: sqlite3.Connection, kind: KindSpec, tenant: str, keys: Sequence[Key]
) -> list[Row | None]:
    """Return the rows of keys, in their order; None where there never was one."""
    statements = statements_of(kind, SQLITE)
    found: dict[Key, Row] = {}
    for text, parameters in statements.reads(tenant, keys):
        for record in connection.execute(text, parameters):
            row = statements.row(tenant, record)
            found[row.key] = row
    return [found.get(key) for key in keys]


def read_page(connection: sqlite3.Connection, query: Query) -> list[Row]:
    """Return a page of rows in listing order."""
    text, parameters = select_page(query, SQLITE)
    row_of, tenant = statements_of(query.kind, SQLITE).row, query.tenant
    return [row_of(tenant, record) for record in connection.execute(text, parameters).fetchall()]


def read_summary(connection: sqlite3.Connection, request: Summarize) -> list[GroupSummary]:
    """Return counts of live rows, by group."""
    text, parameters = select_summary(request, SQLITE)
    by = request.by
    flag = by is not None and request.kind.field_spec(by).storage is StorageType.BOOLEAN
    return [
        GroupSummary(bool(value) if flag and value is not None else value, rows, first, last)
        for value, rows, first, last in connection.execute(text, parameters)
    ]


def read_digest(connection: sqlite3.Connection, span: ReadRange) -> RangeDigest:
    """Return the fingerprint of a stretch of rows, summed inside the store."""
    rows, high, low = connection.execute(*select_digest(span, SQLITE)).fetchone()
    return RangeDigest(rows, digest_total(high, low))
