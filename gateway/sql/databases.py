"""What changing a schema needs from a database, and how SQLite answers. PostgreSQL stands in `gateway.sql.postgres`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, Protocol

import sqlalchemy as sa

from gateway.sql.creation import Statement, literal
from gateway.sql.dialect import SQLITE, Dialect, quoted
from gateway.sql.drift import OwnDrift, drift_of
from gateway.sql.intents import SQLITE_INTENTS
from gateway.sql.layout import Layout
from gateway.sql.tables import KINDS_TABLE

__all__ = ["Database", "Difference", "SqliteDatabase"]


class Difference(Protocol):
    """How one part of a schema differs from what it should be."""

    def problems(self) -> list[str]:
        """Return every difference as a sentence that says what to do."""
        ...

    def mend(self, connection: sa.Connection, backend: str) -> list[str]:
        """Mend what loses nothing, and return what was done; raises SchemaError where a person must decide."""
        ...


class Database(Protocol):
    """One database management system. Tables are named as people write them: with their schema, where there is one."""

    @property
    def dialect(self) -> Dialect:
        """How it spells things."""
        ...

    @property
    def version_schema(self) -> str | None:
        """Schema of the tables that remember revisions; None where there are no schemas."""
        ...

    @property
    def own(self) -> Collection[str]:
        """Tables of the gateway's own, whose rows nobody misses."""
        ...

    @property
    def intents(self) -> str:
        """The table of what has yet to reach a mirror."""
        ...

    @property
    def now(self) -> str:
        """The expression for the current time in microseconds since 1970."""
        ...

    def begin(self, connection: sa.Connection) -> None:
        """Take the lock under which a schema is changed; the transaction's end gives it back."""
        ...

    def layout(self, connection: sa.Connection) -> Layout:
        """Return what there is to build on."""
        ...

    def planned(self) -> Layout:
        """Return the layout of a new store that cannot be looked at."""
        ...

    def prepare(self, connection: sa.Connection) -> Layout:
        """Make what must be there before the first revision, and return the layout then."""
        ...

    def tables(self, connection: sa.Connection) -> set[str]:
        """Return the tables that are there."""
        ...

    def columns(self, connection: sa.Connection) -> set[tuple[str, str]]:
        """Return every table's columns."""
        ...

    def filled(self, connection: sa.Connection, tables: Iterable[str]) -> set[str]:
        """Return which of some tables have rows, of any tenant."""
        ...

    def differences(
        self, connection: sa.Connection, tables: Sequence[sa.Table], layout: Layout
    ) -> Sequence[Difference]:
        """Compare all tables of kinds, and what belongs to them."""
        ...

    def sharing(self, version_table: str, layout: Layout) -> Sequence[Statement]:
        """Return what lets those who may look at the schema see how far the line of a package is."""
        ...

    def finish(self, connection: sa.Connection) -> list[str]:
        """Do what every upgrade ends with, and return what was done."""
        ...

    def frame(self, script: str) -> str:
        """Return a printed script with what it needs around it."""
        ...


class SqliteDatabase:
    """A SQLite file. Its engine begins a changing transaction with the file's write lock."""

    dialect: Dialect = SQLITE
    version_schema: str | None = None
    own: Collection[str] = (KINDS_TABLE,)
    intents: str = SQLITE_INTENTS
    now: str = "CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
    _layout: Final = Layout(SQLITE.name)

    def begin(self, connection: sa.Connection) -> None:
        """Do nothing: the transaction began with the lock."""

    def layout(self, connection: sa.Connection) -> Layout:  # noqa: ARG002 - there is one layout only
        """Return the one layout there is."""
        return self._layout

    def planned(self) -> Layout:
        """Return the one layout there is."""
        return self._layout

    def prepare(self, connection: sa.Connection) -> Layout:  # noqa: ARG002 - a file needs no preparation
        """Make nothing."""
        return self._layout

    def tables(self, connection: sa.Connection) -> set[str]:
        """Return the tables that are there."""
        return set(sa.inspect(connection).get_table_names())

    def columns(self, connection: sa.Connection) -> set[tuple[str, str]]:
        """Return every table's columns."""
        inspector = sa.inspect(connection)
        return {
            (table, item["name"])
            for table in self.tables(connection)
            for item in inspector.get_columns(table)
        }

    def filled(self, connection: sa.Connection, tables: Iterable[str]) -> set[str]:
        """Return which of some tables have rows."""
        return {name for name in tables if _any_row(connection, quoted(name))}

    def differences(
        self,
        connection: sa.Connection,
        tables: Sequence[sa.Table],
        layout: Layout,
    ) -> Sequence[Difference]:
        """Compare all tables of kinds, and see whether the gateway's own are there."""
        inspector = sa.inspect(connection)
        lacking = () if inspector.has_table(SQLITE_INTENTS) else (OwnDrift(SQLITE_INTENTS, layout),)
        return [*lacking, *(drift_of(inspector, table) for table in tables)]

    def sharing(self, version_table: str, layout: Layout) -> Sequence[Statement]:  # noqa: ARG002 - see above
        """Return nothing: whoever may read a file may read all of it."""
        return ()

    def finish(self, connection: sa.Connection) -> list[str]:  # noqa: ARG002 - see above
        """Do nothing."""
        return []

    def frame(self, script: str) -> str:
        """Return the script as it is: Alembic wrote the transaction."""
        return script


def _any_row(connection: sa.Connection, table: str) -> bool:
    return connection.execute(literal(f"SELECT 1 FROM {table} LIMIT 1")).first() is not None  # noqa: S608 - quoted
