"""The plugin: declares the PostgreSQL backend and opens it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.backend import Backend, BackendSpec, Capability, OpenContext
from gateway.findings import Finding
from gateway.hookspecs import hookimpl
from gateway.upkeep import StoreBackup, StoreSchema
from gateway_postgres.opening import open_backend, schema_of_context
from gateway_postgres.settings import PostgresSettings

__all__ = ["SPEC", "gateway_backends", "open_store"]


async def open_store(context: OpenContext) -> Backend:
    """Open a database: look at it first, upgrade its schema where that is allowed, then connect.

    Raises:
        ConfigurationError: The settings cannot work, or the server is too old or has another encoding.
        SchemaError: The schema is not the one needed and may not be changed; nothing was touched.
        StoreError: The server cannot be reached, or refuses.
    """
    return await open_backend(context)


def _schema(context: OpenContext) -> StoreSchema:
    return schema_of_context(context)


def _backup(context: OpenContext) -> StoreBackup:
    from gateway_postgres.backup import backup_of

    return backup_of(context)


def _examine(context: OpenContext) -> Sequence[Finding]:
    from gateway_postgres.examine import examine

    return examine(context)


def _maintain(context: OpenContext, dry_run: bool) -> Sequence[str]:
    from gateway_postgres.maintain import maintain

    return maintain(context, dry_run)


SPEC: Final = BackendSpec(
    name="postgres",
    summary="a PostgreSQL server, durable and atomic, for a fleet of bots and for several tenants",
    open=open_store,
    settings=PostgresSettings,
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
    url_schemes=("postgres", "postgresql"),
    schema=_schema,
    backup=_backup,
    examine=_examine,
    maintain=_maintain,
)


@hookimpl
def gateway_backends() -> tuple[BackendSpec, ...]:
    """Bring the backend."""
    return (SPEC,)
