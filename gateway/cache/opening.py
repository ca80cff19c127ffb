"""From the configuration to an opened cache."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from gateway.backend import Capability
from gateway.cache.beside import Beside
from gateway.cache.front import CacheFront
from gateway.cache.keeper import Keeper, pace_for
from gateway.cache.terms import CacheOptions
from gateway.config import Configuration, open_context
from gateway.dispatch import Store
from gateway.errors import ConfigurationError, StoreError
from gateway.records.kind import KindSpec
from gateway.records.version import HybridClock
from gateway.telemetry import Counters

__all__ = ["beside_caches", "keeping_stores", "no_cache", "open_front"]

_log: Final = logging.getLogger(__name__)
_PERMIT: Final = 1.0


def keeping_stores(stores: Sequence[Store]) -> list[Store]:
    """Return the stores that can hold the row by which processes agree about the cache."""
    return [store for store in stores if Capability.UPDATE in store.capabilities]


async def open_front(
    configuration: Configuration,
    kinds: tuple[KindSpec, ...],
    stores: Sequence[Store],
    clock: HybridClock,
    counters: Counters,
) -> CacheFront | None:
    """Open the cache that the configuration names; None without one. It is not started yet.

    Args:
        configuration: Names it.
        kinds: Every registered kind.
        stores: The opened stores.
        clock: Where versions come from.
        counters: The gateway's.

    Raises:
        ConfigurationError: No store can hold the row that the cache needs, or production refuses how it is reached.
    """
    cache, settings = configuration.cache, configuration.settings
    if cache is None or cache.spec.open_cache is None:
        return None
    keeping = keeping_stores(stores)
    if not keeping:
        names = " and ".join(store.name for store in stores)
        raise ConfigurationError(
            f"a cache needs a store that can read and write in one step, by which all processes agree whether it may "
            f"be used; {names} cannot. Take {cache.instance} out of STORAGE_BACKENDS, or name such a store"
        )
    opened = await cache.spec.open_cache(open_context(configuration, cache, kinds))
    options = CacheOptions(
        ttl=settings.cache_ttl, timeout=settings.cache_timeout, value_bytes=settings.cache_value_bytes
    )
    pace = pace_for(settings.cache_permit, settings.timeout)
    keeper = Keeper(keeping, opened, pace, clock, counters)
    kinds, announced = configuration.cached, configuration.cacheable
    return CacheFront(cache.instance, opened, keeper, kinds, announced, options, counters)


def _beside(stores: Sequence[Store], timeout: float, clock: HybridClock) -> list[Beside]:
    return [Beside(store, pace_for(_PERMIT, timeout), clock) for store in keeping_stores(stores)]


@asynccontextmanager
async def beside_caches(stores: Sequence[Store], timeout: float) -> AsyncIterator[None]:
    """Keep the caches in front of some stores closed while the context lasts, since they are written beside them.

    Args:
        stores: The stores.
        timeout: `STORAGE_TIMEOUT`.

    Raises:
        StoreError: Whether a store has a cache could not be found out, or it could not be closed.
    """
    async with AsyncExitStack() as stack:
        for one in _beside(stores, timeout, HybridClock()):
            stack.push_async_callback(one.close)
            await one.settle()
        yield


async def no_cache(
    stores: Sequence[Store], timeout: float, clock: HybridClock
) -> Callable[[], Awaitable[None]]:
    """Make sure that nobody reads stale rows because a bot without a cache writes stores that others have one for.

    Where that cannot be found out now, it is before the first write, which fails as long as it cannot.

    Args:
        stores: The stores.
        timeout: `STORAGE_TIMEOUT`.
        clock: Where versions come from.

    Returns:
        What to call when the bot ends.
    """
    async with AsyncExitStack() as stack:
        for one in _beside(stores, timeout, clock):
            stack.push_async_callback(one.close)
            try:
                await one.settle()
            except StoreError as error:
                _log.warning(
                    "whether others read through a cache could not be found out; what it may hold is not written "
                    "before it is: %s",
                    error,
                )
        return stack.pop_all().aclose
