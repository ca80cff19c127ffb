"""The plugin: declares the QuestDB backend and opens it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.backend import Backend, BackendSpec, Capability, OpenContext
from gateway.findings import Finding
from gateway.hookspecs import hookimpl
from gateway.upkeep import StoreSchema
from gateway_questdb.settings import QuestDbSettings

__all__ = ["SPEC", "gateway_backends", "open_store"]


async def open_store(context: OpenContext) -> Backend:
    """Open a server: look at it first, upgrade its schema where that is allowed.

    Raises:
        ConfigurationError: The settings cannot work.
        SchemaError: The schema is not the one needed and may not be changed; nothing was touched.
        StoreError: The server cannot be reached, or refuses.
    """
    from gateway_questdb.opening import open_backend

    return await open_backend(context)


def _schema(context: OpenContext) -> StoreSchema:
    from gateway_questdb.schema import schema_of

    return schema_of(context)


def _examine(context: OpenContext) -> Sequence[Finding]:
    from gateway_questdb.examine import examine

    return examine(context)


def _maintain(context: OpenContext, dry_run: bool) -> Sequence[str]:
    from gateway_questdb.maintain import maintain

    return maintain(context, dry_run)


SPEC: Final = BackendSpec(
    name="questdb",
    summary="a QuestDB server, for time series: fast to write, readable once acknowledged",
    open=open_store,
    settings=QuestDbSettings,
    capabilities=frozenset(
        {
            Capability.DURABLE,
            Capability.MULTI_PROCESS,
            Capability.SCHEMA,
            Capability.COLUMNS,
            Capability.SAMPLE,
        }
    ),
    url_schemes=("questdb",),
    schema=_schema,
    examine=_examine,
    maintain=_maintain,
)


@hookimpl
def gateway_backends() -> tuple[BackendSpec, ...]:
    """Bring the backend."""
    return (SPEC,)
