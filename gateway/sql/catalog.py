"""What is in a PostgreSQL database, read from its catalogs: a handful of queries for all tables together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from gateway.sql.creation import PARTITIONED_TABLES
from gateway.sql.layout import CHUNK_SCHEMA, OWN_SCHEMA

__all__ = ["Catalog", "Partition", "Policy", "StoredTable", "read_catalog"]

Name = tuple[str, str]
"""Schema and table."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy of row security.

    Attributes:
        name: Its name.
        permissive: Whether it opens rows; a restrictive one only closes some.
        command: `*` for all, `r`, `a`, `w` or `d` for one.
        roles: Who it is for; empty for everybody.
        using: Which rows are seen, as the database prints it.
        check: Which rows may be written.
    """

    name: str
    permissive: bool
    command: str
    roles: tuple[str, ...]
    using: str | None
    check: str | None


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a table.

    Attributes:
        name: Its name, without the schema.
        lower: Where it begins; None for the default partition.
        upper: Where it ends.
        protected: Whether row security is on and forced.
        granted: Who has rights on it beside its owner.
    """

    name: str
    lower: datetime | None
    upper: datetime | None
    protected: bool
    granted: tuple[str, ...]


@dataclass(slots=True)
class StoredTable:
    """One table as it is.

    Attributes:
        owner: Who owns it.
        partitioned: Whether it is cut by time into partitions of the database's own.
        hypertable: Whether TimescaleDB cuts it.
        enabled: Whether row security is on.
        forced: Whether it is on for the owner too.
        rights: What each role has beside the owner; PUBLIC under the empty name.
        columns: Type of each column as the database prints it, and whether it may be NULL.
        indexes: Columns of each valid index.
        key: Columns of the primary key.
        policies: Its policies by name.
        partitions: Its partitions.
    """

    owner: str
    partitioned: bool
    hypertable: bool
    enabled: bool
    forced: bool
    rights: Mapping[str, frozenset[str]]
    columns: dict[str, tuple[str, bool]] = field(default_factory=dict)
    indexes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    policies: dict[str, Policy] = field(default_factory=dict)
    partitions: list[Partition] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All that is compared with the kinds.

    Attributes:
        tables: Tables by schema and name; those asked for that are there.
        functions: Text of the gateway's own functions by name, and who beside the owner may call each.
        registered: How each table of time is remembered: style, step and number ahead.
        schema_rights: Who may look into which schema.
        chunk_readers: Who beside the owner may look into the schema of the chunks of hypertables.
    """

    tables: Mapping[Name, StoredTable]
    functions: Mapping[str, tuple[str, frozenset[str]]]
    registered: Mapping[Name, tuple[str, str, int]]
    schema_rights: Mapping[str, frozenset[str]]
    chunk_readers: frozenset[str] = frozenset()


_TABLES: Final = """
SELECT c.oid, n.nspname, c.relname, pg_get_userbyid(c.relowner), c.relkind = 'p',
       c.relrowsecurity, c.relforcerowsecurity,
       ARRAY(SELECT coalesce(r.rolname, '') || '=' || a.privilege_type
               FROM aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE a.grantee <> c.relowner)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND (n.nspname, c.relname) IN (SELECT * FROM unnest(:schemas, :names))
"""
_COLUMNS: Final = """
SELECT attrelid, attname, NOT attnotnull,
       format_type(atttypid, atttypmod) || CASE attcollation WHEN '"C"'::regcollation THEN ' collate "c"' ELSE '' END
  FROM pg_attribute WHERE attrelid = ANY(:oids) AND attnum > 0 AND NOT attisdropped
"""
_INDEXES: Final = """
SELECT i.indrelid, c.relname, i.indisprimary, i.indisvalid, ARRAY(
         SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(attnum, place)
           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = ANY(:oids)
"""
_POLICIES: Final = """
SELECT p.polrelid, p.polname, p.polpermissive, p.polcmd::text,
       ARRAY(SELECT r.rolname::text FROM pg_roles r WHERE r.oid = ANY(p.polroles) ORDER BY 1),
       pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
  FROM pg_policy p WHERE p.polrelid = ANY(:oids)
"""
_PARTITIONS: Final = """
SELECT i.inhparent, c.relname, (regexp_match(b.text, 'FROM [(]''([^'']+)''[)]'))[1]::timestamptz AS lower_bound,
       (regexp_match(b.text, 'TO [(]''([^'']+)''[)]'))[1]::timestamptz, c.relrowsecurity AND c.relforcerowsecurity,
       ARRAY(SELECT DISTINCT coalesce(r.rolname::text, 'PUBLIC')
               FROM aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE a.grantee <> c.relowner)
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS text) b
 WHERE i.inhparent = ANY(:oids) AND c.relispartition
 ORDER BY lower_bound NULLS FIRST
"""
_FUNCTIONS: Final = """
SELECT p.proname, p.prosrc, ARRAY(
         SELECT coalesce(r.rolname::text, '') FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
           LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE a.grantee <> p.proowner)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = :schema
"""
_SCHEMAS: Final = """
SELECT n.nspname, ARRAY(SELECT coalesce(r.rolname::text, '') FROM aclexplode(n.nspacl) a
                          LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE a.privilege_type = 'USAGE')
  FROM pg_namespace n WHERE n.nspname = ANY(:schemas)
"""
_HYPERTABLES: Final = (
    "SELECT hypertable_schema::text, hypertable_name::text FROM timescaledb_information.hypertables"
)
_CHUNK_READERS: Final = """
SELECT DISTINCT coalesce(r.rolname::text, 'PUBLIC')
  FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
 WHERE n.nspname = :schema AND a.grantee <> n.nspowner
"""
_REGISTERED: Final = (
    f'SELECT table_schema, table_name, style, step, ahead FROM "{OWN_SCHEMA}"."{PARTITIONED_TABLES}"'  # noqa: S608 - fixed names
)


def read_catalog(connection: sa.Connection, tables: Iterable[Name], *, timescale: bool) -> Catalog:
    """Return what is there of some tables, and of the gateway's own functions.

    Args:
        connection: Any role may read the catalogs.
        tables: Which tables.
        timescale: Whether TimescaleDB is installed.
    """
    wanted = sorted(set(tables))
    run = _Reader(connection)
    hyper = {(row[0], row[1]) for row in run(_HYPERTABLES)} if timescale else set()
    found: dict[int, StoredTable] = {}
    names: dict[Name, StoredTable] = {}
    for oid, schema, name, owner, cut, enabled, forced, rights in run(
        _TABLES, schemas=[schema for schema, _ in wanted], names=[name for _, name in wanted]
    ):
        table = StoredTable(owner, cut, (schema, name) in hyper, enabled, forced, _rights(rights))
        found[oid] = names[schema, name] = table
    _fill(run, found)
    registered = run(_REGISTERED) if (OWN_SCHEMA, PARTITIONED_TABLES) in names else ()
    return Catalog(
        names,
        {name: (text, frozenset(callers)) for name, text, callers in run(_FUNCTIONS, schema=OWN_SCHEMA)},
        {(schema, name): (style, step, ahead) for schema, name, style, step, ahead in registered},
        {
            schema: frozenset(roles)
            for schema, roles in run(_SCHEMAS, schemas=[OWN_SCHEMA, *(schema for schema, _ in wanted)])
        },
        frozenset(row[0] for row in run(_CHUNK_READERS, schema=CHUNK_SCHEMA)) if timescale else frozenset(),
    )


class _Reader:
    """Runs a query with its parameters; lists become arrays."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def __call__(self, query: str, **parameters: Any) -> Iterable[Any]:
        text = sa.text(query)
        for name, value in parameters.items():
            item: Any = sa.BigInteger() if name == "oids" else sa.Text()
            kind = pg.ARRAY(item) if isinstance(value, list) else item
            text = text.bindparams(sa.bindparam(name, value, type_=kind))
        return self._connection.execute(text)


def _fill(run: _Reader, found: Mapping[int, StoredTable]) -> None:
    oids = list(found)
    for oid, name, nullable, kind in run(_COLUMNS, oids=oids):
        found[oid].columns[name] = (kind, nullable)
    for oid, name, primary, valid, columns in run(_INDEXES, oids=oids):
        if primary:
            found[oid].key = tuple(columns)
        elif valid:
            found[oid].indexes[name] = tuple(columns)
    for oid, *policy in run(_POLICIES, oids=oids):
        name, permissive, command, roles, using, check = policy
        found[oid].policies[name] = Policy(name, permissive, command, tuple(roles), using, check)
    for oid, name, lower, upper, protected, granted in run(_PARTITIONS, oids=oids):
        found[oid].partitions.append(Partition(name, lower, upper, protected, tuple(granted)))


def _rights(items: Iterable[str]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for item in items:
        role, _, right = item.rpartition("=")
        found[role].add(right)
    return {role: frozenset(rights) for role, rights in found.items()}
