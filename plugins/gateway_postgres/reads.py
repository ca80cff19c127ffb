"""Reading: keys, pages, counts and digests, in a transaction that has its tenant set, or in a statement that sets it.

Every statement names the tenant too: row security is the second lock, not the only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.backend import GroupSummary, RangeDigest, Summarize
from gateway.query import Query, ReadRange
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.types import StorageType
from gateway.sql.dialect import POSTGRES
from gateway.sql.filters import digest_total, select_digest, select_page, select_summary
from gateway.sql.jsonb import canonical_json
from gateway_postgres.statements import postgres_statements
from gateway_postgres.values import key_columns, rows_from

if TYPE_CHECKING:
    from asyncpg import Connection, Record

__all__ = ["get_rows", "get_rows_alone", "read_digest", "read_page", "read_summary", "reads_alone"]


async def get_rows(
    connection: Connection[Record], kind: KindSpec, tenant: str, keys: Sequence[Key]
) -> list[Row | None]:
    """Return the rows of keys, in their order; None where there never was one. The tenant has to be set.

    Raises:
        asyncpg.PostgresError: The server could not answer.
    """
    statements = postgres_statements(kind)
    text = statements.by_keys(statements.columns, many=len(keys) != 1)
    return await _rows_of(connection, text, kind, tenant, keys)


def reads_alone(kind: KindSpec) -> bool:
    """Tell whether rows of a kind can be read by `get_rows_alone`."""
    return postgres_statements(kind).whole


async def get_rows_alone(
    connection: Connection[Record], kind: KindSpec, tenant: str, keys: Sequence[Key]
) -> list[Row | None]:
    """Return what `get_rows` returns, by a statement that sets the tenant itself and needs no transaction around it.

    Raises:
        asyncpg.PostgresError: The server could not answer.
    """
    text = postgres_statements(kind).alone(many=len(keys) != 1)
    return await _rows_of(connection, text, kind, tenant, keys)


async def _rows_of(
    connection: Connection[Record], text: str, kind: KindSpec, tenant: str, keys: Sequence[Key]
) -> list[Row | None]:
    if len(keys) == 1:
        found = rows_from(kind, tenant, await connection.fetch(text, tenant, *keys[0]))
        return [found[0] if found else None]
    if not keys:
        return []
    # A key asked for twice would come back twice from a join.
    records = await connection.fetch(text, tenant, *key_columns(kind, dict.fromkeys(keys)))
    rows = {row.key: row for row in rows_from(kind, tenant, records)}
    return [rows.get(key) for key in keys]


async def read_page(connection: Connection[Record], query: Query) -> list[Row]:
    """Return a page of rows in listing order.

    Raises:
        InvalidRecordError: A condition names no field of the kind, or asks for the order of JSON.
        asyncpg.PostgresError: The server could not answer.
    """
    text, parameters = select_page(query, POSTGRES)
    return rows_from(query.kind, query.tenant, await connection.fetch(text, *parameters))


async def read_summary(connection: Connection[Record], request: Summarize) -> list[GroupSummary]:
    """Return counts of live rows, by group in the order of the groups' values.

    Raises:
        InvalidRecordError: The kind has no such field to group by.
        asyncpg.PostgresError: The server could not answer.
    """
    text, parameters = select_summary(request, POSTGRES)
    groups = [GroupSummary(*record) for record in await connection.fetch(text, *parameters)]
    if request.by is None or request.kind.field_spec(request.by).storage is not StorageType.JSON:
        return groups
    # The server ordered them by a text that is not yet the canonical one.
    made = [
        GroupSummary(
            None if group.value is None else canonical_json(str(group.value)),
            group.rows,
            group.first,
            group.last,
        )
        for group in groups
    ]
    return sorted(made, key=lambda group: (group.value is not None, group.value))


async def read_digest(connection: Connection[Record], span: ReadRange) -> RangeDigest:
    """Return the fingerprint of a stretch of rows, summed inside the store.

    Raises:
        asyncpg.PostgresError: The server could not answer.
    """
    text, parameters = select_digest(span, POSTGRES)
    ((rows, high, low),) = await connection.fetch(text, *parameters)
    return RangeDigest(rows, digest_total(high, low))
