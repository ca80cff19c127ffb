"""Bots that can be killed, and servers that can."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway
from tests.crash.crash_kinds import CRASH_KINDS, WorkOrders
from tests.crash.crash_lab import Nursery, World
from tests.holding import hold
from tests.prepared import make_schema
from tests.servers import Database, PostgresServer, QuestDbServer

MakeWorld = Callable[..., World]


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where bots come from."""
    with Nursery() as made:
        yield made


@pytest.fixture(scope="session")
def mortal_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of these tests' own, which they may kill."""
    with PostgresServer.wheel() as server:
        yield server


@pytest.fixture(scope="session")
def crash_database(mortal_postgres: PostgresServer) -> Iterator[Database]:
    """A database on it with all kinds; each test is a tenant of its own there."""
    with mortal_postgres.fresh() as made:
        make_schema(made, CRASH_KINDS)
        yield made


@pytest.fixture(scope="session")
def mortal_questdb(request: pytest.FixtureRequest) -> Iterator[QuestDbServer]:
    """A QuestDB server of these tests' own, which they may kill."""
    yield from hold(request, QuestDbServer.default)


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with the tables of all kinds: copying it is faster than making them."""
    directory = tmp_path_factory.mktemp("empty")

    async def make() -> None:
        async with Gateway("sqlite", data_dir=directory, environ={}, env_file=None, plugins=[WorkOrders()]):
            pass

    asyncio.run(make())
    return directory / "gateway.db"


@pytest.fixture
def make_world(
    request: pytest.FixtureRequest, nursery: Nursery, empty_sqlite: Path, tmp_path: Path
) -> MakeWorld:
    """Makes worlds on empty stores, with all servers alive."""

    def make(backends: str, seed: object, directory: Path = tmp_path, **more: Any) -> World:
        environ: dict[str, str] = {}
        directory.mkdir(exist_ok=True)
        if "sqlite" in backends:
            shutil.copy(empty_sqlite, directory)
        if "postgres" in backends:
            request.getfixturevalue("mortal_postgres").start()
            environ["STORAGE_POSTGRES_URL"] = request.getfixturevalue("crash_database").app_url
        if "questdb" in backends:
            server = request.getfixturevalue("mortal_questdb")
            server.start()
            environ["STORAGE_QUESTDB_URL"] = (
                f"questdb://admin:quest@{server.host}:{server.port}?pg_port={server.pg_port}"
            )
        return World(nursery, backends, directory, environ, str(seed), **more)

    return make
