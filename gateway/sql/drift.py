"""How a table differs from its kind, and which differences can be mended without asking a person."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from gateway.errors import SchemaError
from gateway.sql.creation import intents_creation
from gateway.sql.layout import Layout

__all__ = ["Drift", "OwnDrift", "drift_of"]


@dataclass(frozen=True, slots=True)
class Drift:
    """What one table lacks or has too much.

    Attributes:
        table: The table as the kind wants it.
        exists: Whether it is there at all.
        columns: Nullable columns that are missing; adding them loses nothing.
        indexes: Indexes that are missing.
        conflicts: Differences that only a person can decide, as sentences.
    """

    table: sa.Table
    exists: bool
    columns: tuple[sa.Column[object], ...] = ()
    indexes: tuple[sa.Index, ...] = ()
    conflicts: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Return every difference as a sentence that says what to do."""
        name = self.table.name
        found = list(self.conflicts)
        if not self.exists:
            found.append(f"table {name} is missing: run `gateway schema upgrade`")
        found += [
            f"column {name}.{column.name} is missing: run `gateway schema upgrade`" for column in self.columns
        ]
        return found + [
            f"index {index.name} is missing: run `gateway schema upgrade`" for index in self.indexes
        ]

    def mend(self, connection: sa.Connection, backend: str) -> list[str]:
        """Add what is missing and return what was added.

        Raises:
            SchemaError: There are conflicts; nothing was changed.
        """
        if self.conflicts:
            raise SchemaError("; ".join(self.conflicts), backend=backend)
        if not self.exists:
            self.table.create(connection)
            return [f"created table {self.table.name}"]
        operations = Operations(MigrationContext.configure(connection))
        for column in self.columns:
            operations.add_column(self.table.name, sa.Column(column.name, column.type))
        for index in self.indexes:
            index.create(connection)
        added = [f"added column {self.table.name}.{column.name}" for column in self.columns]
        return added + [f"created index {index.name}" for index in self.indexes]


@dataclass(frozen=True, slots=True)
class OwnDrift:
    """That one of the gateway's own tables is missing, which somebody must have dropped.

    Attributes:
        table: Its name.
        layout: What it is made with.
    """

    table: str
    layout: Layout

    def problems(self) -> list[str]:
        """Return the sentence about it."""
        return [f"table {self.table} is missing: run `gateway schema upgrade`"]

    def mend(self, connection: sa.Connection, backend: str) -> list[str]:  # noqa: ARG002 - nothing stands in the way
        """Create the table."""
        for statement in intents_creation(self.layout):
            connection.execute(statement)
        return [f"created table {self.table}"]


def drift_of(inspector: sa.Inspector, table: sa.Table) -> Drift:
    """Compare a table with what is in the database."""
    if not inspector.has_table(table.name):
        return Drift(table, exists=False)
    dialect = inspector.dialect
    stored = {
        item["name"]: item["type"].compile(dialect=dialect) for item in inspector.get_columns(table.name)
    }
    wanted = {column.name: column.type.compile(dialect=dialect) for column in table.columns}
    named = {item["name"] for item in inspector.get_indexes(table.name)}
    key = inspector.get_pk_constraint(table.name)["constrained_columns"]
    return Drift(
        table,
        exists=True,
        columns=tuple(column for column in table.columns if column.name not in stored and column.nullable),
        indexes=tuple(
            sorted((index for index in table.indexes if index.name not in named), key=lambda i: str(i.name))
        ),
        conflicts=tuple(_conflicts(table, stored, wanted, key)),
    )


def _conflicts(table: sa.Table, stored: dict[str, str], wanted: dict[str, str], key: list[str]) -> list[str]:
    name = table.name
    found = [
        f"table {name} has a column {column} that the kind lacks: install the release that made it, or drop "
        "the column if nothing needs it"
        for column in sorted(stored.keys() - wanted.keys())
    ]
    found += [
        f"column {name}.{column} is {stored[column]} and the kind wants {wanted[column]}: give the changed "
        "field another name, or copy the rows into a new store"
        for column in sorted(stored.keys() & wanted.keys())
        if stored[column] != wanted[column]
    ]
    found += [
        f"key column {name}.{column.name} is missing: copy the rows into a new store"
        for column in table.columns
        if column.name not in stored and not column.nullable
    ]
    expected = [column.name for column in table.primary_key.columns]
    if key != expected:
        found.append(
            f"table {name} is keyed by {', '.join(key) or 'nothing'} and the kind by {', '.join(expected)}: "
            "give the kind another name, or copy the rows into a new store"
        )
    return found
