"""What changing a schema needs from PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from gateway.errors import SchemaError
from gateway.sql.catalog import read_catalog
from gateway.sql.creation import VERSION_TABLE, Statement, literal, schema_creation, shape_in
from gateway.sql.databases import Difference
from gateway.sql.dialect import POSTGRES, Dialect, quoted
from gateway.sql.intents import INTENTS
from gateway.sql.intervals import Interval
from gateway.sql.layout import OWN_SCHEMA, Group, Layout, Partitioning
from gateway.sql.stored_drift import OWN_TABLES, drift_of_house, drift_of_stored
from gateway.sql.tenancy import OWN_RIGHTS, grants

__all__ = ["AUTO", "PostgresDatabase"]

AUTO: Final = "auto"
"""Setting: hypertables where TimescaleDB is installed, partitions of PostgreSQL elsewhere."""

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('gateway.schema', 0))"
_LOCK_WAIT: Final = "SET LOCAL lock_timeout = '120s'"
"""How long an upgrade waits for another one."""
_DDL_WAIT: Final = "SET LOCAL lock_timeout = '10s'"
"""How long it waits for a table in use: whoever queues behind it waits as long."""

_FACTS: Final = """
SELECT ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY(:roles)),
       ARRAY(SELECT nspname::text FROM pg_namespace),
       (SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
         WHERE e.extname = 'timescaledb')
"""
_OTHERS: Final = (
    "n.nspname !~ '^(pg_|_timescaledb|timescaledb|gateway_chunks$)' AND n.nspname <> 'information_schema'"
)
_TABLES: Final = f"""
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND {_OTHERS}
"""  # noqa: S608 - fixed text
_COLUMNS: Final = f"""
SELECT n.nspname || '.' || c.relname, a.attname
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped AND {_OTHERS}
"""  # noqa: S608 - fixed text
_LINES: Final = f"""
SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = '{OWN_SCHEMA}' AND c.relkind = 'r' AND starts_with(c.relname::text, '{VERSION_TABLE}_')
"""  # noqa: S608 - fixed text
_FORCED: Final = "SELECT relforcerowsecurity FROM pg_class WHERE oid = to_regclass(:name)"


@dataclass(frozen=True)
class PostgresDatabase:
    """A PostgreSQL database.

    Attributes:
        partitioning: `auto`, or one of `Partitioning`.
        interval: How much time one partition holds.
        ahead: How many partitions are made ahead of the current one.
        prefix: Group roles are called `<prefix>_app` and so on.
        backend: Instance name, for errors.
    """

    partitioning: str = AUTO
    interval: str = Interval.MONTH
    ahead: int = 3
    prefix: str = "gateway"
    backend: str = ""
    dialect: Dialect = POSTGRES
    version_schema: str | None = OWN_SCHEMA
    own: Collection[str] = field(
        # What has yet to reach a mirror is missed, as a row is.
        default=tuple(f"{OWN_SCHEMA}.{name}" for name in OWN_TABLES if name != INTENTS),
        repr=False,
    )
    intents: str = f"{OWN_SCHEMA}.{INTENTS}"
    now: str = "(extract(epoch FROM now()) * 1000000)::bigint"

    def begin(self, connection: sa.Connection) -> None:
        """Wait for whoever is changing the schema. Locks of a session would leak through a pooler."""
        for statement in _begin():
            connection.execute(literal(statement))

    def layout(self, connection: sa.Connection) -> Layout:
        """Return which groups and schemas there are, and whether TimescaleDB is installed."""
        roles = {f"{self.prefix}_{group.value}": group for group in Group}
        query = sa.text(_FACTS).bindparams(sa.bindparam("roles", list(roles), type_=sa.ARRAY(sa.Text())))
        found, schemas, timescale = connection.execute(query).one()
        auto = Partitioning.TIMESCALE if timescale else Partitioning.NATIVE
        return self._layout(
            auto if self.partitioning == AUTO else Partitioning(self.partitioning),
            groups=frozenset(roles[name] for name in found),
            schemas=frozenset(schemas),
            timescale=timescale,
        )

    def planned(self) -> Layout:
        """Return the layout of a new database where the groups exist, and TimescaleDB if it was asked for."""
        wanted = Partitioning.NATIVE if self.partitioning == AUTO else Partitioning(self.partitioning)
        return self._layout(wanted, frozenset(Group), frozenset(), "public")

    def _layout(
        self,
        partitioning: Partitioning,
        groups: frozenset[Group],
        schemas: frozenset[str],
        timescale: str | None,
    ) -> Layout:
        return Layout(
            POSTGRES.name,
            partitioning,
            Interval(self.interval),
            self.ahead,
            self.prefix,
            groups,
            schemas,
            timescale,
            insisted=self.partitioning != AUTO,
        )

    def prepare(self, connection: sa.Connection) -> Layout:
        """Make the gateway's own schema, and the extension where the setting asks for it."""
        layout = self.layout(connection)
        if layout.partitioning is Partitioning.TIMESCALE and layout.timescale is None:
            self._create_extension(connection)
        if OWN_SCHEMA not in layout.schemas:
            for statement in schema_creation([OWN_SCHEMA], layout):
                connection.execute(statement)
        return self.layout(connection)

    def _create_extension(self, connection: sa.Connection) -> None:
        query = "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"
        if connection.execute(literal(query)).first() is None:
            raise SchemaError(
                "partitioning is set to timescale and this server does not have TimescaleDB: install it there, or set "
                "partitioning to auto",
                backend=self.backend,
            )
        connection.execute(literal("CREATE EXTENSION IF NOT EXISTS timescaledb"))

    def tables(self, connection: sa.Connection) -> set[str]:
        """Return the tables that are there, partitions left out."""
        return {row[0] for row in connection.execute(literal(_TABLES))}

    def columns(self, connection: sa.Connection) -> set[tuple[str, str]]:
        """Return every table's columns."""
        return {(row[0], row[1]) for row in connection.execute(literal(_COLUMNS))}

    def filled(self, connection: sa.Connection, tables: Iterable[str]) -> set[str]:
        """Return which of some tables have rows, of any tenant.

        Row security binds the owner too, who would see every table empty; so it is lifted from the owner for the
        look, in this transaction, in which nobody else sees the table.
        """
        return {name for name in tables if _filled(connection, _quoted(name))}

    def differences(
        self, connection: sa.Connection, tables: Sequence[sa.Table], layout: Layout
    ) -> Sequence[Difference]:
        """Compare all tables of kinds, with their protection and partitions, and the gateway's own objects."""
        names = [(shape_in(table).schema, table.name) for table in tables]
        lines = [row[0] for row in connection.execute(literal(_LINES))]
        own = [(OWN_SCHEMA, name) for name in (*OWN_TABLES, *lines)]
        catalog = read_catalog(connection, [*names, *own], timescale=layout.timescale is not None)
        house = drift_of_house((schema for schema, _ in names), lines, catalog, layout)
        return [house, *(drift_of_stored(table, catalog, layout) for table in tables)]

    def sharing(self, version_table: str, layout: Layout) -> Sequence[Statement]:
        """Return the grants on what remembers how far the line of a package is."""
        name = f"{quoted(OWN_SCHEMA)}.{quoted(version_table)}"
        return [literal(text) for text in grants(name, layout, OWN_RIGHTS)]

    def finish(self, connection: sa.Connection) -> list[str]:
        """Make the partitions that are due."""
        rows = connection.execute(literal(f"SELECT name, outcome FROM {OWN_SCHEMA}.make_partitions()")).all()  # noqa: S608
        made = [name for name, outcome in rows if outcome == "made"]
        done = [f"made {len(made)} partitions ahead"] if made else []
        return done + [
            f"partition {name} was not made: {outcome}" for name, outcome in rows if outcome != "made"
        ]

    def frame(self, script: str) -> str:
        """Return a script as one transaction under the lock, with what a reader must know first."""
        layout = self.planned()
        roles = ", ".join(layout.role(group) for group in Group)
        begin = "".join(f"{statement};\n" for statement in _begin())
        extension = (
            "CREATE EXTENSION IF NOT EXISTS timescaledb;\n\n"
            if layout.partitioning is Partitioning.TIMESCALE
            else ""
        )
        return (
            f"-- Needs the roles {roles}: see `gateway schema roles`.\n"
            f"-- Tables of time are cut as {layout.partitioning}, one partition a {layout.interval}.\n"
            "-- Run it as the role that is to own the tables.\n\n"
            f"BEGIN;\n\n{begin}\n{extension}CREATE SCHEMA IF NOT EXISTS {quoted(OWN_SCHEMA)};\n\n"
            f"{script.strip()}\n\nSELECT name, outcome FROM {OWN_SCHEMA}.make_partitions();\n\nCOMMIT;\n"
        )


def _begin() -> tuple[str, ...]:
    # A limit that suits the queries of a bot would stop the building of an index.
    return ("SET LOCAL statement_timeout = 0", _LOCK_WAIT, _LOCK, _DDL_WAIT)


def _quoted(name: str) -> str:
    schema, _, table = name.partition(".")
    return f"{quoted(schema)}.{quoted(table)}"


def _filled(connection: sa.Connection, table: str) -> bool:
    forced = connection.execute(sa.text(_FORCED), {"name": table}).scalar()
    if forced:
        connection.execute(literal(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"))
    found = connection.execute(literal(f"SELECT 1 FROM {table} LIMIT 1")).first() is not None  # noqa: S608 - quoted
    if forced:
        connection.execute(literal(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"))
    return found
