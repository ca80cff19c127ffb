"""SQLAlchemy Core tables from record kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.types import TypeEngine

from gateway.errors import CapabilityError, ConfigurationError
from gateway.records.kind import KindSpec
from gateway.records.types import StorageType
from gateway.sql.dialect import POSTGRES, SQLITE, Dialect, qualified_name, table_name
from gateway.sql.fingerprints import index_name
from gateway.sql.intervals import default_name, parse_name
from gateway.sql.jsonb import exact_column
from gateway.sql.layout import OWN_SCHEMA
from gateway.sql.shapes import TableShape, primary_key, secondary_indexes, shape_of

__all__ = ["KINDS_TABLE", "STAMPS", "columns_from", "kinds_table", "metadata_of", "table_from", "table_of"]

KINDS_TABLE: Final = "gateway_kinds"
"""Remembers which declaration each kind's table was made for."""

STAMPS: Final = ("created_at", "updated_at")
"""Columns that PostgreSQL fills by itself, for people: when a row came into this store and when it changed there."""

_SQLITE_TYPES: Final[Mapping[StorageType, type[TypeEngine[Any]]]] = {
    # Whatever SQLite keeps as text or as a whole number comes back exactly as it went in. Money is text,
    # since REAL would round it; money is ordered by a collation. Time is microseconds.
    StorageType.TEXT: sa.Text,
    StorageType.INTEGER: sa.Integer,
    StorageType.FLOAT: sa.REAL,
    StorageType.BOOLEAN: sa.Integer,
    StorageType.MONEY: sa.Text,
    StorageType.TIME: sa.Integer,
    StorageType.JSON: sa.Text,
}
_POSTGRES_TYPES: Final[Mapping[StorageType, TypeEngine[Any]]] = {
    # Sorted by code points, as every other store sorts, whatever the database's language is.
    StorageType.TEXT: sa.Text(collation="C"),
    StorageType.INTEGER: sa.BigInteger(),
    StorageType.FLOAT: sa.Double(),
    StorageType.BOOLEAN: sa.Boolean(),
    # Without precision and scale: NUMERIC(18, 8) would round a price of 1e-10 and refuse an amount of 1e11.
    StorageType.MONEY: sa.Numeric(),
    StorageType.TIME: sa.DateTime(timezone=True),
    StorageType.JSON: pg.JSONB(),
}


def table_of(kind: KindSpec, metadata: sa.MetaData, dialect: Dialect = SQLITE) -> sa.Table:
    """Return the table of a kind, and add it to the metadata; see `table_from`.

    Raises:
        ConfigurationError: The name of the kind, or of its schema, belongs to the gateway or to the database.
        CapabilityError: There are no column types for the dialect.
    """
    table_name(kind.name)
    if dialect.name == POSTGRES.name:
        qualified_name(kind)
        if kind.schema == OWN_SCHEMA:
            raise ConfigurationError(
                f"record kind {kind.name!r}: the schema {OWN_SCHEMA!r} is the gateway's own; choose another"
            )
    return table_from(shape_of(kind), metadata, dialect.name)


def table_from(shape: TableShape, metadata: sa.MetaData, dialect: str) -> sa.Table:
    """Return the table of a shape, and add it to the metadata.

    Columns outside the key are nullable whatever the record says, because a tombstone keeps only its key and
    its time. There are no defaults: every value is decided in the gateway, once. The exceptions are `created_at` and
    `updated_at` in PostgreSQL, which belong to the store and are in no digest.

    Args:
        shape: What the table is to hold.
        metadata: Where the table is added.
        dialect: `sqlite` or `postgresql`.

    Raises:
        CapabilityError: There are no column types for the dialect.
    """
    if dialect == SQLITE.name:
        return _sqlite(shape, metadata)
    if dialect == POSTGRES.name:
        return _postgres(shape, metadata)
    raise CapabilityError(f"no column types are known for {dialect!r}; known are sqlite, postgresql")


def _sqlite(shape: TableShape, metadata: sa.MetaData) -> sa.Table:
    """Return the table in SQLite.

    The tenant comes last in the key and not at all in the indexes: a file rarely has more than one, and 36 bytes of
    it in every entry of every index cost a fifth of a write. Before the key it would also tempt SQLite to find a
    page of a listing by tenant, which is every row, and to sort those.

    The table has a rowid of its own: rows of a megabyte make a clustered key slow, and with rows of the usual size
    neither form was measurably better.
    """
    return sa.Table(
        shape.name,
        metadata,
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.Integer, nullable=False),
        *_columns(shape, SQLITE.name, shape.key),
        sa.PrimaryKeyConstraint(*shape.key, "tenant_id"),
        *(sa.Index(index_name(shape.name, fields), *fields) for fields in shape.indexes),
        info={"shape": shape},
    )


def _postgres(shape: TableShape, metadata: sa.MetaData) -> sa.Table:
    """Return the table in PostgreSQL, where the tenant comes first in the key and in every index.

    Row security asks for it in every query, and a server is shared by many tenants.
    """
    key = primary_key(shape)
    fields = {name for name, _ in shape.columns}
    return sa.Table(
        shape.name,
        metadata,
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        *_columns(shape, POSTGRES.name, key),
        *(_stamp(name) for name in STAMPS if name not in fields),
        sa.PrimaryKeyConstraint(*key, name=f"{shape.name}_pkey"),
        *(sa.Index(index_name(shape.name, index), "tenant_id", *index) for index in secondary_indexes(shape)),
        schema=shape.schema,
        info={"shape": shape},
    )


def _columns(shape: TableShape, dialect: str, key: tuple[str, ...]) -> list[sa.Column[Any]]:
    return [
        column
        for name, storage in shape.columns
        for column in columns_from(name, storage, dialect, nullable=name not in key)
    ]


def columns_from(
    name: str, storage: StorageType, dialect: str, *, nullable: bool = True
) -> list[sa.Column[Any]]:
    """Return the columns of one field: one, and for JSON in PostgreSQL two.

    Args:
        name: Name of the field.
        storage: What it holds.
        dialect: `sqlite` or `postgresql`.
        nullable: Whether it may be missing, as every field outside the key may.
    """
    if dialect == SQLITE.name:
        return [sa.Column(name, _SQLITE_TYPES[storage], nullable=nullable)]
    column: sa.Column[Any] = sa.Column(name, _POSTGRES_TYPES[storage], nullable=nullable)
    if storage is not StorageType.JSON:
        return [column]
    # JSONB spells some numbers its own way; where it does, the text itself stands beside it.
    return [column, sa.Column(exact_column(name), sa.Text(), nullable=True)]


def _stamp(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()"))


def kinds_table(metadata: sa.MetaData, dialect: str) -> sa.Table:
    """Return the table that remembers what each kind's table was made for."""
    return sa.Table(
        KINDS_TABLE,
        metadata,
        sa.Column("name", sa.Text, primary_key=True, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        schema=OWN_SCHEMA if dialect == POSTGRES.name else None,
    )


def metadata_of(kinds: Iterable[KindSpec], dialect: Dialect = SQLITE) -> sa.MetaData:
    """Return the tables of all kinds, and the one that remembers them.

    Raises:
        ConfigurationError: A name belongs to the gateway or to the database, or to a partition of another kind.
    """
    metadata = sa.MetaData()
    kinds = tuple(kinds)
    kinds_table(metadata, dialect.name)
    for kind in kinds:
        table_of(kind, metadata, dialect)
    if dialect.name == POSTGRES.name:
        _refuse_partition_names({kind.name for kind in kinds})
    return metadata


def _refuse_partition_names(names: set[str]) -> None:
    for name in sorted(names):
        parsed = parse_name(name)
        if parsed is not None and parsed[0] in names:
            raise ConfigurationError(
                f"record kind {name!r}: a partition of {parsed[0]} has that name; rename it"
            )
        if name in {default_name(other) for other in names}:
            raise ConfigurationError(
                f"record kind {name!r}: the default partition of another kind has that name"
            )
