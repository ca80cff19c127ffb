"""One transaction of a write: the connection, and whose rows it sees."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_postgres.connections import spoiled
from gateway_postgres.merging import Place, Stamp
from gateway_postgres.statements import SET_TENANT, postgres_statements
from gateway_postgres.values import columns_of_rows, in_key_order, key_columns

if TYPE_CHECKING:
    from asyncpg import Connection, Record

__all__ = ["Work", "changed_rows", "transaction"]


@asynccontextmanager
async def transaction(connection: Connection[Record]) -> AsyncIterator[None]:
    """Run what is inside in a transaction; one that the caller has opened already serves.

    An error inside rolls everything back. Where a rollback could have to wait for a server that is stuck or gone, as
    after a cancellation, none is sent: whoever runs this throws the connection away, which ends the transaction too.
    """
    if connection.is_in_transaction():
        yield
        return
    begun = connection.transaction()
    await begun.start()
    try:
        yield
    except Exception as error:
        if not spoiled(connection, error):
            await begun.rollback()
        raise
    await begun.commit()


def changed_rows(status: str) -> int:
    """Return how many rows a statement changed, from what the server says of it, such as `INSERT 0 3`."""
    return int(status.rpartition(" ")[2])


def _lock_number(kind: KindSpec, tenant: str) -> int:
    """Return the number of the lock on a table's rows of one tenant; signed, 64 bits."""
    text = f"storage-gateway\n{kind.schema}\n{kind.name}\n{tenant}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


class Work:
    """An open transaction that writes.

    Args:
        connection: In a transaction.
    """

    __slots__ = ("_tenant", "connection")

    def __init__(self, connection: Connection[Record]) -> None:
        self.connection = connection
        self._tenant: str | None = None

    async def become(self, tenant: str) -> None:
        """See the rows of a tenant from the next statement on."""
        if self._tenant != tenant:
            await self.connection.execute(SET_TENANT, tenant)
            self._tenant = tenant

    async def lock_tenant(self, kind: KindSpec, tenant: str) -> None:
        """Wait for every other writer that looks before it writes into this tenant's part of a log."""
        await self.connection.execute(
            f"{SET_TENANT}, pg_advisory_xact_lock($2)", tenant, _lock_number(kind, tenant)
        )
        self._tenant = tenant

    async def lock_table(self, kind: KindSpec) -> None:
        """Wait for every other writer of a table, and let none begin until the transaction ends. Reads go on.

        Rows go through the partitioned table only, so the lock on it alone is enough.
        """
        table = postgres_statements(kind).table
        await self.connection.execute(f"LOCK TABLE ONLY {table} IN SHARE ROW EXCLUSIVE MODE")

    async def upsert(
        self, kind: KindSpec, tenant: str, rows: Sequence[Row], *, fresh: bool = False
    ) -> list[Row]:
        """Store rows, each key once, that the guard lets in; return those that it did not."""
        ordered, _ = in_key_order(kind, rows)
        columns = columns_of_rows(kind, ordered)
        statements = postgres_statements(kind)
        text = statements.upsert(many=True, exact=columns.exact, fresh=fresh) + statements.returning
        records = await self.connection.fetch(text, tenant, *columns.lists())
        self._tenant = tenant
        if len(records) == len(rows):
            return []
        stored = {tuple(record) for record in records}
        return [row for row in ordered if row.key not in stored]

    async def fetch_by_keys(
        self, kind: KindSpec, tenant: str, keys: Iterable[Key], columns: str, *, lock: bool = False
    ) -> list[Record]:
        """Return what is stored under keys, in any order."""
        await self.become(tenant)
        text = postgres_statements(kind).by_keys(columns, many=True, lock=lock)
        return await self.connection.fetch(text, tenant, *key_columns(kind, keys))

    async def stamps(self, kind: KindSpec, tenant: str, rows: Sequence[Row]) -> dict[Place, Stamp]:
        """Return the stamps of what is stored under the keys of rows."""
        width = len(kind.key)
        keys = [row.key for row in rows]
        records = await self.fetch_by_keys(kind, tenant, keys, postgres_statements(kind).stamps)
        return {(kind, tenant, tuple(rest[:width])): (version, digest) for version, digest, *rest in records}
