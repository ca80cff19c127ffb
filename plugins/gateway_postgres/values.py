"""Rows to what the driver binds, and what it returns to rows.

Most canonical values are bound as they are. Times are whole microseconds through the codec that each connection has;
money travels as text and is cast by the statement; JSON is text, with the exact text beside it where it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import islice
from operator import lt
from typing import Any

from gateway.errors import WriteRejectedError
from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.types import StorageType
from gateway.sql.jsonb import canonical_json, exact_column, needs_exact
from gateway_postgres.arrays import array_writer

__all__ = [
    "Columns",
    "columns_of_rows",
    "in_key_order",
    "json_positions",
    "key_columns",
    "rows_from",
    "values_of_row",
]

_Column = Sequence[Any]


class Columns:
    """The columns of several rows of one kind and tenant, as an upsert takes them.

    Attributes:
        values: Versions, digests, deletions, and each field in order; then, if `exact`, the exact text of each JSON
            field.
        exact: Whether there are exact texts. Mostly there are none, and the columns are not sent at all.
    """

    __slots__ = ("_kind", "exact", "values")

    def __init__(self, kind: KindSpec, values: list[Sequence[Any]], exact: bool) -> None:
        self._kind = kind
        self.values = values
        self.exact = exact

    def lists(self) -> list[Any]:
        """Return what is bound for each column: the text of an array, a list of times, or None for nothing but None.

        The driver looks at each element of a list several times over before it encodes it, which costs ten times as
        much as to join texts; and what `unnest` lacks at the end of a column, it fills with NULL.

        Raises:
            WriteRejectedError: A value is not of the type that its field has.
        """
        return [
            write(column) if column.count(None) < len(column) else None
            for column, write in zip(self.values, _writers(self._kind, self.exact), strict=True)
        ]


@lru_cache(maxsize=512)
def json_positions(kind: KindSpec) -> tuple[int, ...]:
    """Return where a kind's JSON fields stand among its fields."""
    return tuple(at for at, spec in enumerate(kind.fields) if spec.storage is StorageType.JSON)


def columns_of_rows(kind: KindSpec, rows: Sequence[Row]) -> Columns:
    """Return the columns of rows, of which there is at least one."""
    _, _, versions, digests, deletions, values = zip(*rows, strict=True)
    fields = list(zip(*values, strict=True))
    columns: list[Sequence[Any]] = [versions, digests, deletions, *fields]
    texts = [_exact_of(fields[at]) for at in json_positions(kind)]
    if any(column is not None for column in texts):
        nothing = (None,) * len(rows)
        columns += [nothing if column is None else column for column in texts]
        return Columns(kind, columns, exact=True)
    return Columns(kind, columns, exact=False)


def values_of_row(kind: KindSpec, row: Row) -> tuple[list[Value], bool]:
    """Return what an upsert of one row takes, in the order of `Columns.values`, and whether that has exact texts."""
    values: list[Value] = [row.version, row.digest, row.deleted, *row.values]
    texts = [_exact(row.values[at]) for at in json_positions(kind)]
    if any(text is not None for text in texts):
        return [*values, *texts], True
    return values, False


def _exact(text: Value) -> str | None:
    """Return a JSON text if `jsonb` would not give it back."""
    return text if isinstance(text, str) and needs_exact(text) else None


def _exact_of(texts: Sequence[Value]) -> list[str | None] | None:
    """Return the texts that `jsonb` would not give back, each in its place; None if there is none."""
    exact = list(map(_exact, texts))
    return exact if any(text is not None for text in exact) else None


@lru_cache(maxsize=1024)
def _writers(kind: KindSpec, exact: bool) -> tuple[Callable[[_Column], Any], ...]:
    """Return what turns each column into what is bound for it."""
    names = ["version", "digest", "deleted", *kind.field_names]
    storages = [StorageType.INTEGER, StorageType.INTEGER, StorageType.BOOLEAN]
    storages += [spec.storage for spec in kind.fields]
    if exact:
        positions = json_positions(kind)
        names += [exact_column(kind.fields[at].name) for at in positions]
        storages += [StorageType.TEXT] * len(positions)
    return tuple(
        list if storage is StorageType.TIME else _writer(kind.name, name, array_writer(storage))
        for name, storage in zip(names, storages, strict=True)
    )


def _writer(kind: str, name: str, write: Callable[[_Column], str]) -> Callable[[_Column], str]:
    def checked(column: _Column) -> str:
        try:
            return write(column)
        except (TypeError, KeyError, AttributeError) as error:
            raise WriteRejectedError(
                f"{kind}: field {name!r} holds a value of another type than the field has, and sending it again "
                "cannot help"
            ) from error

    return checked


def key_columns(kind: KindSpec, keys: Iterable[Key]) -> list[list[Value]]:
    """Return keys as one list a key field."""
    columns: list[list[Value]] = [[] for _ in kind.key]
    for key in keys:
        for column, value in zip(columns, key, strict=True):
            column.append(value)
    return columns


def in_key_order(kind: KindSpec, rows: Sequence[Row]) -> tuple[Sequence[Row], bool]:
    """Return rows in the order of their keys, and whether each key comes once.

    All writers lock rows in this order, so that none waits for another in a circle. New log rows are in order already.
    """
    width = len(kind.key)
    # The type checkers cannot know that key fields are never None, and are of one type each.
    keys: list[Any] = [row[5][0] for row in rows] if width == 1 else [row[5][:width] for row in rows]
    if all(map(lt, keys, islice(keys, 1, None))):
        return rows, True
    ordered = sorted(range(len(rows)), key=keys.__getitem__)
    return [rows[at] for at in ordered], len(set(keys)) == len(keys)


def rows_from(kind: KindSpec, tenant: str, records: Iterable[Iterable[Any]]) -> list[Row]:
    """Return the rows that results stand for: version, digest, deleted, and the fields.

    Raises:
        ValueError: A JSON column holds what is no JSON.
    """
    found = [
        Row(kind, tenant, version, digest, deleted, tuple(values))
        for version, digest, deleted, *values in records
    ]
    positions = json_positions(kind)
    return [_canonical(row, positions) for row in found] if positions else found


def _canonical(row: Row, positions: Sequence[int]) -> Row:
    values = row.values
    if all(values[at] is None for at in positions):
        return row
    changed = list(values)
    for at in positions:
        text = changed[at]
        if text is not None:
            changed[at] = canonical_json(str(text))
    return row._replace(values=tuple(changed))
