"""What mends one difference between a database and what it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from gateway.sql.creation import Statement

__all__ = ["UPGRADE", "Fix", "plain_name"]

UPGRADE: Final = "run `gateway schema upgrade`"


@dataclass(frozen=True, slots=True)
class Fix:
    """A difference that can be mended without asking anybody.

    Attributes:
        problem: What is wrong, as the beginning of a sentence.
        done: What was done about it; empty where something else says so.
        statements: What mends it.
    """

    problem: str
    done: str
    statements: tuple[Statement, ...]


def plain_name(table: sa.Table) -> str:
    """Return the name of a table with its schema, as people write it."""
    return f"{table.schema}.{table.name}"
