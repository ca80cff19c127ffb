"""The schema of a SQLite file: `gateway.sql.schema` on an engine that locks and rolls back as it must."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from gateway.backend import OpenContext
from gateway.errors import ConfigurationError, StoreError
from gateway.records.kind import KindSpec
from gateway.sql.schema import LOCKED, Schema
from gateway_sqlite.connection import connect
from gateway_sqlite.errors import translate
from gateway_sqlite.files import create_file
from gateway_sqlite.settings import SqliteSettings, store_path

__all__ = ["SqliteSchema", "schema_of"]


class SqliteSchema(Schema):
    """The schema of one file.

    Args:
        path: Absolute path of the file; `upgrade` creates it.
        kinds: Every registered kind.
        busy_timeout: Seconds to wait for other processes.
        backend: Instance name, for errors.
    """

    def __init__(self, path: Path, kinds: Sequence[KindSpec], *, busy_timeout: float, backend: str) -> None:
        def translated(error: BaseException) -> StoreError:
            # The engine's driver is `sqlite3`, so its errors are.
            return translate(cast("sqlite3.Error", error), backend)

        super().__init__(_engine(path, busy_timeout), kinds, backend=backend, translate=translated)
        self._path = path
        self._instance = backend

    def upgrade(self) -> list[str]:
        """Create the file unless it exists, and bring its schema to what the registered kinds need."""
        create_file(self._path, self._instance)
        return super().upgrade()


def schema_of(context: OpenContext) -> SqliteSchema:
    """Return the schema of the store that a context describes, without opening the store."""
    settings = context.settings
    if not isinstance(settings, SqliteSettings):
        raise ConfigurationError("the sqlite backend is opened with SqliteSettings")
    path = store_path(settings, context.data_dir)
    return SqliteSchema(path, context.kinds, busy_timeout=settings.busy_timeout, backend=context.instance)


def _engine(path: Path, busy_timeout: float) -> sa.Engine:
    """Return an engine whose transactions cover DDL.

    The driver by itself begins a transaction before INSERT, UPDATE and DELETE only, and so would commit each
    CREATE TABLE on its own. `connect` switches that off; the event begins every transaction by hand. See
    "pysqlite, serializable isolation, savepoints and transactional DDL" in SQLAlchemy's documentation.
    """
    engine = sa.create_engine(
        "sqlite://", creator=lambda: connect(path, "rw", busy_timeout), poolclass=NullPool
    )

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        locked = connection.get_execution_options().get(LOCKED, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if locked else "BEGIN")

    return engine
