"""How a kind lies in QuestDB: its table, columns, designated timestamp and the keys by which repeated rows are dropped.

Every version of a row is a row of its own; which one counts is decided when reading. Pure.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Final, get_args, get_origin

from gateway.records.kind import FieldSpec, KindSpec, Shape
from gateway.records.types import StorageType

__all__ = [
    "AT",
    "LEAST",
    "ORIGIN",
    "Column",
    "Form",
    "Layout",
    "layout_of",
    "quoted",
]

AT: Final = "row__at"
"""Designated timestamp of kinds whose time is no part of what identifies a row: the time in the version."""
ORIGIN: Final = "row__origin"
"""Of logs: which other versions a row can have; see `gateway_questdb.origins`."""
LEAST: Final = "row__least"
"""Names the whole numbers of a row that are -2**63, which QuestDB takes for NULL: `,one,other,`."""
_LEVELS: Final = "__levels"
# Fields never hold two underscores, so none of these can be a field's name.


class Form(Enum):
    """How the values of a field are kept."""

    VARCHAR = auto()
    SYMBOL = auto()
    LONG = auto()
    DOUBLE = auto()
    FLAG = auto()
    """BOOLEAN has no NULL in QuestDB, so a symbol of `true` and `false`."""
    DECIMAL = auto()
    TIMESTAMP = auto()


_TYPES: Final = {
    Form.VARCHAR: "VARCHAR",
    Form.SYMBOL: "SYMBOL",
    Form.LONG: "LONG",
    Form.DOUBLE: "DOUBLE",
    Form.FLAG: "SYMBOL",
    # Every amount that the gateway takes: 30 digits before the point and 30 after it.
    Form.DECIMAL: "DECIMAL(60,30)",
    Form.TIMESTAMP: "TIMESTAMP",
}
_FORMS: Final = {
    StorageType.TEXT: Form.VARCHAR,
    StorageType.JSON: Form.VARCHAR,
    StorageType.INTEGER: Form.LONG,
    StorageType.FLOAT: Form.DOUBLE,
    StorageType.BOOLEAN: Form.FLAG,
    StorageType.MONEY: Form.DECIMAL,
    StorageType.TIME: Form.TIMESTAMP,
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: As it is written, without quotes.
        type: As it is declared.
    """

    name: str
    type: str

    @property
    def declared(self) -> str:
        """The column in a CREATE or ALTER statement."""
        return f"{quoted(self.name)} {self.type}"


@dataclass(frozen=True, slots=True)
class Layout:
    """How one kind lies in QuestDB.

    Attributes:
        kind: The kind.
        table: Name of its table.
        designated: Name of the designated timestamp's column.
        forms: How each of `kind.fields` is kept, in their order.
        levels: Names of the fields that have an array beside their text: order book levels.
        partition_by: How much time one partition holds.
    """

    kind: KindSpec
    table: str
    designated: str
    forms: tuple[Form, ...]
    levels: frozenset[str]
    partition_by: str

    @property
    def log(self) -> bool:
        """Whether rows are found by an id that does not tell their place in time."""
        return self.kind.shape is Shape.LOG

    @property
    def least(self) -> bool:
        """Whether the table has the column `LEAST`."""
        return any(
            form is Form.LONG and spec.name not in self.kind.key
            for form, spec in zip(self.forms, self.kind.fields, strict=True)
        )

    def form(self, name: str) -> Form:
        """Return how a field is kept; raises KeyError."""
        return self.forms[self.kind.index(name)]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns, in the order of the table."""
        found = [Column(AT, "TIMESTAMP")] if self.designated == AT else []
        found.append(Column("tenant_id", "SYMBOL"))
        found += [
            Column("version", "LONG"),
            Column("digest", "LONG"),
            Column("deleted", "BOOLEAN"),
        ]
        for spec, form in zip(self.kind.fields, self.forms, strict=True):
            found.append(Column(spec.name, _TYPES[form]))
            if spec.name in self.levels:
                found.append(Column(f"{spec.name}{_LEVELS}", "DOUBLE[][]"))
        if self.log:
            found.append(Column(ORIGIN, "SYMBOL"))
        if self.least:
            found.append(Column(LEAST, "VARCHAR"))
        return tuple(found)

    @property
    def upsert_keys(self) -> tuple[str, ...]:
        """Columns by which a row is the same row: what identifies it, and which version of it this is."""
        named = (self.designated, "tenant_id", *self.kind.key, "version", "digest")
        return tuple(dict.fromkeys(named))

    @property
    def create(self) -> str:
        """The statement that makes the table where it is not there."""
        columns = ", ".join(column.declared for column in self.columns)
        keys = ", ".join(quoted(name) for name in self.upsert_keys)
        return (
            f"CREATE TABLE IF NOT EXISTS {quoted(self.table)} ({columns}) TIMESTAMP({quoted(self.designated)}) "
            f"PARTITION BY {self.partition_by} WAL DEDUP UPSERT KEYS({keys})"
        )

    @property
    def fingerprint(self) -> str:
        """What changes when the table has to. How partitions are cut is decided once, when it is made."""
        columns = ",".join(column.declared for column in self.columns)
        text = f"1|{self.table}|{columns}|{self.designated}|{','.join(self.upsert_keys)}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def quoted(name: str) -> str:
    """Return a name as SQL writes it. Names come from registered kinds, which hold letters, digits and `_`."""
    return f'"{name}"'


def levels_column(name: str) -> str:
    """Return the name of the array beside a field of order book levels."""
    return f"{name}{_LEVELS}"


@lru_cache(maxsize=1024)
def layout_of(kind: KindSpec, prefix: str = "", partition_by: str = "DAY") -> Layout:
    """Return how a kind lies in QuestDB.

    Args:
        kind: The kind.
        prefix: What the names of all tables begin with.
        partition_by: How much time one partition holds.
    """
    timed = kind.time_field is not None and (kind.shape is Shape.LOG or kind.time_field in kind.key)
    symbols = _symbols(kind)
    forms = tuple(Form.SYMBOL if spec.name in symbols else _FORMS[spec.storage] for spec in kind.fields)
    levels = frozenset(spec.name for spec in kind.fields if _is_levels(kind, spec))
    return Layout(
        kind, f"{prefix}{kind.name}", str(kind.time_field) if timed else AT, forms, levels, partition_by
    )


def _symbols(kind: KindSpec) -> frozenset[str]:
    """Return the texts of which few differ: those that rows are looked for by, and parts of keys with a time."""
    named = {name for group in kind.indexes for name in group}
    if kind.time_field in kind.key:
        named |= set(kind.key)
    unique = kind.key[0] if len(kind.key) == 1 else None
    return frozenset(
        spec.name
        for spec in kind.fields
        if spec.name in named and spec.name != unique and spec.storage is StorageType.TEXT
    )


def _is_levels(kind: KindSpec, spec: FieldSpec) -> bool:
    """Tell whether a JSON field holds pairs of numbers, not an object."""
    if spec.storage is not StorageType.JSON:
        return False
    annotation: Any = kind.model.model_fields[spec.name].annotation
    return any(get_origin(part) is tuple for part in _parts(annotation))


def _parts(annotation: Any) -> list[Any]:
    """Return an annotation and what is inside its unions and `Annotated`."""
    if get_origin(annotation) is tuple:
        return [annotation]
    inner = [part for part in get_args(annotation) if part is not type(None)]
    return [annotation, *(found for part in inner for found in _parts(part))]
