"""A cache that is open from the beginning, for tests of what comes after that: agreeing to open one takes a while.

That nobody reads before everybody agreed is tested where it belongs; everywhere else the row that says so is written
into a store that no bot has used yet.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from gateway import Gateway
from gateway.cache.authority import Authority
from gateway.cache.contract import Cache
from gateway.cache.keeper import fence_for
from gateway.cache.permit import Epoch, State
from gateway.records.version import HybridClock

__all__ = ["copied", "incarnation_of", "open_cache", "prepared_file"]


async def open_cache(gateway: Gateway, incarnation: str, *, timeout: float, permit: float) -> None:
    """Write into a gateway's first store that its cache is open.

    Args:
        gateway: One without a cache, on a store that no bot has used yet.
        incarnation: Which life of the cache's server.
        timeout: `STORAGE_TIMEOUT` of the bots to come.
        permit: Their `STORAGE_CACHE_PERMIT`.
    """
    store = next(iter(gateway.engine.stores.values()))
    home = Authority(store, permit, HybridClock(), time.monotonic)
    await home.look()
    assert home.known is not None
    epoch = Epoch(State.OPEN, secrets.token_hex(8), incarnation, permit, fence_for(timeout))
    assert await home.change(home.known, epoch, "a test begins with it")


async def incarnation_of(cache: Cache) -> str:
    """Return which life of its server a cache reaches, and close it."""
    try:
        return (await cache.contact()).incarnation
    finally:
        await cache.close()


def prepared_file(path: Path, incarnation: str, **settings: Any) -> Path:
    """Make a SQLite file whose cache is open, to be copied by tests.

    Args:
        path: A directory.
        incarnation: Which life of the cache's server.
        **settings: `timeout` and `cache_permit` of the bots to come.
    """

    async def make() -> None:
        async with Gateway("sqlite", data_dir=path, env_file=None, environ={}) as gateway:
            await open_cache(
                gateway, incarnation, timeout=settings["timeout"], permit=settings["cache_permit"]
            )

    asyncio.run(make())
    return path / "gateway.db"


def copied(file: Path, directory: Path) -> None:
    """Give a directory a copy of a prepared file."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, directory / "gateway.db")
