"""From the configuration to an opened cache."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from gateway.backend import Capability
from gateway.cache.front import CacheFront
from gateway.cache.keeper import Keeper, pace_for
from gateway.cache.terms import CacheOptions
from gateway.config import Configuration, open_context
from gateway.dispatch import Store
from gateway.errors import ConfigurationError, GatewayError
from gateway.records.kind import KindSpec
from gateway.records.version import HybridClock
from gateway.telemetry import Counters

__all__ = ["beside_caches", "keep_closed", "keeping_stores", "no_cache", "open_front"]

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
    return CacheFront(cache.instance, opened, keeper, configuration.cached, options, counters)


async def keep_closed(
    stores: Sequence[Store], timeout: float, clock: HybridClock, counters: Counters | None = None
) -> Keeper | None:
    """Keep the caches in front of some stores closed, because this process is going to write beside them.

    Args:
        stores: The stores.
        timeout: `STORAGE_TIMEOUT`.
        clock: Where versions come from.
        counters: The gateway's.

    Returns:
        What keeps them closed until it is closed itself; None if no store ever had a cache.

    Raises:
        StoreError: A cache could not be closed.
    """
    keeper = Keeper(keeping_stores(stores), None, pace_for(_PERMIT, timeout), clock, counters)
    had = []
    for home in keeper.authorities:
        try:
            await home.look()
        except GatewayError as error:  # such as a schema that is yet to be made; the first write will say so
            _log.debug("%s: whether it has a cache could not be found out: %s", home.store.name, error)
        else:
            had += [home.store.name] if home.describe() is not None else []
    if not had:
        return None
    keeper = Keeper([store for store in stores if store.name in had], None, keeper.pace, clock, counters)
    await keeper.keep_closed()
    return keeper


@asynccontextmanager
async def beside_caches(stores: Sequence[Store], timeout: float) -> AsyncIterator[None]:
    """Keep the caches in front of some stores closed while the context lasts; see `keep_closed`.

    Raises:
        StoreError: A cache could not be closed.
    """
    keeper = await keep_closed(stores, timeout, HybridClock())
    try:
        yield
    finally:
        if keeper is not None:
            await keeper.aclose()


async def no_cache(
    stores: Sequence[Store], timeout: float, clock: HybridClock
) -> Callable[[], Awaitable[None]]:
    """Make sure that nobody reads stale rows because a bot without a cache writes stores that others have one for.

    Args:
        stores: The stores.
        timeout: `STORAGE_TIMEOUT`.
        clock: Where versions come from.

    Returns:
        What to call when the bot ends.

    Raises:
        StoreError: Others use a cache, and it could not be closed.
    """
    keeper = await keep_closed(stores, timeout, clock)
    if keeper is None:
        return _nothing
    level = logging.WARNING if keeper.closed_some else logging.DEBUG
    _log.log(
        level,
        "a cache was used in front of %s, and STORAGE_BACKENDS of this process names none; it keeps the cache closed "
        "for everybody. Name the cache here too, or take it out everywhere and run `gateway cache clear --forget`",
        ", ".join(home.store.name for home in keeper.authorities),
    )
    return keeper.aclose


async def _nothing() -> None:
    """Do nothing."""
