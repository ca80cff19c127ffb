"""The schema of a PostgreSQL database: `gateway.sql.schema` on an engine that a pooler may stand in front of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from gateway.backend import OpenContext
from gateway.errors import ConfigurationError
from gateway.records.kind import KindSpec
from gateway.sql.postgres import PostgresDatabase
from gateway.sql.schema import Schema
from gateway_postgres.address import Address
from gateway_postgres.errors import translate
from gateway_postgres.roles import roles_sql
from gateway_postgres.settings import PostgresSettings

__all__ = ["PostgresSchema", "database_of", "engine_of", "schema_at", "schema_of"]


class PostgresSchema(Schema):
    """The schema of one database.

    Args:
        engine: Reaches it.
        kinds: Every registered kind.
        database: How it is laid out.
        backend: Instance name, for errors.
    """

    def __init__(
        self, engine: sa.Engine, kinds: Sequence[KindSpec], *, database: PostgresDatabase, backend: str
    ) -> None:
        super().__init__(
            engine,
            kinds,
            database=database,
            backend=backend,
            translate=lambda error: translate(error, backend),
        )
        self._prefix = database.prefix

    def roles(self) -> str:
        """Return the statements that make the group roles."""
        return roles_sql(self._prefix)


def schema_of(context: OpenContext) -> PostgresSchema:
    """Return the schema of the store that a context describes, as the operator's login, without opening the store.

    Raises:
        ConfigurationError: The settings lead nowhere.
    """
    settings = context.settings
    if not isinstance(settings, PostgresSettings):
        raise ConfigurationError("the postgres backend is opened with PostgresSettings")
    return schema_at(settings.admin_address(), settings, context.kinds, context.instance)


def schema_at(
    address: Address, settings: PostgresSettings, kinds: Sequence[KindSpec], backend: str
) -> PostgresSchema:
    """Return the schema of a database as a login sees it.

    Args:
        address: Where, and as whom.
        settings: How the tables are laid out, and how long connecting may take.
        kinds: Every registered kind.
        backend: Instance name, for errors.
    """
    return PostgresSchema(
        engine_of(address, settings.connect_timeout),
        kinds,
        database=database_of(settings, backend),
        backend=backend,
    )


def database_of(settings: PostgresSettings, backend: str) -> PostgresDatabase:
    """Return how the settings lay out a database."""
    return PostgresDatabase(
        partitioning=settings.partitioning,
        interval=settings.partition_interval,
        ahead=settings.partitions_ahead,
        prefix=settings.role_prefix,
        backend=backend,
    )


def engine_of(address: Address, connect_timeout: float) -> sa.Engine:
    """Return an engine that opens a connection for each use and keeps none.

    Args:
        address: Where, and as whom.
        connect_timeout: Seconds that connecting may take; libpq counts whole ones.
    """
    arguments: dict[str, Any] = {
        "application_name": "storage-gateway schema",
        **address.psycopg_arguments(),
        "connect_timeout": max(2, round(connect_timeout)),
        # A pooler hands each transaction another server connection, which knows no statement prepared before.
        "prepare_threshold": None,
    }
    return sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(**arguments),
        poolclass=NullPool,
        use_native_hstore=False,
    )
