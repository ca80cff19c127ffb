"""What a server says of itself, and whether a store on it can be used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import asyncpg

from gateway.backend import Health
from gateway.errors import ConfigurationError, StoreError
from gateway_postgres.connections import Connection

__all__ = ["OLDEST", "ServerFacts", "judge", "objection", "read_facts", "read_revision"]

OLDEST: Final = 140_000
"""The oldest server version that is supported, as `server_version_num` has it."""

_FACTS: Final = """
SELECT pg_backend_pid() AS pid,
       current_setting('server_version') AS version,
       current_setting('server_version_num')::int AS version_num,
       (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()) AS encoding,
       current_user::text AS role,
       rolsuper AS superuser,
       rolbypassrls AS bypasses_row_security,
       pg_is_in_recovery() AS in_recovery,
       (SELECT setting = 'on' FROM pg_settings WHERE name = 'default_transaction_read_only') AS read_only,
       (SELECT ssl FROM pg_stat_ssl WHERE pg_stat_ssl.pid = pg_backend_pid()) AS tls,
       (SELECT sum(numbackends)::int FROM pg_stat_database) AS connections_used,
       current_setting('max_connections')::int AS connections_max
FROM pg_roles WHERE rolname = current_user
"""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What one look at a server shows.

    Attributes:
        pid: The process that serves the connection now.
        version: The server's version, as people read it.
        version_num: The same as a number: 180001 for 18.1.
        encoding: Encoding of the database.
        role: Who is connected.
        superuser: Whether the role is one, for which no row security holds.
        bypasses_row_security: Whether the role was given the right to pass over it.
        in_recovery: Whether this is a standby.
        read_only: Whether transactions may not write unless they ask for it.
        tls: Whether the connection to the server is encrypted; behind a pooler, the pooler's.
        connections_used: Connections to the whole server; unlike in pg_stat_activity, everybody may count them.
        connections_max: How many it allows.
    """

    pid: int
    version: str
    version_num: int
    encoding: str
    role: str
    superuser: bool
    bypasses_row_security: bool
    in_recovery: bool
    read_only: bool
    tls: bool | None
    connections_used: int
    connections_max: int


async def read_facts(connection: Connection) -> ServerFacts:
    """Ask a server for what `ServerFacts` holds, in one query."""
    row = await connection.fetchrow(_FACTS)
    if row is None:
        raise StoreError("the server does not know the role that is connected")
    return ServerFacts(**dict(row))


async def read_revision(connection: Connection) -> str | None:
    """Return the revision of the schema; None if there is none, or none that this role may see.

    Run it last in a transaction, since it may fail.
    """
    try:
        found = await connection.fetchval("SELECT max(version_num) FROM gateway.alembic_version")
    except asyncpg.PostgresError:
        return None
    return None if found is None else str(found)


def objection(facts: ServerFacts) -> ConfigurationError | None:
    """Return why no store can be kept in a database; None if it can."""
    if facts.version_num < OLDEST:
        return ConfigurationError(
            f"the server is PostgreSQL {facts.version}; the oldest that is supported is {OLDEST // 10_000}"
        )
    if facts.encoding != "UTF8":
        return ConfigurationError(
            f"the database has the encoding {facts.encoding}, which cannot hold every text; "
            "create it with ENCODING 'UTF8'"
        )
    return None


def judge(facts: ServerFacts, *, writes: bool, production: bool, details: dict[str, Any]) -> Health:
    """Return whether a store can be used, from what its server says.

    Args:
        facts: What it says.
        writes: Whether the store was opened to be written.
        production: Whether it must be safe.
        details: More facts, of the process's own connections and of the schema.
    """
    shown = {name: value for name, value in asdict(facts).items() if name != "pid"} | details
    where = f"PostgreSQL {facts.version}"
    if writes and (facts.in_recovery or facts.read_only):
        why = "a standby" if facts.in_recovery else "set to read-only transactions"
        return Health(
            ok=False,
            summary=f"{where} is {why} and takes no writes; name the primary in STORAGE_POSTGRES_URL",
            details=shown,
        )
    if facts.superuser or facts.bypasses_row_security:
        what = "is a superuser" if facts.superuser else "has BYPASSRLS"
        return Health(
            ok=not production,
            summary=f"{where} answers, but the role {facts.role!r} {what}, so that nothing keeps tenants apart; "
            "let the bot log in as a member of the application's role (`gateway schema roles`)",
            details=shown,
        )
    if details.get("partitions_error"):
        return Health(
            ok=True,
            summary=f"{where} answers, but partitions could not be made ahead: {details['partitions_error']}",
            details=shown,
        )
    return Health(ok=True, summary=f"answers; {where}", details=shown)
