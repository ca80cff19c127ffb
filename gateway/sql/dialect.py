"""What SQL databases spell differently, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.errors import ConfigurationError
from gateway.records.kind import NAME_PATTERN, FieldSpec, KindSpec
from gateway.records.types import StorageType
from gateway.sql.jsonb import exact_column, needs_exact

__all__ = [
    "DECIMAL_COLLATION",
    "POSTGRES",
    "POSTGRES_TYPES",
    "SQLITE",
    "SYSTEM_TABLES",
    "Dialect",
    "qualified_name",
    "quoted",
    "table_name",
]

DECIMAL_COLLATION: Final = "gateway_decimal"
"""Collation that a SQLite connection must have to order money, which is stored as text."""

SYSTEM_TABLES: Final = frozenset({"alembic_version", "gateway_kinds", "gateway_intents"})
"""Tables of the gateway's own; no kind may be called like one."""


@dataclass(frozen=True, eq=False, slots=True)
class Dialect:
    """How one database spells what the statements need.

    Attributes:
        name: As SQLAlchemy calls it.
        placeholder: Returns the placeholder of the n-th parameter, counted from 1.
        decimal: Returns the expression by which a money column is ordered numerically.
        false: The literal of an unset flag.
        max_parameters: Most parameters that one statement may have.
        table: Returns the table of a kind, quoted.
        value: Returns the placeholder of the n-th parameter, said to be a value of a storage type.
        readable: Returns the expression that gives the canonical value of a column, as far as the database can.
        one_of: Returns the test for being among the n-th parameter, a list of values of a storage type; None where a
            list is spelled out, one parameter a value.
        json_equal: Returns the test of a JSON column (its bare name) for the canonical text that the placeholder
            stands for; None where the text itself is stored.
        nulls_first: What makes an ordering begin with NULL.
        bounds_time: Whether a page of a log is found faster when the time alone is bounded too, as it is where tables
            are partitioned by time.
    """

    name: str
    placeholder: Callable[[int], str]
    decimal: Callable[[str], str]
    false: str
    max_parameters: int
    table: Callable[[KindSpec], str]
    value: Callable[[int, StorageType], str]
    readable: Callable[[FieldSpec], str]
    one_of: Callable[[int, StorageType], str] | None = None
    json_equal: Callable[[str, str, str], str] | None = None
    nulls_first: str = ""
    bounds_time: bool = False


def quoted(name: str) -> str:
    """Return an identifier in quotes. Names come from registered kinds, whose letters were checked there."""
    return f'"{name}"'


def table_name(kind_name: str) -> str:
    """Return the table of a kind.

    Raises:
        ConfigurationError: The name belongs to the gateway or to the database itself.
    """
    if kind_name in SYSTEM_TABLES or kind_name.startswith(("sqlite_", "pg_")):
        raise ConfigurationError(
            f"record kind {kind_name!r}: a table of that name belongs to the database or the gateway; "
            "rename the kind"
        )
    return kind_name


def qualified_name(kind: KindSpec) -> str:
    """Return the table of a kind with its schema, quoted, so that no search path decides which table is meant.

    Raises:
        ConfigurationError: The kind's name or schema belongs to the gateway or to the database, or the schema is no
            plain name.
    """
    schema = kind.schema
    if not NAME_PATTERN.match(schema) or schema == "information_schema" or schema.startswith("pg_"):
        raise ConfigurationError(
            f"record kind {kind.name!r}: the schema {schema!r} must be lower case letters, digits and underscores, "
            "and none of the database's own"
        )
    return f"{quoted(schema)}.{quoted(table_name(kind.name))}"


SQLITE: Final = Dialect(
    name="sqlite",
    placeholder=lambda _number: "?",
    decimal=lambda column: f"{column} COLLATE {DECIMAL_COLLATION}",
    false="0",
    # The default of every SQLite since 3.32; distributions only raise it.
    max_parameters=32_000,
    table=lambda kind: quoted(table_name(kind.name)),
    value=lambda _number, _storage: "?",
    readable=lambda spec: quoted(spec.name),
)

POSTGRES_TYPES: Final[Mapping[StorageType, str]] = {
    StorageType.TEXT: "text",
    StorageType.INTEGER: "bigint",
    StorageType.FLOAT: "double precision",
    StorageType.BOOLEAN: "boolean",
    StorageType.MONEY: "numeric",
    StorageType.TIME: "timestamptz",
    StorageType.JSON: "jsonb",
}
"""The type of a column. Money without a scale keeps each number as it was given, trailing zeros and all."""


def _typed(number: int, storage: StorageType) -> str:
    # Money travels as text, which is what a canonical value is.
    return (
        f"${number}::text::numeric"
        if storage is StorageType.MONEY
        else f"${number}::{POSTGRES_TYPES[storage]}"
    )


def _among(number: int, storage: StorageType) -> str:
    money = storage is StorageType.MONEY
    return f"= ANY(${number}::{'text[]::numeric' if money else POSTGRES_TYPES[storage]}[])"


def _readable(spec: FieldSpec) -> str:
    column = quoted(spec.name)
    if spec.storage is StorageType.MONEY:
        return f"{column}::text"
    if spec.storage is StorageType.JSON:
        return f"COALESCE({quoted(exact_column(spec.name))}, {column}::text)"
    return column


def _json_equal(name: str, placeholder: str, text: str) -> str:
    """Compare texts, not documents: to `jsonb` 1 and 1.0 are equal."""
    exact = quoted(exact_column(name))
    if needs_exact(text):
        return f"{exact} = {placeholder}::text"
    return f"({exact} IS NULL AND {quoted(name)}::text = {placeholder}::text::jsonb::text)"


POSTGRES: Final = Dialect(
    name="postgresql",
    placeholder=lambda number: f"${number}",
    decimal=lambda column: column,
    false="false",
    # asyncpg counts parameters in 16 bits, one of them for the sign.
    max_parameters=32_767,
    table=qualified_name,
    value=_typed,
    readable=_readable,
    one_of=_among,
    json_equal=_json_equal,
    nulls_first=" NULLS FIRST",
    bounds_time=True,
)
