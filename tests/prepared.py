"""PostgreSQL databases whose schema is there already, for tests that are about what comes afterwards.

Making the schema takes longer than copying a database that has it. So the first test of a process makes one as its
owner would, and every further test gets a copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.backend import OpenContext
from gateway.records import KindSpec
from gateway.records.builtin import BUILTIN_KINDS
from gateway_postgres.plugin import SPEC
from gateway_postgres.settings import PostgresSettings
from tests.servers import Database, PostgresServer

__all__ = ["KitDatabases", "PreparedDatabases", "environ_of", "make_schema", "prepared_on"]


def make_schema(database: Database, kinds: Sequence[KindSpec] = BUILTIN_KINDS) -> None:
    """Make the schema as the owner of the database, as `gateway schema upgrade` does."""
    settings = PostgresSettings(url=database.app_url, admin_url=database.owner_url)
    assert SPEC.schema is not None
    SPEC.schema(OpenContext("postgres", settings, tuple(kinds), Path("nowhere"))).upgrade()


def environ_of(url: str, **more: str) -> dict[str, str]:
    """Return the environment of a bot whose PostgreSQL store is at a URL; `retry_seconds="5"` adds a setting."""
    return {"STORAGE_POSTGRES_URL": url} | {f"STORAGE_{name}".upper(): value for name, value in more.items()}


class PreparedDatabases:
    """Copies of one database on one server.

    Args:
        server: Where.
        kinds: The kinds that have tables.
    """

    def __init__(self, server: PostgresServer, kinds: Sequence[KindSpec] = BUILTIN_KINDS) -> None:
        self.server = server
        self._kinds = tuple(kinds)
        self._model: Database | None = None

    @contextmanager
    def fresh(self) -> Iterator[Database]:
        """Create a database with an empty schema and drop it at the end."""
        if self._model is None:
            self.server.start()
            model = self.server.database("model_")
            make_schema(model, self._kinds)
            self._model = model
        # Nobody may be connected to the one that is copied, and nobody is: making the schema has ended.
        with self.server.fresh(self._model.name) as made:
            yield made

    def close(self) -> None:
        """Drop the database that the others are copied from; a server that has ended took it along."""
        if self._model is not None and (self.server.given or self.server.running):
            self._model.drop()
        self._model = None


KitDatabases = Callable[[PostgresServer], PreparedDatabases]
"""Gives, for a server, databases with the tables of the conformance kit's kinds."""


def prepared_on(
    server: PostgresServer, kinds: Sequence[KindSpec] = BUILTIN_KINDS
) -> Iterator[PreparedDatabases]:
    """Yield copies of a database on a server, for a fixture of the length of a session."""
    made = PreparedDatabases(server, kinds)
    try:
        yield made
    finally:
        made.close()
