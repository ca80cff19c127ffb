"""The plugin: declares the Redis cache and opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.backend import BackendSpec, OpenContext
from gateway.errors import ConfigurationError
from gateway.hookspecs import hookimpl
from gateway_redis.settings import RedisSettings

if TYPE_CHECKING:
    from gateway.cache.contract import Cache

__all__ = ["SPEC", "gateway_backends", "open_cache"]


async def open_cache(context: OpenContext) -> Cache:
    """Open a cache. Nobody is connected to yet: a server that is away must not keep a bot from starting.

    Raises:
        ConfigurationError: The settings cannot be used.
    """
    from gateway_redis.cache import RedisCache

    settings = context.settings
    if not isinstance(settings, RedisSettings):
        raise ConfigurationError(f"{context.instance}: these are not the settings of a Redis cache")
    return RedisCache(settings)


SPEC: Final = BackendSpec(
    name="redis",
    summary="a Redis or Valkey server, a cluster or a master with sentinels: a cache in front of the stores",
    open_cache=open_cache,
    settings=RedisSettings,
    store_of_record=False,
    url_schemes=("redis", "rediss"),
)


@hookimpl
def gateway_backends() -> tuple[BackendSpec, ...]:
    """Bring the cache."""
    return (SPEC,)
