"""Gateways on every set of stores that a bot may name."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway import Gateway
from tests.prepared import PreparedDatabases, environ_of
from tests.servers import Database


@pytest.fixture(scope="module")
def common_database(prepared_databases: PreparedDatabases) -> Iterator[Database]:
    """One database for the tests of a module, each of which is a tenant of its own there."""
    with prepared_databases.fresh() as database:
        yield database


@pytest.fixture
def environ(common_database: Database) -> dict[str, str]:
    """The environment of a bot that has PostgreSQL, where it finds nothing yet."""
    return environ_of(common_database.app_url, tenant=str(uuid.uuid4()))


STORES = (
    "memory",
    "sqlite",
    "json",
    "json,sqlite",
    "postgres",
    "sqlite,postgres",
    "postgres,questdb",
    "sqlite,questdb",
)
SERIES_STORES = (*(one for one in STORES if one != "sqlite,questdb"), "questdb")
"""Stores for time series; the last cannot read and write in one step."""


@pytest.fixture(params=STORES)
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Open a gateway; the same tests run on every store, as the same bot would."""
    async with opened(request.param, request, tmp_path) as gateway:
        yield gateway


def opened(stores: str, request: pytest.FixtureRequest, directory: Path, **settings: str) -> Gateway:
    """Return a gateway on stores where it finds nothing yet; keyword arguments are settings."""
    environ = dict(request.getfixturevalue("environ")) if "postgres" in stores else {}
    if "questdb" in stores:
        server = request.getfixturevalue("questdb")
        environ["STORAGE_QUESTDB_URL"] = (
            f"questdb://admin:quest@{server.host}:{server.port}?pg_port={server.pg_port}"
        )
        environ.setdefault("STORAGE_TENANT", str(uuid.uuid4()))
    return Gateway(stores, data_dir=directory, environ=environ, env_file=None, **settings)
