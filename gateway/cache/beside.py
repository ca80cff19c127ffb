"""What a process does about the caches of others when it writes a store without one itself."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gateway.backend import WriteBatch
from gateway.cache.affected import may_touch
from gateway.cache.keeper import Keeper, Pace, never
from gateway.dispatch import Store
from gateway.errors import SchemaError, StoreError
from gateway.records.kind import KindSpec
from gateway.records.version import HybridClock

__all__ = ["Beside"]

_log: Final = logging.getLogger(__name__)


class Beside:
    """Sees to it that nobody reads from a cache what this process changes in the store behind it.

    Where the store has a row about a cache, it keeps that closed, and makes sure of it before each write: this process
    may have been stopped for so long that others believed it to be gone. Where there is none, it steps aside for good.
    As long as the row cannot be read, writes fail with what the store says: others may well be able to read theirs.

    Args:
        store: The store; its writes go through this object from now on.
        pace: How fast the row is looked at.
        clock: Where versions come from.
    """

    def __init__(self, store: Store, pace: Pace, clock: HybridClock) -> None:
        self._store = store
        self._keeper = Keeper([store], None, pace, clock)
        self._found = False
        self._turn = asyncio.Lock()
        store.gate = self

    def __repr__(self) -> str:
        return f"<Beside {self._keeper}>"

    async def settle(self) -> bool:
        """Find out whether the store has a cache, and close it; tell whether it has.

        Raises:
            StoreError: That could not be found out, or the cache could not be closed.
        """
        async with self._turn:
            if self._found or self._store.gate is not self:
                return self._found
            (home,) = self._keeper.authorities
            try:
                await home.look()
            except SchemaError:
                return False  # without tables there is no row; the write says what is to be done
            if home.describe() is None:
                self._store.gate = None
                return False
            await self._keeper.keep_closed()
            self._found = True
        level = logging.WARNING if self._keeper.closed_some else logging.DEBUG
        _log.log(
            level,
            "a cache was used in front of %s, and this process uses none; it keeps the cache closed for everybody. "
            "Name it in STORAGE_BACKENDS here too, or take it out everywhere and run `gateway cache clear --forget`",
            self._store.name,
        )
        return True

    async def before_write(self, batch: WriteBatch) -> None:
        """Return once a batch may be written without the cache.

        Raises:
            StoreError: Whether others use a cache could not be found out, or it could not be closed.
        """
        if may_touch(batch.steps):
            await self._closed()

    async def before_purge(self, kind: KindSpec) -> None:
        """Return once rows of a kind may be removed; see `before_write`."""
        if kind.cacheable:
            await self._closed()

    async def _closed(self) -> None:
        try:
            if self._found or await self.settle():
                (home,) = self._keeper.authorities
                await self._keeper.before_write(home, never, "rows are being written beside the cache")
        except StoreError as error:
            error.add_note(
                "nothing was written: whether others read this store through a cache could not be found out"
            )
            raise

    async def close(self) -> None:
        """Let others open the cache again. What is written from now on, nobody looks after."""
        if self._store.gate is self:
            self._store.gate = None
        await self._keeper.aclose()
