"""Coalesced reads by key: while one read of a kind runs, those that arrive meanwhile share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.dispatch import Store
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row

__all__ = ["KeyReader"]

MAX_KEYS = 500
"""Keys of one read, at most."""


class KeyReader:
    """Reads rows of one store by key.

    A lone read goes straight to the store. Under load many keys travel in one call.

    Args:
        store: The store to read.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._waiting: dict[tuple[KindSpec, str], list[tuple[Key, asyncio.Future[Row | None]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, kind: KindSpec, tenant: str, key: Key) -> Row | None:
        """Return the row of a key, tombstones included; None if there never was one.

        Raises:
            StoreError: The store could not answer.
        """
        topic = (kind, tenant)
        waiting = self._waiting.get(topic)
        if waiting is not None:
            future: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()
            waiting.append((key, future))
            return await future
        self._waiting[topic] = []
        try:
            return (await self.store.get(kind, tenant, (key,)))[0]
        finally:
            self._next(topic)

    def _next(self, topic: tuple[KindSpec, str]) -> None:
        """Start reading what queued up meanwhile, apart from the caller that was first."""
        if not self._waiting[topic]:
            del self._waiting[topic]
            return
        task = asyncio.get_running_loop().create_task(self._drain(topic))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self, topic: tuple[KindSpec, str]) -> None:
        while self._waiting[topic]:
            queued = self._waiting[topic]
            batch, self._waiting[topic] = queued[:MAX_KEYS], queued[MAX_KEYS:]
            await self._read(topic, batch)
        del self._waiting[topic]

    async def _read(
        self, topic: tuple[KindSpec, str], batch: Sequence[tuple[Key, asyncio.Future[Row | None]]]
    ) -> None:
        kind, tenant = topic
        keys = list(dict.fromkeys(key for key, _ in batch))
        try:
            found = dict(zip(keys, await self.store.get(kind, tenant, keys), strict=True))
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
            return
        for key, future in batch:
            if not future.done():
                future.set_result(found[key])

    async def close(self) -> None:
        """Wait for the reads under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
