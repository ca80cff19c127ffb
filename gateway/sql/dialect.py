"""What SQL databases spell differently, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.errors import ConfigurationError

__all__ = ["DECIMAL_COLLATION", "SQLITE", "SYSTEM_TABLES", "Dialect", "quoted", "table_name"]

DECIMAL_COLLATION: Final = "gateway_decimal"
"""Collation that a SQLite connection must have to order money, which is stored as text."""

SYSTEM_TABLES: Final = frozenset({"alembic_version", "gateway_kinds"})
"""Tables of the gateway's own; no kind may be called like one."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one database spells what the statements need.

    Attributes:
        name: As SQLAlchemy calls it.
        placeholder: Returns the placeholder of the n-th parameter, counted from 1.
        decimal: Returns the expression by which a money column is ordered numerically.
        false: The literal of an unset flag.
        max_parameters: Most parameters that one statement may have.
    """

    name: str
    placeholder: Callable[[int], str]
    decimal: Callable[[str], str]
    false: str
    max_parameters: int


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


SQLITE: Final = Dialect(
    name="sqlite",
    placeholder=lambda _number: "?",
    decimal=lambda column: f"{column} COLLATE {DECIMAL_COLLATION}",
    false="0",
    # The default of every SQLite since 3.32; distributions only raise it.
    max_parameters=32_000,
)
