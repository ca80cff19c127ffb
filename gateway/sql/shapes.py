"""What a table needs to know of its kind, and which key and indexes it gets. Pure, and without SQLAlchemy."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.records.kind import KindSpec, Shape
from gateway.records.types import StorageType

__all__ = ["TableShape", "partition_field", "primary_key", "secondary_indexes", "shape_of"]


@dataclass(frozen=True, slots=True)
class TableShape:
    """A kind as far as its table is concerned; revisions keep it as it was.

    Attributes:
        name: Name of the table.
        schema: Schema, where the database has several.
        key: Fields that identify a row within a tenant.
        columns: Name and storage type of every field, the key first.
        indexes: Field groups by which rows are looked for.
        time: The field that tables are cut by; None where they are not.
        log: Whether rows are identified by `record_id`.
    """

    name: str
    schema: str
    key: tuple[str, ...]
    columns: tuple[tuple[str, StorageType], ...]
    indexes: tuple[tuple[str, ...], ...] = ()
    time: str | None = None
    log: bool = False


def partition_field(kind: KindSpec) -> str | None:
    """Return the field that a kind's table is cut by: the time of a log, or a time that is a part of the key.

    The table of a state whose time may change between two versions of a row cannot be cut by it.
    """
    if kind.shape is Shape.LOG or kind.time_field in kind.key:
        return kind.time_field
    return None


def shape_of(kind: KindSpec) -> TableShape:
    """Return what the table of a kind needs to know."""
    return TableShape(
        name=kind.name,
        schema=kind.schema,
        key=kind.key,
        columns=tuple((spec.name, spec.storage) for spec in kind.fields),
        indexes=kind.indexes,
        time=partition_field(kind),
        log=kind.shape is Shape.LOG,
    )


def primary_key(shape: TableShape) -> tuple[str, ...]:
    """Return the primary key in PostgreSQL, the tenant first.

    The column that a table is cut by must be part of every key, so a log is keyed by its time too, which also
    gives it the order of its listings for nothing.
    """
    if shape.log and shape.time is not None:
        return ("tenant_id", shape.time, *shape.key)
    return ("tenant_id", *shape.key)


def secondary_indexes(shape: TableShape) -> tuple[tuple[str, ...], ...]:
    """Return the indexes beside the primary key in PostgreSQL, by fields, to each of which the tenant is put in front.

    One that the primary key begins with is left out.
    """
    key = primary_key(shape)[1:]
    wanted = (shape.key, *shape.indexes) if shape.log else shape.indexes
    return tuple(dict.fromkeys(fields for fields in wanted if key[: len(fields)] != fields))
