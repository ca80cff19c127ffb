"""Declares the in-memory backend: the entry point of the plugin."""

from __future__ import annotations

from pydantic import Field

from gateway.backend import BackendSettings, BackendSpec, Capability, OpenContext
from gateway.hookspecs import hookimpl
from gateway_memory.store import MemoryStore

__all__ = ["MEMORY", "MemorySettings", "gateway_backends", "open_memory"]


class MemorySettings(BackendSettings):
    """Settings of the in-memory backend.

    Attributes:
        max_rows: Rows kept at most, tombstones included; a write beyond it is refused with `StoreFullError`.
    """

    max_rows: int = Field(default=1_000_000, ge=1)


async def open_memory(context: OpenContext) -> MemoryStore:
    """Open an empty store. Nothing outlives it, and no two openings share anything."""
    settings = context.settings
    max_rows = settings.max_rows if isinstance(settings, MemorySettings) else MemorySettings().max_rows
    return MemoryStore(context.instance, max_rows=max_rows, read_only=context.read_only)


MEMORY = BackendSpec(
    name="memory",
    summary="Rows in this process's memory, gone when it ends; for tests and for reading as an example",
    open=open_memory,
    settings=MemorySettings,
    capabilities=frozenset({Capability.ATOMIC_BATCH, Capability.UPDATE, Capability.PURGE}),
    url_schemes=("memory",),
)


@hookimpl
def gateway_backends() -> tuple[BackendSpec, ...]:
    """Bring the in-memory backend."""
    return (MEMORY,)
