"""The plugin: declares the SQLite backend and opens it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from sqlite3 import Connection
from typing import Final

from gateway.backend import Backend, BackendSpec, Capability, OpenContext
from gateway.errors import ConfigurationError, SchemaError
from gateway.findings import Finding
from gateway.hookspecs import hookimpl
from gateway.upkeep import StoreBackup, StoreSchema
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.checkpoints import Checkpointer
from gateway_sqlite.connection import StoreConnection
from gateway_sqlite.files import check_writable, create_file
from gateway_sqlite.opening import checkpoint_connector, reader_connector, writer_connector
from gateway_sqlite.probe import missing_from
from gateway_sqlite.readers import Readers
from gateway_sqlite.settings import SqliteSettings, store_path

__all__ = ["SPEC", "gateway_backends", "open_store"]


async def open_store(context: OpenContext) -> Backend:
    """Open a file: look at it first, upgrade its schema where that is allowed, then connect.

    Raises:
        ConfigurationError: The URL is not one of a file on this machine.
        SchemaError: The schema is not the one needed and may not be changed; nothing was touched.
        StoreError: The file cannot be opened; nothing was touched.
    """
    settings = context.settings
    if not isinstance(settings, SqliteSettings):
        raise ConfigurationError("the sqlite backend is opened with SqliteSettings")
    path = store_path(settings, context.data_dir)
    await asyncio.to_thread(_prepare, path, settings, context)
    return await _connect(path, settings, context)


def _prepare(path: Path, settings: SqliteSettings, context: OpenContext) -> None:
    """Make sure that the file and its schema are what the connections will need."""
    backend, may_change = context.instance, settings.auto_schema and not context.read_only
    if not context.read_only:
        create_file(path, backend)
        check_writable(path, backend)
    missing = missing_from(path, context.kinds, settings.busy_timeout, backend)
    if missing is None:
        return
    if not may_change:
        raise SchemaError(f"{path}: {missing}; run `gateway schema upgrade`", backend=backend)
    # Only here, because SQLAlchemy and Alembic take longer to import than all the rest of opening.
    _schema(context).upgrade()


async def _connect(path: Path, settings: SqliteSettings, context: OpenContext) -> SqliteBackend:
    async with AsyncExitStack() as opened:

        async def open_one(connector: Callable[[], Connection]) -> StoreConnection:
            connection = await StoreConnection.open(connector, context.instance)
            opened.push_async_callback(connection.close)
            return connection

        writer = checkpointer = None
        if not context.read_only:
            writer = await open_one(writer_connector(path, settings, context.timeout))
            beside = await open_one(checkpoint_connector(path, settings))
            checkpointer = Checkpointer(beside, writer, settings.wal_autocheckpoint)
        connector = reader_connector(path, settings, read_only=context.read_only)
        readers = Readers([await open_one(connector) for _ in range(settings.readers)])
        # All of them are open: from here on the backend closes them.
        opened.pop_all()
        return SqliteBackend(
            context.instance,
            path,
            settings,
            readers,
            writer,
            checkpointer,
            context.kinds,
            patience=context.timeout,
        )


def _schema(context: OpenContext) -> StoreSchema:
    """Return the schema of a file; SQLAlchemy is imported for it only here."""
    from gateway_sqlite.schema import schema_of

    return schema_of(context)


def _backup(context: OpenContext) -> StoreBackup:
    """Return what backs a file up."""
    from gateway_sqlite.backup import backup_of

    return backup_of(context)


def _examine(context: OpenContext) -> Sequence[Finding]:
    """Look at a file closely."""
    from gateway_sqlite.examine import examine

    return examine(context)


def _maintain(context: OpenContext, dry_run: bool) -> Sequence[str]:
    """Do the upkeep of a file."""
    from gateway_sqlite.maintain import maintain

    return maintain(context, dry_run)


SPEC: Final = BackendSpec(
    name="sqlite",
    summary="one SQLite file on this machine, durable and atomic, for several processes at once",
    open=open_store,
    settings=SqliteSettings,
    capabilities=frozenset(
        {
            Capability.DURABLE,
            Capability.ATOMIC_BATCH,
            Capability.UPDATE,
            Capability.MULTI_PROCESS,
            Capability.PURGE,
            Capability.SCHEMA,
            Capability.JOURNAL,
        }
    ),
    url_schemes=("sqlite",),
    schema=_schema,
    backup=_backup,
    examine=_examine,
    maintain=_maintain,
)


@hookimpl
def gateway_backends() -> tuple[BackendSpec, ...]:
    """Bring the backend."""
    return (SPEC,)
