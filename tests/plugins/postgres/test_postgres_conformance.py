"""PostgreSQL keeps every promise of the contract: two server versions, directly and through PgBouncer.

The bot's login is neither owner nor superuser, and the schema was made by the owner beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.backend import OpenContext
from gateway.conformance import BackendConformance
from gateway.conformance.kinds import ALL_KINDS
from gateway_postgres.plugin import SPEC
from gateway_postgres.settings import PostgresSettings
from tests.prepared import KitDatabases
from tests.servers import Database, PgBouncer, PostgresServer


def _context(url: str, tmp_path: Path, **settings: str) -> OpenContext:
    return OpenContext(
        "postgres", PostgresSettings.model_validate({"url": url, **settings}), ALL_KINDS, tmp_path
    )


@pytest.fixture(scope="module")
def database18(postgres18: PostgresServer, kit_databases: KitDatabases) -> Iterator[Database]:
    """A database of PostgreSQL 18 with the tables of every kind."""
    with kit_databases(postgres18).fresh() as database:
        yield database


@pytest.fixture(scope="module")
def database15(postgres15: PostgresServer, kit_databases: KitDatabases) -> Iterator[Database]:
    """The same of PostgreSQL 15."""
    with kit_databases(postgres15).fresh() as database:
        yield database


class OnServer(BackendConformance):
    """The kit as the application's login, which may not change the schema."""

    spec = SPEC

    @pytest.fixture(autouse=True)
    def place(self) -> None:
        """Choose the server."""
        raise NotImplementedError

    def make_context(self, tmp_path: Path) -> OpenContext:
        """Return how to open the store of the chosen server."""
        return _context(self.url, tmp_path, auto_schema="no")

    url: str


class TestPostgres18Conformance(OnServer):
    """PostgreSQL 18, directly."""

    @pytest.fixture(autouse=True)
    def place(self, database18: Database) -> None:
        """Connect to the server itself."""
        self.url = database18.app_url


class Again(OnServer):
    """The kit on another way to what was tested in full: every clause, with fewer examples and fewer crashes."""

    rounds = OnServer.rounds[:2]

    @pytest.fixture(autouse=True)
    def fewer(self, few_examples: None) -> None:
        """Draw fewer examples."""


@pytest.mark.soak
class TestPostgres15Conformance(Again):
    """PostgreSQL 15, directly; what differs between servers is in tests of their own, which run on it every time."""

    @pytest.fixture(autouse=True)
    def place(self, database15: Database) -> None:
        """Connect to the server itself."""
        self.url = database15.app_url


class TestPooledConformance(Again):
    """PostgreSQL 18 behind PgBouncer in transaction mode, which the backend finds out by itself."""

    @pytest.fixture(autouse=True)
    def place(self, database18: Database, pgbouncer: PgBouncer) -> None:
        """Connect to the pooler."""
        self.url = pgbouncer.url_of(database18.app_url)


def test_the_login_of_the_kit_has_no_special_rights(database18: Database, database15: Database) -> None:
    """What the kit proves is worth something only if row security holds for its login."""
    for database in (database18, database15):
        query = "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = 'gw_app'"
        assert database.execute(query) == [(False, False)]
        owned = "SELECT count(*) FROM pg_class WHERE relowner = 'gw_app'::regrole"
        assert database.execute(owned) == [(0,)]
