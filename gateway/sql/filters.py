"""Queries, counts and digests as SQL text with parameters; `gateway.query` says what each must mean."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from gateway.backend import Summarize
from gateway.errors import InvalidRecordError
from gateway.query import Condition, Op, Query, ReadRange
from gateway.records.codec import Value
from gateway.records.kind import FieldSpec, KindSpec
from gateway.records.row import Key
from gateway.records.types import StorageType
from gateway.sql.dialect import Dialect, quoted
from gateway.sql.statements import columns_of

__all__ = ["SqlText", "digest_total", "select_digest", "select_page", "select_summary"]

_SIGNS: Final = {Op.LT: "<", Op.LE: "<=", Op.GT: ">", Op.GE: ">="}
_NEVER: Final = "1 = 0"


Parameter = Value | list[Value]
"""A value, or several where the database takes a list as one parameter."""


class SqlText:
    """A statement under construction: its text and its parameters grow together."""

    __slots__ = ("_dialect", "_parts", "parameters")

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._parts: list[str] = []
        self.parameters: list[Parameter] = []

    @property
    def text(self) -> str:
        """The statement so far."""
        return " ".join(self._parts)

    def add(self, part: str) -> None:
        """Append text that holds no values."""
        self._parts.append(part)

    def mark(self, value: Parameter) -> str:
        """Take a value and return the placeholder that stands for it."""
        self.parameters.append(value)
        return self._dialect.placeholder(len(self.parameters))

    def typed(self, value: Value, storage: StorageType) -> str:
        """Take a value of a storage type and return the placeholder that stands for it."""
        self.parameters.append(value)
        return self._dialect.value(len(self.parameters), storage)


@lru_cache(maxsize=1024)
def _order(kind: KindSpec, descending: bool) -> str:
    return ", ".join(f"{quoted(name)} DESC" if descending else quoted(name) for name in kind.order)


@lru_cache(maxsize=1024)
def _place(kind: KindSpec) -> str:
    """Return the columns of `kind.order` as a row value, which an index on them serves as one range."""
    return f"({', '.join(quoted(name) for name in kind.order)})"


def _from(kind: KindSpec, tenant: str, columns: str, dialect: Dialect) -> SqlText:
    sql = SqlText(dialect)
    sql.add(f"SELECT {columns or columns_of(kind, dialect)}")
    sql.add(f"FROM {dialect.table(kind)} WHERE tenant_id = {sql.mark(tenant)}")
    return sql


def select_page(query: Query, dialect: Dialect) -> tuple[str, list[Parameter]]:
    """Return the statement of a page, and its parameters. Rows come as `Statements.row` takes them.

    Raises:
        InvalidRecordError: A condition names no field of the kind, or lists too many values.
    """
    sql = _from(query.kind, query.tenant, "", dialect)
    if not query.include_deleted:
        sql.add(f"AND deleted = {dialect.false}")
    for condition in query.where:
        sql.add(f"AND {_condition(sql, query.kind, condition, dialect)}")
    if query.after is not None:
        _beyond(sql, query.kind, query.after, "<" if query.descending else ">", dialect)
    sql.add(f"ORDER BY {_order(query.kind, query.descending)} LIMIT {sql.mark(query.limit)}")
    if len(sql.parameters) > dialect.max_parameters:
        raise InvalidRecordError(
            f"{query.kind.name}: the query has {len(sql.parameters)} values, but the store takes "
            f"{dialect.max_parameters} at once; split the list of values over several queries"
        )
    return sql.text, sql.parameters


def _beyond(sql: SqlText, kind: KindSpec, bound: Key, sign: str, dialect: Dialect) -> None:
    storages = [kind.field_spec(name).storage for name in kind.order]
    marks = [sql.typed(value, storage) for value, storage in zip(bound, storages, strict=True)]
    sql.add(f"AND {_place(kind)} {sign} ({', '.join(marks)})")
    if dialect.bounds_time and storages[0] is StorageType.TIME:
        # Says nothing new, but no database concludes it when it looks for the partitions to leave out.
        sql.add(f"AND {quoted(kind.order[0])} {sign[0]}= {sql.typed(bound[0], storages[0])}")


def _condition(sql: SqlText, kind: KindSpec, condition: Condition, dialect: Dialect) -> str:
    """Return the text of one condition. NULL is spelled out, since comparing with it in SQL is never true."""
    try:
        spec = kind.field_spec(condition.field)
    except KeyError as error:
        raise _no_field(kind, condition.field) from error
    column, op, value = quoted(condition.field), condition.op, condition.value
    if op is Op.IN:
        return _one_of(sql, spec, value if isinstance(value, tuple) else (), dialect)
    if isinstance(value, tuple):
        raise InvalidRecordError(f"{kind.name}.{condition.field}: only `in` compares with several values")
    if op is Op.EQ:
        return f"{column} IS NULL" if value is None else _equal(sql, spec, value, dialect)
    if op is Op.NE:
        return f"{column} IS NOT NULL" if value is None else _differs(sql, spec, value, dialect)
    if value is None:
        return _NEVER
    if spec.storage is StorageType.JSON and dialect.json_equal is not None:
        raise InvalidRecordError(f"{kind.name}.{condition.field}: JSON has no order; compare it for equality")
    ordered = dialect.decimal(column) if spec.storage is StorageType.MONEY else column
    return f"{ordered} {_SIGNS[op]} {sql.typed(value, spec.storage)}"


def _equal(sql: SqlText, spec: FieldSpec, value: Value, dialect: Dialect) -> str:
    if spec.storage is StorageType.JSON and dialect.json_equal is not None:
        return dialect.json_equal(spec.name, sql.mark(value), str(value))
    return f"{quoted(spec.name)} = {sql.typed(value, spec.storage)}"


def _differs(sql: SqlText, spec: FieldSpec, value: Value, dialect: Dialect) -> str:
    if spec.storage is StorageType.JSON and dialect.json_equal is not None:
        return f"({_equal(sql, spec, value, dialect)}) IS NOT TRUE"
    column = quoted(spec.name)
    return f"({column} <> {sql.typed(value, spec.storage)} OR {column} IS NULL)"


def _no_field(kind: KindSpec, name: str) -> InvalidRecordError:
    return InvalidRecordError(
        f"{kind.name} has no field {name!r}; its fields are {', '.join(kind.field_names)}"
    )


def _one_of(sql: SqlText, spec: FieldSpec, values: tuple[Value, ...], dialect: Dialect) -> str:
    column = quoted(spec.name)
    wanted: list[Value] = [value for value in values if value is not None]
    tests = [_among(sql, spec, wanted, dialect)] if wanted else []
    if len(wanted) < len(values):
        tests.append(f"{column} IS NULL")
    return f"({' OR '.join(tests)})" if tests else _NEVER


def _among(sql: SqlText, spec: FieldSpec, values: list[Value], dialect: Dialect) -> str:
    if spec.storage is StorageType.JSON and dialect.json_equal is not None:
        return " OR ".join([_equal(sql, spec, value, dialect) for value in values])
    column = quoted(spec.name)
    if dialect.one_of is None:
        return f"{column} IN ({', '.join([sql.typed(value, spec.storage) for value in values])})"
    sql.parameters.append(values)
    return f"{column} {dialect.one_of(len(sql.parameters), spec.storage)}"


def select_summary(request: Summarize, dialect: Dialect) -> tuple[str, list[Parameter]]:
    """Return the statement that counts live rows: value of the group, rows, first and last time.

    Raises:
        InvalidRecordError: The kind has no such field to group by.
    """
    kind, by = request.kind, request.by
    if by is not None and by not in kind.field_names:
        raise _no_field(kind, by)
    shown = "NULL" if by is None else dialect.readable(kind.field_spec(by))
    time = "NULL" if kind.time_field is None else quoted(kind.time_field)
    sql = _from(kind, request.tenant, f"{shown}, COUNT(*), MIN({time}), MAX({time})", dialect)
    sql.add(f"AND deleted = {dialect.false}")
    if by is not None:
        storage = kind.field_spec(by).storage
        # Two JSON documents that a database finds equal may have two texts, so the text is what is grouped by.
        group = shown if storage is StorageType.JSON else quoted(by)
        order = dialect.decimal(group) if storage is StorageType.MONEY else group
        sql.add(f"GROUP BY {group} ORDER BY {order}{dialect.nulls_first}")
    return sql.text, sql.parameters


def select_digest(span: ReadRange, dialect: Dialect) -> tuple[str, list[Parameter]]:
    """Return the statement that sums the digests of a stretch: rows, sum of upper and of lower 32 bits.

    The halves are summed apart because a sum of 64-bit numbers overflows in the store; `digest_total` joins
    them.
    """
    columns = "COUNT(*), COALESCE(SUM(digest >> 32), 0), COALESCE(SUM(digest & 4294967295), 0)"
    sql = _from(span.kind, span.tenant, columns, dialect)
    if span.after is not None:
        _beyond(sql, span.kind, span.after, ">", dialect)
    if span.upto is not None:
        _beyond(sql, span.kind, span.upto, "<=", dialect)
    return sql.text, sql.parameters


def digest_total(high: int, low: int) -> int:
    """Return the sum modulo 2**64 from the sums of its halves."""
    return ((int(high) << 32) + int(low)) % 2**64
