"""Opening: the server is looked at, refused if it cannot serve, and its schema brought up to date."""

from __future__ import annotations

import asyncio
import os

from gateway.backend import OpenContext
from gateway.errors import ConfigurationError, SchemaError, StoreError
from gateway.upkeep import StoreSchema
from gateway_postgres.address import Address
from gateway_postgres.backend import PostgresBackend
from gateway_postgres.connections import Connection, Connector, Writer, retire
from gateway_postgres.errors import translated
from gateway_postgres.health import ServerFacts, objection, read_facts
from gateway_postgres.pools import Readers
from gateway_postgres.presence import missing_from
from gateway_postgres.profiles import profile_of
from gateway_postgres.settings import PostgresSettings

__all__ = ["open_backend", "schema_of_context", "settings_of"]


def settings_of(context: OpenContext) -> PostgresSettings:
    """Return the settings in a context.

    Raises:
        ConfigurationError: They are another backend's.
    """
    if not isinstance(context.settings, PostgresSettings):
        raise ConfigurationError("the postgres backend is opened with PostgresSettings")
    return context.settings


async def open_backend(context: OpenContext) -> PostgresBackend:
    """Look at the server, upgrade its schema where that is allowed, then connect.

    Raises:
        ConfigurationError: The settings cannot work, or the server is too old or has another encoding.
        SchemaError: The schema is not the one needed and may not be changed; nothing was touched.
        StoreError: The server cannot be reached, or refuses.
    """
    settings = settings_of(context)
    address = settings.address()
    # As if there was a pooler, which is safe either way.
    looking = Connector(address, settings, context.instance, pooled=True, read_only=context.read_only)
    connection = await looking.connect()
    try:
        pooled = await _look(connection, context, settings, address)
        bounded = not (pooled and context.fenced) or await _gives_up(connection, context, address)
    except BaseException:
        await retire(connection)
        raise
    connector = Connector(address, settings, context.instance, pooled=pooled, read_only=context.read_only)
    size = settings.pool()
    backend = PostgresBackend(
        context,
        connector,
        Readers(connector, size, settings.pool_timeout),
        None
        if context.read_only
        else Writer(connector, keep=size.kept > 0, patience=context.timeout, bounded=bounded),
        keep=size.kept > 0,
    )
    try:
        await backend.start(connection)
    except BaseException:
        await backend.gateway_close()
        raise
    return backend


async def _look(
    connection: Connection, context: OpenContext, settings: PostgresSettings, address: Address
) -> bool:
    """Look at the server and its schema, mend that if it must be, and tell whether there is a pooler."""
    with translated(context.instance, user=address.user):
        facts = await read_facts(connection)
        refused = objection(facts)
        if refused is not None:
            raise refused
        missing = await missing_from(connection, context.kinds)
    if missing is not None:
        await _upgrade(context, settings, missing)
    return _pooled(settings, address, connection, facts)


async def _gives_up(connection: Connection, context: OpenContext, address: Address) -> bool:
    """Tell whether the server itself ends this role's statements no later than the gateway gives them up."""
    with translated(context.instance, user=address.user):
        found = await connection.fetchval(
            "SELECT reset_val::bigint FROM pg_settings WHERE name = 'statement_timeout'"
        )
    patience = context.timeout
    return patience is None or 0 < int(found or 0) <= patience * 1000


def _pooled(settings: PostgresSettings, address: Address, connection: Connection, facts: ServerFacts) -> bool:
    """Tell whether a pooler stands in front of the server.

    A server begins a connection by telling the number of its process, for requests to cancel. A pooler cannot pass
    that on, since the process behind the connection changes; it makes up a number of its own. So where the number
    is that of the process that answers, there is none. Whatever differs counts as a pooler: without prepared
    statements everything works behind none too, only slower.
    """
    if settings.pooler != "auto":
        return settings.pooler == "yes"
    if address.pooler or profile_of(settings.profile, os.environ) == "pooler":
        return True
    return bool(connection.get_server_pid() != facts.pid)


async def _upgrade(context: OpenContext, settings: PostgresSettings, missing: str) -> None:
    where = f"{settings.address().database}: {missing}"
    if context.read_only or not settings.auto_schema:
        raise SchemaError(f"{where}; run `gateway schema upgrade`", backend=context.instance)
    try:
        await asyncio.to_thread(lambda: schema_of_context(context).upgrade())
    except StoreError as error:
        if error.transient or isinstance(error, SchemaError):
            raise
        raise SchemaError(
            f"{where}; the bot's own login could not mend that, so run `gateway schema upgrade` with "
            f"STORAGE_POSTGRES_ADMIN_URL set to the owner's. {error}",
            backend=context.instance,
        ) from error


def schema_of_context(context: OpenContext) -> StoreSchema:
    """Return the schema of a store; SQLAlchemy and Alembic are imported only here, as that takes long."""
    from gateway_postgres.schema import schema_of

    return schema_of(context)
