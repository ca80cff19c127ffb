"""Whether the schema is the one needed, by two quick queries: revision and fingerprints, no look at any table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import asyncpg

from gateway.records.kind import KindSpec
from gateway.sql.dialect import POSTGRES
from gateway.sql.fingerprints import fingerprint_of
from gateway.sql.migrations import HEAD, refuse_newer

__all__ = ["missing_from"]

_THERE: Final = """
SELECT to_regclass('gateway.alembic_version') IS NOT NULL AND to_regclass('gateway.gateway_kinds') IS NOT NULL
"""
_STATE: Final = """
SELECT version_num AS name, NULL AS fingerprint FROM gateway.alembic_version
 UNION ALL SELECT name, fingerprint FROM gateway.gateway_kinds
"""


class Queries(Protocol):
    """What is asked of a connection; asyncpg's has it, and so has what a pool lends."""

    async def fetch(self, query: str, /) -> Any:
        """Return the rows of a query."""
        ...


async def missing_from(connection: Queries, kinds: Sequence[KindSpec]) -> str | None:
    """Return what the schema lacks, as a part of a sentence; None if it is what the kinds need.

    Raises:
        SchemaTooNewError: A newer gateway made it.
        asyncpg.PostgresError: The server could not answer.
    """
    try:
        ((there,),) = await connection.fetch(_THERE)
        rows = await connection.fetch(_STATE) if there else []
    except asyncpg.InsufficientPrivilegeError:
        # Whoever may not look there cannot mend it either, so this is for a person.
        return (
            "this login may not look into the schema `gateway`; make it a member of the app role "
            "(`gateway schema roles`)"
        )
    revision = next((row["name"] for row in rows if row["fingerprint"] is None), None)
    refuse_newer(revision, "")
    if revision != HEAD:
        return f"the schema is at revision {revision or 'none'}, not {HEAD}"
    known = {row["name"]: row["fingerprint"] for row in rows if row["fingerprint"] is not None}
    changed = [kind.name for kind in kinds if known.get(kind.name) != fingerprint_of(kind, POSTGRES.name)]
    return f"no table was made for {', '.join(changed)} as it is now" if changed else None
