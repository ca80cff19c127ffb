"""Fingerprints of kinds: whether a table was made for this very declaration, without looking at the table."""

from __future__ import annotations

import hashlib
from typing import Final

from gateway.records.kind import KindSpec
from gateway.sql.shapes import partition_field

__all__ = ["fingerprint_of", "index_name"]

_LONGEST_NAME: Final = 60
"""PostgreSQL cuts identifiers at 63 bytes."""


def index_name(kind_name: str, fields: tuple[str, ...]) -> str:
    """Return the name of an index: the same in every process and release, at most 60 characters.

    Two underscores divide the parts, since names hold only single ones: no two indexes share a name, which in
    SQLite is one name space for all tables.
    """
    name = "__".join((f"ix_{kind_name}", *fields))
    if len(name) <= _LONGEST_NAME:
        return name
    tail = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9]}_{tail}"


def fingerprint_of(kind: KindSpec, dialect: str = "sqlite") -> str:
    """Return what changes when the table of a kind has to: columns, their types, the key or the indexes.

    Args:
        kind: The kind.
        dialect: In PostgreSQL the schema matters too, and the field that the table is cut by.
    """
    columns = ",".join(f"{spec.name}:{spec.storage.value}" for spec in kind.fields)
    indexes = ";".join(sorted(index_name(kind.name, fields) for fields in kind.indexes))
    text = f"1|{kind.name}|{','.join(kind.key)}|{columns}|{indexes}"
    if dialect != "sqlite":
        text = f"{text}|{dialect}|{kind.schema}|{partition_field(kind) or ''}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
