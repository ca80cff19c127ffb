"""Frames: rows as Arrow tables. The only module that imports pyarrow, and only when a frame is asked for.

| storage | in stores' answers (`arrow_schema`) | in answers to bots (`frame_of`) |
|---|---|---|
| text | string | string |
| integer | int64 | int64 |
| float | double | double |
| boolean | bool | bool |
| money | string, canonical | decimal256(60, 30) |
| time | timestamp of microseconds, UTC | the same |
| json | string, canonical | string, canonical |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from gateway.catalogue import install_hint
from gateway.columns import ArrowTable
from gateway.errors import ConfigurationError, InvalidRecordError
from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.records.types import MONEY_DIGITS, MONEY_SCALE, StorageType

__all__ = [
    "arrow",
    "arrow_schema",
    "frame_of",
    "has_arrow",
    "joined",
    "last_position",
    "lists_of",
    "table_of",
    "table_of_rows",
]

EXTRA: Final = "frames"


def arrow() -> Any:
    """Return the module pyarrow.

    Raises:
        ConfigurationError: It, or numpy, is not installed; the message names the extra.
    """
    try:
        import numpy as np  # noqa: F401 - pyarrow installs without it, and then cannot give floats fast
        import pyarrow as pa  # type: ignore[import-untyped] # it brings no types
        import pyarrow.compute  # type: ignore[import-untyped] # makes pa.compute there
    except ImportError as error:
        raise ConfigurationError(
            f"frames need pyarrow and numpy, which are not both installed; install them with {install_hint(EXTRA)}"
        ) from error
    return pa


def has_arrow() -> bool:
    """Tell whether frames can be made."""
    try:
        arrow()
    except ConfigurationError:
        return False
    return True


def arrow_schema(kind: KindSpec, fields: Sequence[str]) -> Any:
    """Return the `pyarrow.Schema` of some fields' canonical values: what stores answer with."""
    pa = arrow()
    types = {
        StorageType.TEXT: pa.string(),
        StorageType.INTEGER: pa.int64(),
        StorageType.FLOAT: pa.float64(),
        StorageType.BOOLEAN: pa.bool_(),
        StorageType.MONEY: pa.string(),
        StorageType.TIME: pa.timestamp("us", tz="UTC"),
        StorageType.JSON: pa.string(),
    }
    return pa.schema([(name, types[kind.field_spec(name).storage]) for name in fields])


def table_of(kind: KindSpec, fields: Sequence[str], columns: Iterable[Sequence[Value]]) -> ArrowTable:
    """Return columns of canonical values as a table of `arrow_schema`."""
    pa = arrow()
    schema = arrow_schema(kind, fields)
    arrays = [
        pa.array(column, pa.int64()).cast(one.type)
        if pa.types.is_timestamp(one.type)
        else pa.array(column, one.type)
        for one, column in zip(schema, columns, strict=True)
    ]
    return pa.table(arrays, schema=schema)


def table_of_rows(kind: KindSpec, fields: Sequence[str], rows: Sequence[Row]) -> ArrowTable:
    """Return some fields of rows as a table of `arrow_schema`."""
    positions = [kind.index(name) for name in fields]
    return table_of(kind, fields, [[row.values[at] for row in rows] for at in positions])


def joined(kind: KindSpec, fields: Sequence[str], tables: Sequence[ArrowTable]) -> ArrowTable:
    """Return tables one after another, with `fields` as their columns; an empty one if there are none.

    Raises:
        InvalidRecordError: A column is not of the type that its field has.
    """
    pa = arrow()
    schema = arrow_schema(kind, fields)
    try:
        return pa.concat_tables(
            [schema.empty_table(), *(table.select(fields).cast(schema) for table in tables)]
        )
    except pa.ArrowException as error:
        raise InvalidRecordError(
            f"{kind.name}: the store answered with columns of other types ({error}); run `gateway verify --deep`"
        ) from error


def frame_of(kind: KindSpec, table: ArrowTable) -> ArrowTable:
    """Return a table of `arrow_schema` as bots get it: money as exact decimals."""
    pa = arrow()
    exact = pa.decimal256(MONEY_DIGITS, MONEY_SCALE)
    for at, name in enumerate(table.column_names):
        if kind.field_spec(name).storage is StorageType.MONEY:
            table = table.set_column(at, name, table.column(at).cast(exact))
    return table


def lists_of(table: ArrowTable) -> list[list[Value]]:
    """Return the columns of a table of `arrow_schema` as canonical values."""
    pa = arrow()
    found = []
    for column in table.columns:
        plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        # numpy's way to Python floats is three times as fast as Arrow's, but knows no None.
        fast = pa.types.is_floating(plain.type) and not plain.null_count
        found.append(plain.to_numpy().tolist() if fast else plain.to_pylist())
    return found


def last_position(kind: KindSpec, table: ArrowTable) -> Key:
    """Return where the last row of a table stands in listings; the table has the columns of `kind.order`."""
    (values,) = zip(*lists_of(table.slice(len(table) - 1).select(list(kind.order))), strict=True)
    return tuple(values)
