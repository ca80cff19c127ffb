"""A real database with the tables of the kit's kinds, and the data path's functions run on it as a bot's role would.

Each example writes for a tenant of its own, so that nothing has to be removed in between.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import asyncpg
import pytest

from gateway.backend import RangeDigest, Step, WriteReceipt
from gateway.conformance.rows import Scribe
from gateway.query import Query, ReadRange
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_postgres.reads import get_rows, read_digest, read_page
from gateway_postgres.statements import SET_TENANT
from gateway_postgres.writing import write
from tests.servers import Database, PostgresServer

T = TypeVar("T")
Connection = asyncpg.connection.Connection
SERVERS = ("postgres18", "postgres15")
OFFSET = 946_684_800_000_000
"""Microseconds from 1970 to 2000."""


class Laboratory:
    """A database, an event loop, and a connection as the app role.

    Args:
        database: Has the tables already.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._runner = asyncio.Runner()
        self._open = AsyncExitStack()
        self.main = self.run(self.connect())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self._runner.run(work)

    async def connect(self, url: str | None = None) -> Connection[asyncpg.Record]:
        """Open one more connection, as the app role unless another URL is given, with the codec of the store."""
        connection = await asyncpg.connect(url or self.database.app_url)
        self._open.push_async_callback(connection.close)
        await connection.set_type_codec(
            "timestamptz",
            schema="pg_catalog",
            format="tuple",
            encoder=lambda micros: (micros - OFFSET,),
            decoder=lambda held: held[0] + OFFSET,
        )
        return connection

    def close(self) -> None:
        """Close everything."""
        self.run(self._open.aclose())
        self._runner.close()

    @staticmethod
    def scribe() -> Scribe:
        """Return what makes rows, for a new tenant."""
        return Scribe(str(uuid.uuid4()))

    def write(self, *steps: Step) -> WriteReceipt:
        """Store a batch."""
        return self.run(write(self.main, steps))

    def get(self, kind: KindSpec, tenant: str, keys: Sequence[Key]) -> list[Row | None]:
        """Return the rows of keys."""

        async def read() -> list[Row | None]:
            async with reading(self.main, tenant) as connection:
                return await get_rows(connection, kind, tenant, keys)

        return self.run(read())

    def stored(self, kind: KindSpec, tenant: str) -> list[Row]:
        """Return every row of a kind and tenant, tombstones too."""

        async def read() -> list[Row]:
            async with reading(self.main, tenant) as connection:
                return await read_page(connection, Query(kind, tenant, limit=10_000, include_deleted=True))

        return self.run(read())

    def digest(self, kind: KindSpec, tenant: str) -> RangeDigest:
        """Return the fingerprint of all rows of a kind and tenant."""

        async def read() -> RangeDigest:
            async with reading(self.main, tenant) as connection:
                return await read_digest(connection, ReadRange(kind, tenant))

        return self.run(read())


@asynccontextmanager
async def reading(
    connection: Connection[asyncpg.Record], tenant: str
) -> AsyncIterator[Connection[asyncpg.Record]]:
    """Open a reading transaction that has its tenant set."""
    async with connection.transaction(readonly=True):
        await connection.execute(SET_TENANT, tenant)
        yield connection


def laboratory(request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """Copy the kit's tables on the server that the fixture's parameter names; the body of a fixture."""
    server: PostgresServer = request.getfixturevalue(request.param)
    with request.getfixturevalue("kit_databases")(server).fresh() as database:
        made = Laboratory(database)
        yield made
        made.close()
