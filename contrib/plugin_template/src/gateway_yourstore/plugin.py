"""What the gateway finds: the declaration of the backend, and how to open it."""

from __future__ import annotations

from pydantic import Field

from gateway.backend import BackendSettings, BackendSpec, Capability, OpenContext
from gateway.hookspecs import hookimpl
from gateway_yourstore.store import YourStore

__all__ = ["YOURSTORE", "YourSettings", "gateway_backends", "open_yourstore"]


class YourSettings(BackendSettings):
    """Settings, read from `STORAGE_YOURSTORE_…`; each field you add becomes a variable.

    Attributes:
        url: Path of the file; `yourstore.db` in the data directory if it is not given.
        busy_timeout: Seconds to wait for another process that is writing.
    """

    busy_timeout: float = Field(default=10.0, gt=0)


async def open_yourstore(context: OpenContext) -> YourStore:
    """Open the store.

    Raises:
        StoreError: It cannot be opened; the message says why and what to do.
    """
    settings = YourSettings.model_validate(context.settings.model_dump())
    path = settings.url or str(context.data_dir / "yourstore.db")
    return await YourStore.open(path, context.instance, settings.busy_timeout, read_only=context.read_only)


YOURSTORE = BackendSpec(
    name="yourstore",
    summary="Rows as JSON in one SQLite table; a template for plugins",
    open=open_yourstore,
    settings=YourSettings,
    # Declare what the conformance kit has seen your store do, and no more: what is not declared is not asked.
    capabilities=frozenset(
        {
            Capability.DURABLE,
            Capability.ATOMIC_BATCH,
            Capability.UPDATE,
            Capability.MULTI_PROCESS,
            Capability.PURGE,
        }
    ),
    url_schemes=("yourstore",),
)


@hookimpl
def gateway_backends() -> tuple[BackendSpec, ...]:
    """Bring this backend."""
    return (YOURSTORE,)
