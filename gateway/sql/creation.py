"""The statements that make tables, in the order they must run. Revisions, upgrades and printed SQL all use these."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable, ExecutableDDLElement

from gateway.sql.dialect import POSTGRES, quoted
from gateway.sql.fingerprints import index_name
from gateway.sql.functions import FUNCTIONS, function_statements
from gateway.sql.intents import INTENTS, SQLITE_INTENTS
from gateway.sql.intervals import Interval, default_name
from gateway.sql.layout import CHUNK_SCHEMA, OWN_SCHEMA, Group, Layout, Partitioning
from gateway.sql.shapes import TableShape
from gateway.sql.tables import KINDS_TABLE, kinds_table
from gateway.sql.tenancy import (
    INTENT_RIGHTS,
    OWN_RIGHTS,
    admin_policy,
    grants,
    protect,
    schema_grants,
    tenant_policy,
)

__all__ = [
    "MOVED_ROWS",
    "PARTITIONED_TABLES",
    "VERSION_TABLE",
    "Statement",
    "house_creation",
    "house_removal",
    "intents_creation",
    "intents_removal",
    "kinds_creation",
    "literal",
    "own_table_creation",
    "qualified",
    "register",
    "schema_creation",
    "shape_in",
    "style_of",
    "table_creation",
]

MOVED_ROWS: Final = "moved_rows"
"""Remembers logs' rows whose time was changed; see the data path."""
VERSION_TABLE: Final = "alembic_version"
"""Remembers the revision; Alembic makes it."""
PARTITIONED_TABLES: Final = "partitioned_tables"
"""Remembers how each table of time is cut, for what makes partitions."""

Statement = sa.TextClause | ExecutableDDLElement

_POSTGRES: Final = pg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
_MOVED: Final = f"{quoted(OWN_SCHEMA)}.{quoted(MOVED_ROWS)}"
_INTENTS: Final = f"{quoted(OWN_SCHEMA)}.{quoted(INTENTS)}"
_CUT: Final = f"{quoted(OWN_SCHEMA)}.{quoted(PARTITIONED_TABLES)}"


def literal(text: str) -> sa.TextClause:
    """Return SQL text that is run as it stands: a colon in it names no parameter."""
    return sa.text(text.replace(":", "\\:"))


def qualified(table: sa.Table) -> str:
    """Return the name of a table with its schema, if it has one, quoted."""
    return f"{quoted(table.schema)}.{quoted(table.name)}" if table.schema else quoted(table.name)


def shape_in(table: sa.Table) -> TableShape:
    """Return the shape that a table of a kind was made from."""
    shape: TableShape = table.info["shape"]
    return shape


def style_of(shape: TableShape, layout: Layout) -> Partitioning:
    """Return how a new table is cut: as the layout says, if it has a time to be cut by."""
    return Partitioning.NONE if shape.time is None else layout.partitioning


def table_creation(table: sa.Table, layout: Layout) -> list[Statement]:
    """Return what makes the table of a kind: with its indexes, and in PostgreSQL its partitions and its protection."""
    indexes = [CreateIndex(index) for index in sorted(table.indexes, key=_name)]
    if layout.dialect != POSTGRES.name:
        return [CreateTable(table), *_declared(table)]
    shape, name = shape_in(table), qualified(table)
    style = style_of(shape, layout)
    found: list[Statement] = [_create(table, style), *indexes]
    texts = _cutting(shape, style, layout) + protect(name) + [tenant_policy(name)]
    if Group.ADMIN in layout.groups:
        texts.append(admin_policy(name, layout))
    return found + [literal(text) for text in texts + grants(name, layout) + register(shape, style, layout)]


def _declared(table: sa.Table) -> list[Statement]:
    """Return the indexes in the order of their declaration."""
    place = {index_name(table.name, fields): at for at, fields in enumerate(shape_in(table).indexes)}
    return [CreateIndex(index) for index in sorted(table.indexes, key=lambda index: place[_name(index)])]


def _create(table: sa.Table, style: Partitioning) -> Statement:
    if style is not Partitioning.NATIVE:
        return CreateTable(table)
    text = str(CreateTable(table).compile(dialect=_POSTGRES)).strip()
    return literal(f"{text} PARTITION BY RANGE ({quoted(shape_in(table).time or '')})")


def _cutting(shape: TableShape, style: Partitioning, layout: Layout) -> list[str]:
    name = f"{quoted(shape.schema)}.{quoted(shape.name)}"
    if style is Partitioning.NATIVE:
        rest = f"{quoted(shape.schema)}.{quoted(default_name(shape.name))}"
        return [f"CREATE TABLE {rest} PARTITION OF {name} DEFAULT", *protect(rest)]
    if style is Partitioning.TIMESCALE:
        # Chunks get the rights of their table and none of its policies. They lie in a schema that nobody but the
        # owner may look into, so that nobody reads one past the policies.
        chunks = (
            [] if CHUNK_SCHEMA in layout.schemas else [f"CREATE SCHEMA IF NOT EXISTS {quoted(CHUNK_SCHEMA)}"]
        )
        make = f"{quoted(layout.timescale or 'public')}.create_hypertable"
        return [
            *chunks,
            f"SELECT {make}('{name}', '{shape.time}', associated_schema_name => '{CHUNK_SCHEMA}', "
            f"chunk_time_interval => INTERVAL '1 {layout.interval}', create_default_indexes => false)",
        ]
    return []


def register(shape: TableShape, style: Partitioning, layout: Layout) -> list[str]:
    """Return what remembers how a table is cut; nothing for a table without time."""
    if shape.time is None:
        return []
    values = (
        f"'{shape.schema}', '{shape.name}', '{shape.time}', '{style}', '{layout.interval}', {layout.ahead}"
    )
    return [
        f"INSERT INTO {_CUT} (table_schema, table_name, time_column, style, step, ahead) VALUES ({values}) "  # noqa: S608
        "ON CONFLICT (table_schema, table_name) DO UPDATE SET time_column = excluded.time_column, "
        "style = excluded.style, step = excluded.step, ahead = excluded.ahead"
    ]


def schema_creation(schemas: Iterable[str], layout: Layout) -> list[Statement]:
    """Return what makes the schemas that are not there, and lets the groups look into all of them."""
    found: list[str] = []
    for schema in sorted(set(schemas)):
        # The right to create schemas is asked for even where IF NOT EXISTS finds one.
        if schema not in layout.schemas:
            found.append(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        found += schema_grants(schema, layout)
    return [literal(text) for text in found]


def house_creation(layout: Layout) -> list[Statement]:
    """Return what makes the gateway's own tables and functions; nothing but the tables of kinds in SQLite."""
    if layout.dialect != POSTGRES.name:
        return []
    texts = [
        *_moved_creation(layout),
        *_cut_creation(layout),
        *grants(f"{quoted(OWN_SCHEMA)}.{quoted(VERSION_TABLE)}", layout, OWN_RIGHTS),
    ]
    texts += [text for function in FUNCTIONS for text in function_statements(function, layout)]
    return [literal(text) for text in texts]


def own_table_creation(name: str, layout: Layout) -> list[Statement]:
    """Return what makes one of the gateway's own tables in PostgreSQL, should somebody have dropped it."""
    if name == KINDS_TABLE:
        return kinds_creation(layout)
    if name == INTENTS:
        return intents_creation(layout)
    texts = {MOVED_ROWS: _moved_creation, PARTITIONED_TABLES: _cut_creation}
    return [literal(text) for text in texts[name](layout)]


def _moved_creation(layout: Layout) -> list[str]:
    return [
        f'CREATE TABLE {_MOVED} (kind text COLLATE "C" NOT NULL, tenant_id uuid NOT NULL, '
        'record_id text COLLATE "C" NOT NULL, PRIMARY KEY (kind, tenant_id, record_id))',
        *protect(_MOVED),
        tenant_policy(_MOVED),
        *([admin_policy(_MOVED, layout)] if Group.ADMIN in layout.groups else []),
        *grants(_MOVED, layout),
    ]


def _cut_creation(layout: Layout) -> list[str]:
    steps = ", ".join(f"'{step}'" for step in Interval)
    styles = ", ".join(f"'{style}'" for style in Partitioning)
    return [
        f"CREATE TABLE {_CUT} (table_schema text NOT NULL, table_name text NOT NULL, time_column text NOT NULL, "
        f"style text NOT NULL CHECK (style IN ({styles})), step text NOT NULL CHECK (step IN ({steps})), "
        "ahead integer NOT NULL CHECK (ahead BETWEEN 1 AND 366), PRIMARY KEY (table_schema, table_name))",
        *grants(_CUT, layout, OWN_RIGHTS),
    ]


_INTENT_SETTINGS: Final = (
    # Rows come and go, and there are few at any time; nobody knows how many there were a moment ago. So the server
    # cleans up by number, not by share, and at full speed: the sooner it does, the less there is to do.
    "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0, "
    "autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000"
)


def intents_creation(layout: Layout) -> list[Statement]:
    """Return what makes the table of intents."""
    if layout.dialect != POSTGRES.name:
        # Without a rowid it is its own index, in which a stretch of numbers lies in one piece.
        text = (
            f"CREATE TABLE {SQLITE_INTENTS} (tenant_id TEXT NOT NULL, target TEXT NOT NULL, owner TEXT NOT NULL, "
            "number INTEGER NOT NULL, part INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, "
            "version INTEGER NOT NULL, trace TEXT, noted_at INTEGER NOT NULL, "
            "PRIMARY KEY (tenant_id, target, owner, number, part)) WITHOUT ROWID"
        )
        return [literal(text)]
    texts = [
        f'CREATE TABLE {_INTENTS} (tenant_id uuid NOT NULL, target text COLLATE "C" NOT NULL, '
        'owner text COLLATE "C" NOT NULL, number bigint NOT NULL, part integer NOT NULL, '
        'kind text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, version bigint NOT NULL, '
        'trace text COLLATE "C", noted_at timestamptz NOT NULL DEFAULT now(), '
        "PRIMARY KEY (tenant_id, target, owner, number, part)) "
        f"WITH ({_INTENT_SETTINGS})",
        *protect(_INTENTS),
        tenant_policy(_INTENTS),
        *([admin_policy(_INTENTS, layout)] if Group.ADMIN in layout.groups else []),
        *grants(_INTENTS, layout, INTENT_RIGHTS),
    ]
    return [literal(text) for text in texts]


def intents_removal(layout: Layout) -> list[Statement]:
    """Return what takes the table of intents away."""
    return [literal(f"DROP TABLE {_INTENTS if layout.dialect == POSTGRES.name else SQLITE_INTENTS}")]


def kinds_creation(layout: Layout) -> list[Statement]:
    """Return what makes the table that remembers what the tables were made for."""
    table = kinds_table(sa.MetaData(), layout.dialect)
    rights = grants(qualified(table), layout, OWN_RIGHTS) if layout.dialect == POSTGRES.name else []
    return [CreateTable(table), *map(literal, rights)]


def house_removal(layout: Layout) -> list[Statement]:
    """Return what takes away all that `house_creation` and `kinds_creation` make."""
    found: list[Statement] = [DropTable(kinds_table(sa.MetaData(), layout.dialect))]
    if layout.dialect == POSTGRES.name:
        found += [literal(f"DROP FUNCTION {function.signature}") for function in reversed(FUNCTIONS)]
        found += [literal(f"DROP TABLE {_CUT}"), literal(f"DROP TABLE {_MOVED}")]
    return found


def _name(index: sa.Index) -> str:
    return str(index.name)
