"""SQLAlchemy Core tables from record kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.types import TypeEngine

from gateway.errors import CapabilityError
from gateway.records.kind import FieldSpec, KindSpec
from gateway.records.types import StorageType
from gateway.sql.dialect import SQLITE, Dialect, table_name
from gateway.sql.fingerprints import index_name

__all__ = ["KINDS_TABLE", "metadata_of", "table_of"]

KINDS_TABLE: Final = "gateway_kinds"
"""Remembers which declaration each kind's table was made for."""

_TYPES: Final[Mapping[str, Mapping[StorageType, type[TypeEngine[Any]]]]] = {
    # Whatever SQLite keeps as text or as a whole number comes back exactly as it went in. Money is text,
    # since REAL would round it; money is ordered by a collation. Time is microseconds.
    "sqlite": {
        StorageType.TEXT: sa.Text,
        StorageType.INTEGER: sa.Integer,
        StorageType.FLOAT: sa.REAL,
        StorageType.BOOLEAN: sa.Integer,
        StorageType.MONEY: sa.Text,
        StorageType.TIME: sa.Integer,
        StorageType.JSON: sa.Text,
    }
}


def table_of(kind: KindSpec, metadata: sa.MetaData, dialect: Dialect = SQLITE) -> sa.Table:
    """Return the table of a kind, and add it to the metadata.

    Columns outside the key are nullable whatever the record says, because a tombstone keeps only its key and
    its time. There are no defaults: every value is decided in the gateway, once.

    The tenant comes last in the key and not at all in the indexes: a file rarely has more than one, and 36 bytes of
    it in every entry of every index cost a fifth of a write. Before the key it would also tempt SQLite to find a
    page of a listing by tenant, which is every row, and to sort those.

    The table has a rowid of its own in SQLite: rows of a megabyte make a clustered key slow, and with rows of
    the usual size neither form was measurably better.

    Raises:
        ConfigurationError: The name of the kind belongs to the gateway or to the database.
        CapabilityError: There are no column types for the dialect.
    """
    types = _TYPES.get(dialect.name)
    if types is None:
        raise CapabilityError(
            f"no column types are known for {dialect.name!r}; known are {', '.join(_TYPES)}"
        )
    flag = types[StorageType.BOOLEAN]
    return sa.Table(
        table_name(kind.name),
        metadata,
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.BigInteger, nullable=False),
        sa.Column("deleted", flag, nullable=False),
        *(_column(spec, kind, types) for spec in kind.fields),
        sa.PrimaryKeyConstraint(*kind.key, "tenant_id"),
        *(sa.Index(index_name(kind.name, fields), *fields) for fields in kind.indexes),
    )


def _column(
    spec: FieldSpec, kind: KindSpec, types: Mapping[StorageType, type[TypeEngine[Any]]]
) -> sa.Column[Any]:
    return sa.Column(spec.name, types[spec.storage], nullable=spec.name not in kind.key)


def metadata_of(kinds: Iterable[KindSpec], dialect: Dialect = SQLITE) -> sa.MetaData:
    """Return the tables of all kinds, and the gateway's own."""
    metadata = sa.MetaData()
    sa.Table(
        KINDS_TABLE,
        metadata,
        sa.Column("name", sa.Text, primary_key=True, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    for kind in kinds:
        table_of(kind, metadata, dialect)
    return metadata
