"""What a server tells of itself to an operator: gathered by a few queries, each of which may be refused on its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, LiteralString

import psycopg

from gateway.records.kind import KindSpec
from gateway.sql.intents import INTENTS
from gateway.sql.layout import OWN_SCHEMA
from gateway_postgres.operators import PgConnection

__all__ = [
    "Activity",
    "Follower",
    "Login",
    "PartitionFacts",
    "Slot",
    "TableFacts",
    "Upkeep",
    "gather_login",
    "gather_upkeep",
]

_TIMEOUT: Final = "10s"
_LISTED: Final = 5


@dataclass(frozen=True, slots=True)
class Login:
    """What is known of the bot's own login and the server it leads to.

    Attributes:
        seconds: How long connecting took.
        version: The server's version, for people.
        version_num: The same as a number: 180001 for 18.1.
        encoding: Encoding of the database.
        role: Who is connected.
        superuser: Whether no row security holds for the role.
        bypasses: Whether it may pass over row security.
        owner: Whether it owns tables of kinds, or is a member of who does.
        groups: Which of the gateway's group roles it is a member of, by their short names; None if there are none.
        pooled: Whether a pooler stands in front.
        tls: Whether the connection to the server is encrypted; behind a pooler, the pooler's.
        local: Whether the server is on this machine.
        standby: Whether the server is a standby.
        skew: Seconds by which the server's clock is ahead of this machine's.
        timescale: Version of TimescaleDB, and its licence; None without it.
        unsafe: Settings of the server that may lose acknowledged writes.
        autovacuum: Whether the server cleans up by itself.
        limit: How many connections the role, or everybody in this database, may have; None without a limit.
    """

    seconds: float
    version: str
    version_num: int
    encoding: str
    role: str
    superuser: bool
    bypasses: bool
    owner: bool
    groups: frozenset[str] | None
    pooled: bool
    tls: bool | None
    local: bool
    standby: bool
    skew: float
    timescale: tuple[str, str] | None
    unsafe: tuple[str, ...]
    autovacuum: bool
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """A transaction that is open.

    Attributes:
        pid: Process of the server.
        user: Who.
        application: What it calls itself.
        idle: Whether it waits for its client while it holds the transaction open.
        seconds: How long it has been open.
    """

    pid: int
    user: str
    application: str
    idle: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Follower:
    """A standby that follows this server.

    Attributes:
        name: What it calls itself.
        bytes: How far it is behind; None where this login may not see that.
        seconds: The same as time; None where nothing was sent lately.
    """

    name: str
    bytes: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot.

    Attributes:
        name: Its name.
        active: Whether anybody reads from it.
        bytes: What the server keeps for it.
    """

    name: str
    active: bool
    bytes: int


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One table, or one partition of one.

    Attributes:
        kind: The kind whose table it is, or is a part of.
        name: Its name with its schema.
        bytes: With indexes and all.
        live: Rows, as the server estimates them.
        dead: Rows that are gone and not cleaned up.
        changed: Rows changed since it was last analysed.
        vacuumed: When it was last cleaned up; None if never.
        analysed: When the planner's figures were last taken; None if never.
        parent: Whether it only stands for its partitions, which the server does not analyse by itself.
    """

    kind: str
    name: str
    bytes: int
    live: int
    dead: int
    changed: int
    vacuumed: datetime | None
    analysed: datetime | None
    parent: bool = False


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """How a partitioned table stands.

    Attributes:
        kind: The kind.
        until: Where its last partition ends; None if there is none.
        strays: Rows in its default partition, as the server estimates them.
    """

    kind: str
    until: datetime | None
    strays: int


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What is known of the server and the tables. None stands for what this login may not see.

    Attributes:
        connections: Connections of clients, of all databases.
        allowed: How many clients the server takes, without those kept for superusers.
        monitors: Whether the login sees what others do.
        replay_seconds: How far a standby is behind; None on a primary.
        followers: Standbys of this server.
        slots: Its replication slots.
        transactions: The oldest open ones, oldest first.
        frozen: Age of the oldest transaction id that is still in use.
        tables: Tables and partitions of the kinds, and the table of intents.
        partitions: How the partitioned tables stand.
    """

    connections: int | None = None
    allowed: int | None = None
    monitors: bool = False
    replay_seconds: float | None = None
    followers: tuple[Follower, ...] | None = None
    slots: tuple[Slot, ...] | None = None
    transactions: tuple[Activity, ...] | None = None
    frozen: int | None = None
    tables: tuple[TableFacts, ...] | None = None
    partitions: tuple[PartitionFacts, ...] | None = None


_LOGIN: Final = """
SELECT current_setting('server_version'), current_setting('server_version_num')::int,
       (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()),
       current_user::text, r.rolsuper, r.rolbypassrls,
       EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%(schemas)s::text[], %(names)s::text[]))
                  AND pg_has_role(current_user, c.relowner, 'MEMBER')),
       (SELECT array_agg(g.name) FROM unnest(%(groups)s::text[]) g (name) JOIN pg_roles p ON p.rolname = g.name),
       (SELECT coalesce(array_agg(g.name), '{}') FROM unnest(%(groups)s::text[]) g (name)
          JOIN pg_roles p ON p.rolname = g.name WHERE pg_has_role(current_user, p.oid, 'MEMBER')),
       pg_backend_pid(), (SELECT s.ssl FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()),
       inet_client_addr() IS NULL OR inet_client_addr() = inet_server_addr(), pg_is_in_recovery(), clock_timestamp(),
       (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
       current_setting('timescaledb.license', true),
       ARRAY(SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')
                AND setting = 'off' ORDER BY 1),
       current_setting('autovacuum')::bool,
       (SELECT least(nullif(r.rolconnlimit, -1), nullif(d.datconnlimit, -1))
          FROM pg_database d WHERE d.datname = current_database())
  FROM pg_roles r WHERE r.rolname = current_user
"""
_CONNECTIONS: Final = """
SELECT (SELECT sum(numbackends) FROM pg_stat_database)::int,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
       CASE WHEN pg_is_in_recovery() THEN
            extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END,
       (SELECT greatest(age(datfrozenxid), mxid_age(datminmxid)) FROM pg_database WHERE datname = current_database())
"""
_FOLLOWERS: Final = """
SELECT coalesce(nullif(application_name, ''), 'unnamed'),
       CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint END,
       extract(epoch FROM replay_lag)::float8
  FROM pg_stat_replication ORDER BY 1
"""
_SLOTS: Final = """
SELECT slot_name::text, active,
       coalesce(CASE WHEN pg_is_in_recovery() THEN 0
                     ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END, 0)
  FROM pg_replication_slots ORDER BY 1
"""
_TRANSACTIONS: Final = """
SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), state LIKE 'idle in transaction%%',
       extract(epoch FROM clock_timestamp() - xact_start)::float8
  FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND datname = current_database() AND xact_start IS NOT NULL
   AND pid <> pg_backend_pid()
 ORDER BY xact_start LIMIT %s
"""
_TABLES: Final = """
WITH kinds AS (
    SELECT c.oid, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))),
parts AS (
    SELECT k.oid, k.relname AS kind FROM kinds k
    UNION ALL SELECT i.inhrelid, k.relname FROM kinds k JOIN pg_inherits i ON i.inhparent = k.oid)
SELECT p.kind::text, format('%%s.%%s', n.nspname, c.relname),
       CASE c.relkind WHEN 'p' THEN 0 ELSE pg_total_relation_size(c.oid) END,
       coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0), coalesce(s.n_mod_since_analyze, 0),
       greatest(s.last_vacuum, s.last_autovacuum), greatest(s.last_analyze, s.last_autoanalyze), c.relkind = 'p'
  FROM parts p JOIN pg_class c ON c.oid = p.oid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
 ORDER BY 1, 2
"""
_PARTITIONS: Final = """
SELECT p.table_name, (SELECT max(b.upper_bound) FROM gateway.partition_bounds(c.oid::regclass) b
                       WHERE b.upper_bound <> 'infinity'),
       coalesce((SELECT s.n_live_tup FROM pg_partitioned_table t JOIN pg_stat_all_tables s ON s.relid = t.partdefid
                  WHERE t.partrelid = c.oid), 0)
  FROM gateway.partitioned_tables p
  JOIN pg_namespace n ON n.nspname = p.table_schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.table_name AND c.relkind = 'p'
 ORDER BY 1
"""


def gather_login(connection: PgConnection, began: float, kinds: Sequence[KindSpec], prefix: str) -> Login:
    """Return what is known of a login.

    Args:
        connection: The bot's own way in.
        began: `time.monotonic()` before it was opened.
        kinds: Every registered kind.
        prefix: Of the group roles.

    Raises:
        psycopg.Error: The server does not answer.
    """
    seconds = time.monotonic() - began
    groups = [f"{prefix}_{name}" for name in ("app", "readonly", "admin")]
    found = _ask(connection, _LOGIN, {**_names(kinds), "groups": groups})[0]
    version, number, encoding, role, superuser, bypasses, owner, existing, member, pid, tls, local = found[
        :12
    ]
    standby, clock, timescale, licence, unsafe, autovacuum, limit = found[12:]
    return Login(
        seconds=seconds,
        version=version,
        version_num=number,
        encoding=encoding,
        role=role,
        superuser=superuser,
        bypasses=bypasses,
        owner=owner,
        groups=None if not existing else frozenset(name.removeprefix(f"{prefix}_") for name in member),
        # A pooler tells the client a number of its own, not that of the process that answers now.
        pooled=pid != connection.info.backend_pid,
        tls=tls,
        local=local,
        standby=standby,
        skew=(clock - datetime.now(UTC)).total_seconds(),
        timescale=None if timescale is None else (timescale, licence or "unknown"),
        unsafe=tuple(unsafe),
        autovacuum=autovacuum,
        limit=limit,
    )


def gather_upkeep(connection: PgConnection, kinds: Sequence[KindSpec]) -> Upkeep:
    """Return what is known of the server and the tables, as far as the login may see it.

    Raises:
        psycopg.Error: The server does not answer.
    """
    general = _allowed(connection, _CONNECTIONS)
    used, most, monitors, replay, frozen = general[0] if general else (None, None, False, None, None)
    names = _names(kinds)
    own = [*names["schemas"], OWN_SCHEMA], [*names["names"], INTENTS]
    tables = _allowed(connection, _TABLES, own)
    followers, slots = _allowed(connection, _FOLLOWERS), _allowed(connection, _SLOTS)
    transactions = _allowed(connection, _TRANSACTIONS, (_LISTED,))
    partitions = _allowed(connection, _PARTITIONS)
    return Upkeep(
        connections=used,
        allowed=most,
        monitors=bool(monitors),
        replay_seconds=replay,
        followers=None if followers is None else tuple(Follower(*row) for row in followers),
        slots=None if slots is None else tuple(Slot(*row) for row in slots),
        transactions=None if transactions is None else tuple(Activity(*row) for row in transactions),
        frozen=frozen,
        tables=None if tables is None else tuple(TableFacts(*row) for row in tables),
        partitions=None if partitions is None else tuple(PartitionFacts(*row) for row in partitions),
    )


def _names(kinds: Sequence[KindSpec]) -> dict[str, list[str]]:
    return {"schemas": [kind.schema for kind in kinds], "names": [kind.name for kind in kinds]}


def _ask(connection: PgConnection, query: LiteralString, parameters: Any = ()) -> list[tuple[Any, ...]]:
    """Run one query, within a time that a person waits for."""
    with connection.transaction():
        connection.execute("SELECT set_config('statement_timeout', %s, true)", (_TIMEOUT,))
        return connection.execute(query, parameters).fetchall()


def _allowed(
    connection: PgConnection, query: LiteralString, parameters: Any = ()
) -> list[tuple[Any, ...]] | None:
    """Run one query; None where the login may not, or what is asked for is not there."""
    try:
        return _ask(connection, query, parameters)
    except (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.UndefinedTable,
        psycopg.errors.UndefinedFunction,
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.QueryCanceled,
        psycopg.errors.LockNotAvailable,
    ):
        return None
