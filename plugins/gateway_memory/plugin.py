"""Declares the in-memory backend: the entry point of the plugin."""

from __future__ import annotations

from pydantic import Field

from gateway.backend import BackendSettings, BackendSpec, Capability, OpenContext
from gateway.hookspecs import hookimpl
from gateway_memory.cache import MemoryCache, server_named
from gateway_memory.store import MemoryStore

__all__ = [
    "MEMORY",
    "MEMORY_CACHE",
    "MemoryCacheSettings",
    "MemorySettings",
    "gateway_backends",
    "open_memory",
    "open_memory_cache",
]


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


class MemoryCacheSettings(BackendSettings):
    """Settings of the cache in memory. Gateways of one process that give the same location share one.

    Attributes:
        max_entries: Entries kept at most; beyond it, those unused for longest are evicted.
    """

    max_entries: int = Field(default=100_000, ge=1)


async def open_memory_cache(context: OpenContext) -> MemoryCache:
    """Open the cache of this process that has the location, or make it."""
    settings = context.settings
    default = MemoryCacheSettings().max_entries
    max_entries = settings.max_entries if isinstance(settings, MemoryCacheSettings) else default
    return MemoryCache(server_named(settings.url or "", max_entries))


MEMORY_CACHE = BackendSpec(
    name="memory_cache",
    summary="A cache in this process's memory, for one process alone; for tests and for reading as an example",
    settings=MemoryCacheSettings,
    store_of_record=False,
    open_cache=open_memory_cache,
)


@hookimpl
def gateway_backends() -> tuple[BackendSpec, ...]:
    """Bring the in-memory backend and the in-memory cache."""
    return (MEMORY, MEMORY_CACHE)
