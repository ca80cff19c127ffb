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


@pytest.fixture(params=["memory", "sqlite", "json", "json,sqlite", "postgres", "sqlite,postgres"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Open a gateway; the same tests run on every store, as the same bot would."""
    environ = request.getfixturevalue("environ") if "postgres" in request.param else {}
    async with Gateway(request.param, data_dir=tmp_path, environ=environ, env_file=None) as opened:
        yield opened
