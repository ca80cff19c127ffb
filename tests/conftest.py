"""Fixtures that every test may use: the event loop, and real servers, started when the first test asks for them.

A server lives as long as the test process (each worker of pytest-xdist has its own). Databases live as long as one
test. At the end the run says which servers it used and how each was obtained; see the root conftest for what
happens where one is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.holding import USED, hold
from tests.servers import (
    Database,
    PgBouncer,
    PostgresServer,
    QuestDbServer,
    TimescaleServer,
    ValkeyServer,
)
from tests.workers import in_order, share_of

if TYPE_CHECKING:
    from tests.prepared import KitDatabases, PreparedDatabases

# A busy machine is no fault of what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# For what was tested in full elsewhere, and for failures that are expected and need not be made simple.
settings.register_profile("few", settings.get_profile("busy"), max_examples=8)
settings.register_profile("unshrunk", settings.get_profile("busy"), phases=[Phase.generate])


def _loaded(profile: str) -> Iterator[None]:
    settings.load_profile(profile)
    yield
    settings.load_profile("busy")


@pytest.fixture
def few_examples() -> Iterator[None]:
    """Let Hypothesis try fewer examples where the test does not say how many itself."""
    yield from _loaded("few")


@pytest.fixture
def unshrunk() -> Iterator[None]:
    """Keep Hypothesis from looking for the simplest way in which something fails: that it fails is enough."""
    yield from _loaded("unshrunk")


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, which the drivers need."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def short_logs() -> Iterator[None]:
    """Let SQLite files begin with a short log: thousands of them, at 16 MB each, would keep a small machine busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway_sqlite.opening.LONGEST_GROWTH", 1 << 21)
        yield


@pytest.fixture(scope="session")
def postgres18(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """PostgreSQL 18 of the wheel, or the server that STORAGE_TEST_POSTGRES_URL names."""
    yield from hold(request, PostgresServer.default)


@pytest.fixture(scope="session")
def postgres15(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """The system's PostgreSQL: 15 on Debian 12. Its databases sort text by the rules of English."""
    yield from hold(request, PostgresServer.debian)


@pytest.fixture(scope="session")
def postgres_server(postgres18: PostgresServer) -> PostgresServer:
    """The server that tests run on where the version does not matter."""
    return postgres18


@pytest.fixture(scope="session")
def pgbouncer(request: pytest.FixtureRequest, postgres18: PostgresServer) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode in front of `postgres18`, with four server connections a pool."""
    yield from hold(request, lambda: PgBouncer(postgres18))


@pytest.fixture(scope="session")
def timescale(request: pytest.FixtureRequest) -> Iterator[TimescaleServer]:
    """PostgreSQL with TimescaleDB, the one server that CI may lack."""
    yield from hold(request, TimescaleServer.default, "no server, which CI may lack: ")


@pytest.fixture(scope="session")
def valkey(request: pytest.FixtureRequest) -> Iterator[ValkeyServer]:
    """Valkey, or Redis where only that is there."""
    yield from hold(request, ValkeyServer.default)


@pytest.fixture(scope="session")
def questdb(request: pytest.FixtureRequest) -> Iterator[QuestDbServer]:
    """QuestDB with HTTP and the PostgreSQL protocol."""
    yield from hold(request, QuestDbServer.default)


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[Database]:
    """An empty database on `postgres_server`, dropped after the test."""
    with postgres_server.fresh() as database:
        yield database


@pytest.hookimpl(optionalhook=True)  # asked by pytest-xdist alone
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests among the workers as tests/workers.py says, unless another way was asked for."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped] # it brings no types

    config.option.loadscopereorder = False  # the order is that of the tests, see below
    made = LoadScopeScheduling(config, log)
    made._split_scope = share_of
    return made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring what lasts longest to the front."""
    items[:] = in_order(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells what it used."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["servers"] = session.config.stash.get(USED, {})


@pytest.hookimpl(optionalhook=True)  # asked by pytest-xdist alone
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker used to what the others did."""
    told = getattr(node, "workeroutput", {}).get("servers", {})
    node.config.stash.setdefault(USED, {}).update(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what servers the tests ran on, and how each was obtained."""
    used = config.stash.get(USED, {})
    if used:
        terminalreporter.section("servers")
        for name, note in sorted(used.items()):
            terminalreporter.write_line(f"{name}, {note}")


@pytest.fixture(scope="session")
def prepared_databases(postgres_server: PostgresServer) -> Iterator[PreparedDatabases]:
    """Databases on `postgres_server` with the schema of the built-in kinds."""
    from tests.prepared import prepared_on

    yield from prepared_on(postgres_server)


@pytest.fixture(scope="session")
def kit_databases() -> Iterator[KitDatabases]:
    """Gives, for a server, databases with the tables of the conformance kit's kinds."""
    from gateway.conformance.kinds import ALL_KINDS
    from tests.prepared import PreparedDatabases

    made: dict[PostgresServer, PreparedDatabases] = {}

    def on(server: PostgresServer) -> PreparedDatabases:
        if server not in made:
            made[server] = PreparedDatabases(server, ALL_KINDS)
        return made[server]

    yield on
    for one in made.values():
        one.close()


@pytest.fixture
def prepared_database(prepared_databases: PreparedDatabases) -> Iterator[Database]:
    """A database of one test with the schema of the built-in kinds, and no rows."""
    with prepared_databases.fresh() as database:
        yield database
