"""Connections to real servers, directly and through PgBouncer, as the application's role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.backend import OpenContext
from gateway.records import Row
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.stamp import Stamper
from gateway_postgres.backend import PostgresBackend
from gateway_postgres.connections import Connector, Writer
from gateway_postgres.plugin import open_store
from gateway_postgres.pools import Readers
from gateway_postgres.profiles import PoolSize
from gateway_postgres.settings import PostgresSettings
from tests.samples import trade_rows
from tests.servers import Database, PgBouncer

START = datetime(2026, 11, 1, tzinfo=UTC)

MakeConnector = Callable[..., Connector]


@pytest.fixture
def connector(postgres_database: Database) -> MakeConnector:
    """Makes what opens connections to the test's database as the application; keyword arguments are settings."""

    def make(
        *, url: str | None = None, pooled: bool = False, read_only: bool = False, **settings: Any
    ) -> Connector:
        chosen = PostgresSettings(url=url or postgres_database.app_url, **settings)
        return Connector(chosen.address(), chosen, "pg", pooled=pooled, read_only=read_only)

    return make


@pytest.fixture
def pooled_url(postgres_database: Database, pgbouncer: PgBouncer) -> str:
    """The application's URL of the test's database through PgBouncer."""
    return pgbouncer.url_of(postgres_database.app_url)


@pytest.fixture
async def writer(connector: MakeConnector) -> AsyncIterator[Callable[..., Awaitable[Writer]]]:
    """Makes writers, and closes them."""
    made: list[Writer] = []

    async def make(opens: Connector | None = None, **options: Any) -> Writer:
        made.append(Writer(opens or connector(), **options))
        return made[-1]

    yield make
    for item in made:
        await item.close()


@pytest.fixture
async def readers(connector: MakeConnector) -> AsyncIterator[Callable[..., Awaitable[Readers]]]:
    """Makes pools of readers, and closes them."""
    made: list[Readers] = []

    async def make(
        opens: Connector | None = None, kept: int = 2, extra: int = 2, timeout: float = 10.0
    ) -> Readers:
        made.append(Readers(opens or connector(), PoolSize(kept, extra), timeout))
        return made[-1]

    yield make
    for item in made:
        await item.close()


@pytest.fixture
def context(tmp_path: Path, prepared_database: Database) -> Callable[..., OpenContext]:
    """Makes what a store is opened with; keyword arguments are settings."""

    def make(
        *, url: str | None = None, read_only: bool = False, production: bool = False, **settings: Any
    ) -> OpenContext:
        chosen = PostgresSettings(url=url or prepared_database.app_url, **settings)
        return OpenContext("pg", chosen, BUILTIN_KINDS, tmp_path, read_only, production)

    return make


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[OpenContext], Awaitable[PostgresBackend]]]:
    """Opens stores, and closes what it opened."""
    backends: list[PostgresBackend] = []

    async def open_one(context: OpenContext) -> PostgresBackend:
        backend = await open_store(context)
        assert isinstance(backend, PostgresBackend)
        backends.append(backend)
        return backend

    yield open_one
    for backend in backends:
        await backend.gateway_close()


@pytest.fixture
def trades() -> Callable[[int], list[Row]]:
    """Makes so many trades, a second apart."""
    stamper = Stamper()
    return lambda count: trade_rows(stamper, START, count)
