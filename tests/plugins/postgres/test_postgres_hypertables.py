"""With TimescaleDB the same statements do the same on hypertables: the whole kit, as the bots' login."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.backend import OpenContext
from gateway.conformance import BackendConformance
from gateway.conformance.kinds import ALL_KINDS
from gateway_postgres.plugin import SPEC
from gateway_postgres.settings import PostgresSettings
from tests.prepared import make_schema
from tests.servers import Database, TimescaleServer


@pytest.fixture(scope="module")
def database(timescale: TimescaleServer) -> Iterator[Database]:
    """A database with the extension and the tables of every kind."""
    made = timescale.database()
    try:
        make_schema(made, ALL_KINDS)
        yield made
    finally:
        made.drop()


class TestTimescaleConformance(BackendConformance):
    """Hypertables, as the application's login: every clause, with fewer examples and crashes than on PostgreSQL 18."""

    spec = SPEC
    rounds = BackendConformance.rounds[:2]

    @pytest.fixture(autouse=True)
    def fewer(self, few_examples: None) -> None:
        """Draw fewer examples."""

    @pytest.fixture(autouse=True)
    def place(self, database: Database) -> None:
        """Connect to the server."""
        self.url = database.app_url

    def make_context(self, tmp_path: Path) -> OpenContext:
        """Return how to open the store."""
        return OpenContext("postgres", PostgresSettings(url=self.url, auto_schema=False), ALL_KINDS, tmp_path)

    url: str


def test_the_tables_of_the_kit_are_hypertables(database: Database) -> None:
    """What the kit proves here is worth something only if its logs are cut by the extension."""
    found = database.execute("SELECT DISTINCT style FROM gateway.partitioned_tables")
    assert found == [("timescale",)]
    cut = database.execute("SELECT count(*) FROM timescaledb_information.hypertables")
    assert cut == database.execute("SELECT count(*) FROM gateway.partitioned_tables")
