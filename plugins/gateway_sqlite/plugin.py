"""The plugin: declares the SQLite backend and opens it."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.backend import Backend, BackendSpec, Capability, OpenContext
from gateway.errors import ConfigurationError
from gateway.hookspecs import hookimpl
from gateway_sqlite.backend import SqliteBackend
from gateway_sqlite.connection import StoreConnection
from gateway_sqlite.opening import create_file, reader_connector, writer_connector
from gateway_sqlite.readers import Readers
from gateway_sqlite.settings import SqliteSettings, store_path

__all__ = ["SPEC", "gateway_backends", "open_store"]


async def open_store(context: OpenContext) -> Backend:
    settings = context.settings
    if not isinstance(settings, SqliteSettings):
        raise ConfigurationError("the sqlite backend needs SqliteSettings")
    path = store_path(settings, context.data_dir)
    writer = None
    if not context.read_only:
        await asyncio.to_thread(create_file, path)
        writer = await StoreConnection(writer_connector(path, settings), context.instance)
        await writer.run(_create_tables, context.kinds)
    readers = [
        await StoreConnection(reader_connector(path, settings, read_only=context.read_only), context.instance)
        for _ in range(settings.readers)
    ]
    return SqliteBackend(context.instance, path, writer, Readers(readers))


def _create_tables(connection, kinds):
    from gateway.records.types import StorageType as S
    t = {S.TEXT: "TEXT", S.MONEY: "TEXT", S.JSON: "TEXT", S.INTEGER: "INTEGER", S.TIME: "INTEGER", S.BOOLEAN: "INTEGER", S.FLOAT: "REAL"}
    for k in kinds:
        cols = ", ".join(f'"{f.name}" {t[f.storage]}' + (" NOT NULL" if f.name in k.key else "") for f in k.fields)
        key = ",".join(f'"{n}"' for n in k.key)
        connection.execute(f'CREATE TABLE IF NOT EXISTS "{k.name}" (tenant_id TEXT NOT NULL, version BIGINT NOT NULL, digest BIGINT NOT NULL, deleted INTEGER NOT NULL, {cols}, PRIMARY KEY (tenant_id, {key}))')
        for i in k.indexes:
            connection.execute(f'CREATE INDEX IF NOT EXISTS "ix_{k.name}_{"_".join(i)}" ON "{k.name}" (tenant_id, {", ".join(i)})')


SPEC: Final = BackendSpec(
    name="sqlite",
    summary="one SQLite file: durable, atomic, several processes, nothing to install",
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
        }
    ),
    url_schemes=("sqlite",),
)


@hookimpl
def gateway_backends() -> tuple[BackendSpec, ...]:
    """Bring the backend."""
    return (SPEC,)
