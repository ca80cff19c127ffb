"""SQL text of one kind, made once: guarded upsert, reads by key, purging; and rows to parameters and back.

Identifiers come from registered kinds and are quoted; every value is a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from gateway.errors import CapabilityError
from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.types import StorageType
from gateway.sql.dialect import Dialect, quoted

__all__ = ["GATEWAY_COLUMNS", "Statements", "columns_of", "statements_of"]

GATEWAY_COLUMNS: Final = ("tenant_id", "version", "digest", "deleted")
"""Columns that every table has before those of its kind."""

_ROWS_A_STATEMENT: Final = (*range(1, 65), 128, 512)
"""Sizes that upserts come in, for the same reason."""

_KEYS_A_STATEMENT: Final = (1, 16, 128, 512)
"""Sizes that reads by key come in, so that the driver's cache of prepared statements serves them all."""


@lru_cache(maxsize=1024)
def columns_of(kind: KindSpec, dialect: Dialect) -> str:
    """Return the column list of a whole row: version, digest, deleted, and the kind's fields in their order."""
    return ", ".join(["version", "digest", "deleted", *(dialect.readable(spec) for spec in kind.fields)])


class Statements:
    """The statements of one kind in one dialect. Get it from `statements_of`.

    They are for databases that take a parameter without being told its type, as SQLite does.

    Attributes:
        kind: The kind.
        table: Its table, quoted.
        columns: What `row` expects of a result, as a column list.
        width: How many parameters one row takes.
        booleans: Positions among the kind's fields that hold flags, which SQLite gives back as numbers.
    """

    __slots__ = ("_dialect", "_key_sql", "_upserts", "booleans", "columns", "kind", "table", "width")

    def __init__(self, kind: KindSpec, dialect: Dialect) -> None:
        self.kind = kind
        self._dialect = dialect
        self.table = dialect.table(kind)
        storages = enumerate(spec.storage for spec in kind.fields)
        self.booleans = tuple(at for at, storage in storages if storage is StorageType.BOOLEAN)
        self.columns = columns_of(kind, dialect)
        self.width = len(GATEWAY_COLUMNS) + len(kind.fields)
        self._upserts: dict[int, str] = {}
        self._key_sql = {count: self._by_keys(count) for count in _KEYS_A_STATEMENT}

    def __repr__(self) -> str:
        return f"<Statements {self.kind.name} {self._dialect.name}>"

    @property
    def upsert(self) -> str:
        """The statement that stores the row of `parameters`, unless what is stored has as great a stamp."""
        return self.upsert_of(1)

    def upsert_of(self, rows: int) -> str:
        """Return the upsert of several rows, whose parameters follow one another.

        One statement of many rows costs less than as many statements, and a driver that lets other threads run
        while a statement runs lets them run for all of it.
        """
        text = self._upserts.get(rows)
        if text is None:
            text = self._upserts[rows] = self._upsert(rows)
        return text

    def portions(self, rows: int) -> Iterator[int]:
        """Yield the sizes of statements that together store some rows, the largest first."""
        left, most = rows, max(1, self._dialect.max_parameters // self.width)
        for size in reversed(_ROWS_A_STATEMENT):
            while size <= min(left, most):
                yield size
                left -= size

    def _upsert(self, rows: int) -> str:
        columns = [*GATEWAY_COLUMNS, *self.kind.field_names]
        key = {"tenant_id", *self.kind.key}
        numbers = iter(range(1, rows * len(columns) + 1))
        groups = ([self._dialect.placeholder(next(numbers)) for _ in columns] for _ in range(rows))
        values = ", ".join(f"({', '.join(group)})" for group in groups)
        free = [quoted(name) for name in columns if name not in key]
        changed = ", ".join(f"{name} = excluded.{name}" for name in free)
        conflict = ", ".join(quoted(name) for name in (*self.kind.key, "tenant_id"))
        names = ", ".join(quoted(name) for name in columns)
        return (
            f"INSERT INTO {self.table} ({names}) VALUES {values} "  # noqa: S608 - names of a registered kind
            f"ON CONFLICT ({conflict}) DO UPDATE SET {changed} "
            f"WHERE (excluded.version, excluded.digest) > ({self.table}.version, {self.table}.digest)"
        )

    def _by_keys(self, count: int) -> tuple[str, str]:
        """Return what stands before and after `SELECT columns` in a read of so many keys; the tenant comes last.

        Several keys of several fields are joined as a table of their own: `(a, b) IN (VALUES …)` reads as well,
        but SQLite answers it by walking through the whole table.
        """
        names = [quoted(name) for name in self.kind.key]
        numbers = iter(range(1, count * len(names) + 2))
        groups = [[self._dialect.placeholder(next(numbers)) for _ in names] for _ in range(count)]
        start, end = f"FROM {self.table} WHERE", f"AND tenant_id = {self._dialect.placeholder(next(numbers))}"
        if count == 1:
            tests = (f"{name} = {mark}" for name, mark in zip(names, groups[0], strict=True))
            return "", f"{start} {' AND '.join(tests)} {end}"
        if len(names) == 1:
            return "", f"{start} {names[0]} IN ({', '.join(group[0] for group in groups)}) {end}"
        # Two underscores: no kind and no field has such a name.
        wanted = [f"key__{number}" for number in range(len(names))]
        rows = ", ".join(f"({', '.join(group)})" for group in groups)
        tests = (f"{name} = wanted__keys.{own}" for name, own in zip(names, wanted, strict=True))
        return (
            f"WITH wanted__keys ({', '.join(wanted)}) AS (VALUES {rows}) ",
            f"FROM wanted__keys CROSS JOIN {self.table} WHERE {' AND '.join(tests)} {end}",
        )

    def reads(
        self, tenant: str, keys: Sequence[Key], columns: str | None = None
    ) -> Iterator[tuple[str, list[Value]]]:
        """Yield statements, with their parameters, that together read the rows of keys, in any order.

        Args:
            tenant: Whose rows.
            keys: Canonical keys; may repeat.
            columns: What to select instead of a whole row.
        """
        start = 0
        while start < len(keys):
            left = len(keys) - start
            size = next((size for size in _KEYS_A_STATEMENT if size >= left), _KEYS_A_STATEMENT[-1])
            chunk = keys[start : start + size]
            start += size
            # Too few keys for the statement's size: repeating one changes nothing in the answer.
            flat = [*(value for key in chunk for value in key), *(chunk[-1] * (size - len(chunk))), tenant]
            before, after = self._key_sql[size]
            yield f"{before}SELECT {columns or self.columns} {after}", flat

    def purge(self, limit: int) -> str:
        """Return the statement that removes at most `limit` rows of a tenant older than a moment.

        Its parameters are the tenant, the tenant again, and the moment in microseconds.

        Raises:
            CapabilityError: The kind has no time field, so nothing in it has an age.
        """
        kind, mark = self.kind, self._dialect.placeholder
        if kind.time_field is None:
            raise CapabilityError(f"{kind.name} has no time field, so its rows have no age to purge by")
        names = ", ".join(quoted(name) for name in kind.key)
        old = f"{quoted(kind.time_field)} < {mark(3)} LIMIT {int(limit)}"
        return (
            f"DELETE FROM {self.table} WHERE tenant_id = {mark(1)} AND ({names}) IN "  # noqa: S608 - names of a registered kind
            f"(SELECT {names} FROM {self.table} WHERE tenant_id = {mark(2)} AND {old})"
        )

    @staticmethod
    def parameters(row: Row) -> tuple[Value, ...]:
        """Return what `upsert` takes."""
        _, tenant, version, digest, deleted, values = row
        # `+deleted`: drivers bind an int at once, but look for an adapter before they bind a bool.
        return (tenant, version, digest, +deleted, *values)

    def many_parameters(self, rows: Sequence[Row]) -> list[Value]:
        """Return what `upsert_of` takes for these rows."""
        flat: list[Value] = []
        for _, tenant, version, digest, deleted, values in rows:
            flat += (tenant, version, digest, +deleted)
            flat += values
        return flat

    def row(self, tenant: str, record: Sequence[Any]) -> Row:
        """Return the row that a result of `columns` stands for."""
        values = tuple(record[3:])
        if self.booleans:
            values = self._with_flags(values)
        return Row(self.kind, tenant, record[0], record[1], bool(record[2]), values)

    def _with_flags(self, values: tuple[Value, ...]) -> tuple[Value, ...]:
        changed = list(values)
        for position in self.booleans:
            if changed[position] is not None:
                changed[position] = bool(changed[position])
        return tuple(changed)


@lru_cache(maxsize=1024)
def statements_of(kind: KindSpec, dialect: Dialect) -> Statements:
    """Return the statements of a kind; made once."""
    return Statements(kind, dialect)
