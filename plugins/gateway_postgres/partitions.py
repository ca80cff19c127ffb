"""Upkeep of partitions by an operator: made ahead, moved out of the default one, dropped when retention is over.

`plan` says what is due, `apply` does one thing of it in a transaction of its own, under a short limit for locks: what
finds its table in use fails as busy, and is due again the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, LiteralString, NamedTuple, cast

import psycopg
from psycopg import sql

from gateway.records.kind import KindSpec
from gateway.sql.intervals import Interval, Span, default_name, missing, partition_name
from gateway.sql.layout import Partitioning

__all__ = ["Chore", "Task", "apply", "plan", "sees_all_rows"]

Connection = psycopg.Connection[Any]

_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '5s'"
_MOST_MOVES: Final = 200
"""Partitions made for rows of one default partition in one run; each one makes planning a little slower."""


class Task(StrEnum):
    """What is to be done."""

    MAKE = "make"
    """Make partitions ahead, of all tables at once."""
    MOVE = "move"
    """Move rows out of the default partition into one of their own."""
    DROP = "drop"
    """Drop a partition, or chunks, whose rows are all older than the kind's retention."""
    HIDDEN = "hidden"
    """Nothing: this login cannot see what there is to do."""


@dataclass(frozen=True, slots=True)
class Chore:
    """One thing that is due.

    Attributes:
        task: What.
        table: Which table, with its schema; empty for all.
        name: The partition to be made or dropped.
        span: Its stretch of time; chunks have all up to its end.
        rows: Rows moved or dropped, of all tenants; None where this login cannot count them.
        column: The field that the table is cut by.
    """

    task: Task
    table: str = ""
    name: str = ""
    span: Span | None = None
    rows: int | None = None
    column: str = ""

    def __str__(self) -> str:
        """Return what is due, as a sentence."""
        rows = "an unknown number of" if self.rows is None else f"{self.rows}"
        until = f"{self.span.upper:%Y-%m-%d}" if self.span else ""
        return {
            Task.MAKE: "make partitions ahead",
            Task.MOVE: f"move {rows} rows of {self.table} out of the default partition into {self.name}",
            Task.DROP: f"drop {self.name or 'chunks'} of {self.table} with {rows} rows, all before {until}",
            Task.HIDDEN: f"the default partition of {self.table} holds rows that this login may not see: make it a "
            "member of the admin role",
        }[self.task]


class _Table(NamedTuple):
    schema: str
    name: str
    column: str
    style: str
    interval: Interval
    ahead: int
    spans: dict[str, Span]
    default_bytes: int

    @property
    def full(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


_TABLES: Final = """
SELECT p.table_schema, p.table_name, p.time_column, p.style, p.step, p.ahead,
       coalesce(pg_relation_size(to_regclass(format('%I.%I', p.table_schema, p.table_name || '_default'))), 0)
  FROM gateway.partitioned_tables p
 WHERE to_regclass(format('%I.%I', p.table_schema, p.table_name)) IS NOT NULL
 ORDER BY p.table_schema, p.table_name
"""
_BOUNDS: Final = """
SELECT name, nullif(lower_bound, '-infinity'), nullif(upper_bound, 'infinity')
  FROM gateway.partition_bounds(to_regclass(%s))
"""
_EXTENSION: Final = """
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'
"""
_SEES_ALL: Final = """
SELECT r.rolsuper OR r.rolbypassrls OR EXISTS (
         SELECT FROM pg_policy p JOIN pg_roles a ON a.oid = ANY(p.polroles)
          WHERE p.polname = 'admin_rows' AND pg_has_role(r.oid, a.oid, 'USAGE'))
  FROM pg_roles r WHERE r.rolname = current_user
"""


def plan(connection: Connection, kinds: Iterable[KindSpec], now: datetime | None = None) -> list[Chore]:
    """Return what is due, the dropping first, so that nothing is moved that would be dropped.

    Args:
        connection: Of the operator's login, outside of a transaction or in one that only reads.
        kinds: Every registered kind; tables of others are left alone.
        now: The current moment; for tests.

    Raises:
        psycopg.Error: The database could not answer.
    """
    moment = now or datetime.now(UTC)
    known = {(kind.schema, kind.name): kind for kind in kinds}
    everything = sees_all_rows(connection)
    drops, moves, make = [], [], False
    for table in _tables(connection):
        kind = known.get((table.schema, table.name))
        if kind is None:
            continue
        cutoff = None if kind.retention is None else moment - kind.retention
        if cutoff is not None:
            drops += _drops(connection, table, cutoff, everything)
        if table.style == Partitioning.NATIVE:
            make = make or bool(missing(table.spans.values(), table.interval.spans(moment, table.ahead)))
            moves += _moves(connection, table, cutoff, everything)
    return [*drops, *moves, *([Chore(Task.MAKE)] if make else [])]


def apply(connection: Connection, chore: Chore) -> list[str]:
    """Do one thing that is due, in a transaction of its own, and return what was done.

    Args:
        connection: Of the owner of the tables.
        chore: One of `plan`.

    Raises:
        psycopg.Error: It could not be done, for want of rights or because the table is in use; nothing was changed.
    """
    with connection.transaction():
        connection.execute(_LOCK_TIMEOUT)
        return _WORK[chore.task](connection, chore)


def sees_all_rows(connection: Connection) -> bool:
    """Tell whether row security shows this login the rows of all tenants."""
    row = connection.execute(_SEES_ALL).fetchone()
    return bool(row and row[0])


def _tables(connection: Connection) -> list[_Table]:
    found = []
    for schema, name, column, style, step, ahead, size in connection.execute(_TABLES).fetchall():
        bounds = connection.execute(_BOUNDS, (f'"{schema}"."{name}"',)).fetchall()
        spans = {part: Span(lower, upper) for part, lower, upper in bounds if lower and upper}
        found.append(_Table(schema, name, column, style, Interval(step), ahead, spans, size))
    return found


def _drops(connection: Connection, table: _Table, cutoff: datetime, everything: bool) -> list[Chore]:
    if table.style == Partitioning.TIMESCALE:
        return _chunk_drops(connection, table, cutoff, everything)
    return [
        Chore(Task.DROP, table.full, name, span, _count(connection, table, span) if everything else None)
        for name, span in sorted(table.spans.items(), key=lambda item: item[1])
        if span.upper <= cutoff
    ]


def _chunk_drops(connection: Connection, table: _Table, cutoff: datetime, everything: bool) -> list[Chore]:
    row = connection.execute(
        "SELECT max(range_end) FROM timescaledb_information.chunks"
        " WHERE hypertable_schema = %s AND hypertable_name = %s AND range_end <= %s",
        (table.schema, table.name, cutoff),
    ).fetchone()
    if row is None or row[0] is None:
        return []
    span = Span(datetime.min.replace(tzinfo=UTC), row[0])
    rows = _count(connection, table, span) if everything else None
    return [Chore(Task.DROP, table.full, "", span, rows, table.column)]


def _count(connection: Connection, table: _Table, span: Span) -> int:
    """Count by way of the parent, whose policies show all rows to some; the partition itself shows nobody any."""
    column = sql.Identifier(table.column)
    query = sql.SQL("SELECT count(*) FROM {} WHERE {} >= %s AND {} < %s").format(
        table.identifier, column, column
    )
    row = connection.execute(query, (span.lower, span.upper)).fetchone()
    return int(row[0]) if row else 0


def _moves(connection: Connection, table: _Table, cutoff: datetime | None, everything: bool) -> list[Chore]:
    if not table.default_bytes:
        return []
    if not everything:
        return [Chore(Task.HIDDEN, table.full)]
    counts = {table.interval.span(start): rows for start, rows in _uncovered(connection, table)}
    wanted = sorted(span for span in counts if cutoff is None or span.upper > cutoff)
    return [
        Chore(
            Task.MOVE,
            table.full,
            partition_name(table.name, span.lower, table.interval),
            span,
            counts[table.interval.span(span.lower)],
            table.column,
        )
        for span in missing(table.spans.values(), wanted)[:_MOST_MOVES]
    ]


def _uncovered(connection: Connection, table: _Table) -> Sequence[tuple[datetime, int]]:
    """Return how many rows lie where no partition is, by interval: those in the default partition, and no others."""
    column = sql.Identifier(table.column)
    spans = sorted(table.spans.values())
    outside = [
        sql.SQL("NOT ({} >= {} AND {} < {})").format(
            column, sql.Literal(span.lower), column, sql.Literal(span.upper)
        )
        for span in spans
    ]
    condition = sql.SQL(" AND ").join(outside) if outside else sql.SQL("true")
    query = sql.SQL(
        "SELECT date_trunc({}, {} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC', count(*)"
        " FROM {} WHERE {} GROUP BY 1 ORDER BY 1"
    ).format(sql.Literal(table.interval.value), column, table.identifier, condition)
    return connection.execute(query).fetchall()


def _make(connection: Connection, _chore: Chore) -> list[str]:
    rows = connection.execute("SELECT name, outcome FROM gateway.make_partitions()").fetchall()
    made = [name for name, outcome in rows if outcome == "made"]
    done = [f"made partitions {', '.join(made)}"] if made else []
    return done + [f"partition {name} was not made: {outcome}" for name, outcome in rows if outcome != "made"]


def _move(connection: Connection, chore: Chore) -> list[str]:
    schema, _, name = chore.table.partition(".")
    rest = sql.Identifier(schema, default_name(name))
    # Row security binds the owner too. It is lifted in this transaction only, which holds the partition for itself.
    _run(connection, "ALTER TABLE {} NO FORCE ROW LEVEL SECURITY", rest)
    span = cast("Span", chore.span)
    row = connection.execute(
        "SELECT gateway.make_partition(to_regclass(%s), %s, %s, %s, %s)",
        (f'"{schema}"."{name}"', chore.name, span.lower, span.upper, chore.column),
    ).fetchone()
    _run(connection, "ALTER TABLE {} FORCE ROW LEVEL SECURITY", rest)
    return [
        f"moved {row[0] if row else 0} rows of {chore.table} out of the default partition into {chore.name}"
    ]


def _drop(connection: Connection, chore: Chore) -> list[str]:
    schema, _, name = chore.table.partition(".")
    if chore.name:
        _run(connection, "DROP TABLE {}", sql.Identifier(schema, chore.name))
        return [f"dropped partition {schema}.{chore.name}"]
    # Named in full, since the operator's search_path need not have the schema of the extension.
    ((place,),) = connection.execute(_EXTENSION).fetchall()
    query = sql.SQL("SELECT {}(to_regclass(%s), older_than => %s::timestamptz)")
    dropped = connection.execute(
        query.format(sql.Identifier(place, "drop_chunks")),
        (f'"{schema}"."{name}"', cast("Span", chore.span).upper),
    ).fetchall()
    return [f"dropped {len(dropped)} chunks of {chore.table}"]


def _hidden(_connection: Connection, chore: Chore) -> list[str]:
    return [str(chore)]


_WORK: Final[Mapping[Task, Callable[[Connection, Chore], list[str]]]] = {
    Task.MAKE: _make,
    Task.MOVE: _move,
    Task.DROP: _drop,
    Task.HIDDEN: _hidden,
}


def _run(connection: Connection, text: LiteralString, table: sql.Identifier) -> None:
    connection.execute(sql.SQL(text).format(table))
