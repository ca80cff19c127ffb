"""Rows of all tenants out of the tables and into them, as a backup needs them: many at a time, and exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final

from psycopg import sql

from gateway.backend import RangeDigest
from gateway.records.codec import Value, from_micros
from gateway.records.kind import FieldSpec, KindSpec, Shape
from gateway.records.row import Row
from gateway.records.types import StorageType
from gateway.records.version import made_by_gateway, made_with
from gateway.sql.dialect import POSTGRES, quoted
from gateway.sql.jsonb import exact_column, needs_exact
from gateway.sql.statements import GATEWAY_COLUMNS
from gateway_postgres.operators import PgConnection
from gateway_postgres.statements import MOVED_ROWS
from gateway_postgres.values import rows_from

__all__ = ["filled_strangers", "present_kinds", "read_all", "totals_of", "write_all"]

_FETCHED: Final = 2_000
_WRITTEN: Final = 20_000
_RANGE: Final = 2**64

# Partitions, and the chunks of TimescaleDB, are parts of tables: children of another one.
_STRANGERS: Final = """
SELECT n.nspname, c.relname
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|_timescaledb|information_schema)'
   AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
   AND (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
         AND a.attname IN ('tenant_id', 'version', 'digest', 'deleted')) = 4
 ORDER BY 1, 2
"""


def present_kinds(connection: PgConnection, kinds: Iterable[KindSpec]) -> list[KindSpec]:
    """Return the kinds that have a table."""
    every = tuple(kinds)
    names = [POSTGRES.table(kind) for kind in every]
    there = connection.execute(
        "SELECT to_regclass(t) IS NOT NULL FROM unnest(%s::text[]) t", (names,)
    ).fetchall()
    return [kind for kind, (present,) in zip(every, there, strict=True) if present]


def filled_strangers(connection: PgConnection, kinds: Iterable[KindSpec]) -> list[str]:
    """Return the tables that look like those of kinds, hold rows, and belong to no registered kind."""
    known = {(kind.schema, kind.name) for kind in kinds}
    found = []
    for schema, name in connection.execute(_STRANGERS).fetchall():
        if (schema, name) not in known:
            query = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(schema, name))
            if connection.execute(query).fetchone() == (True,):
                found.append(f"{schema}.{name}")
    return found


def totals_of(connection: PgConnection, kind: KindSpec) -> RangeDigest:
    """Return rows and digest sum of a kind, all tenants together, summed in the store."""
    query = f"SELECT count(*), coalesce(sum(digest), 0) FROM {POSTGRES.table(kind)}"  # noqa: S608 - names of a registered kind
    found = connection.execute(_text(query))
    rows, total = found.fetchone() or (0, 0)
    return RangeDigest(int(rows), int(total) % _RANGE)


def read_all(connection: PgConnection, kind: KindSpec) -> Iterator[Row]:
    """Yield every row of a kind, in the order they lie in. Needs an open transaction, whose moment is shown."""
    columns = ", ".join(["tenant_id::text", "version", "digest", "deleted", *map(_readable, kind.fields)])
    with connection.cursor(name=f"backup_{kind.name}") as cursor:
        cursor.itersize = _FETCHED
        cursor.execute(_text(f"SELECT {columns} FROM {POSTGRES.table(kind)}"))  # noqa: S608 - names of a registered kind
        for tenant, records in groupby(cursor, key=itemgetter(0)):
            for portion in _portions((record[1:] for record in records), _FETCHED):
                yield from rows_from(kind, tenant, portion)


def _readable(spec: FieldSpec) -> str:
    if spec.storage is StorageType.TIME:
        return (
            f"(extract(epoch FROM {quoted(spec.name)}) * 1000000)::bigint"  # exact: extract gives a numeric
        )
    return POSTGRES.readable(spec)


def write_all(connection: PgConnection, rows: Iterable[Row]) -> None:
    """Insert rows of any kinds and tenants. Needs an open transaction and a login that may write all tenants' rows.

    Row security forbids COPY into a table that has it, so the rows are copied beside it first.

    Raises:
        psycopg.Error: Two rows have one key, or the login may not write.
    """
    for kind, alike in groupby(rows, key=lambda row: row.kind):
        writer = _KindWriter(connection, kind)
        for portion in _portions(alike, _WRITTEN):
            writer.write(portion)


class _KindWriter:
    """Inserts rows of one kind, through a temporary table that ends with the transaction."""

    def __init__(self, connection: PgConnection, kind: KindSpec) -> None:
        self._connection = connection
        self._kind = kind
        self._exact = [at for at, spec in enumerate(kind.fields) if spec.storage is StorageType.JSON]
        self._times = [at for at, spec in enumerate(kind.fields) if spec.storage is StorageType.TIME]
        names = [*GATEWAY_COLUMNS, *kind.field_names]
        names += [exact_column(kind.fields[at].name) for at in self._exact]
        self._names = ", ".join(map(quoted, names))
        self._beside = quoted(f"restoring_{kind.name}")
        connection.execute(
            _text(
                f"CREATE TEMPORARY TABLE IF NOT EXISTS {self._beside} ON COMMIT DROP AS "  # noqa: S608 - as above
                f"SELECT {self._names} FROM {POSTGRES.table(kind)} WITH NO DATA"
            )
        )

    def write(self, rows: Sequence[Row]) -> None:
        """Insert some rows."""
        beside, connection = self._beside, self._connection
        with connection.cursor() as cursor:
            with cursor.copy(_text(f"COPY {beside} ({self._names}) FROM STDIN")) as copy:
                for row in rows:
                    copy.write_row(self._record(row))
            cursor.execute(
                _text(
                    f"INSERT INTO {POSTGRES.table(self._kind)} ({self._names}) SELECT {self._names} FROM {beside}"  # noqa: S608 - as above
                )
            )
            cursor.execute(_text(f"TRUNCATE {beside}"))
        self._register(rows)

    def _record(self, row: Row) -> list[Any]:
        values: list[Any] = list(row.values)
        for at in self._times:
            if values[at] is not None:
                values[at] = from_micros(values[at])
        return [row.tenant, row.version, row.digest, row.deleted, *values, *map(_exact, self._texts(row))]

    def _texts(self, row: Row) -> list[Value]:
        return [row.values[at] for at in self._exact]

    def _register(self, rows: Sequence[Row]) -> None:
        """Remember which log rows were written again since they were made.

        A replay of what was first written under such an id could come with another time, and would then not meet the
        newer row in the primary key, which holds the time.
        """
        if self._kind.shape is not Shape.LOG:
            return
        moved = [(row.tenant, str(row.values[0])) for row in rows if _again(row)]
        if moved:
            tenants, ids = zip(*moved, strict=True)
            self._connection.execute(
                _text(
                    f"INSERT INTO {MOVED_ROWS} (kind, tenant_id, record_id) SELECT %s, * "  # noqa: S608 - a fixed name
                    "FROM unnest(%s::uuid[], %s::text[]) ON CONFLICT DO NOTHING"
                ),
                (self._kind.name, list(tenants), list(ids)),
            )


def _again(row: Row) -> bool:
    record_id = str(row.values[0])
    return made_by_gateway(record_id) and not made_with(record_id, row.version)


def _exact(text: Value) -> Value:
    return text if isinstance(text, str) and needs_exact(text) else None


def _portions(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    stream = iter(items)
    while portion := list(islice(stream, size)):
        yield portion


def _text(statement: str) -> bytes:
    """Return a statement made of fixed text and of names of registered kinds, whose letters were checked there."""
    return statement.encode()
