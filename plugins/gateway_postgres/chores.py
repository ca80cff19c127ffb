"""What a running bot does for its tables: partitions are made before their time comes."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.errors import GatewayError, StoreError
from gateway_postgres.connections import Connection, Connector, retire
from gateway_postgres.errors import translated

__all__ = ["Chores"]

_EVERY: Final = 24 * 3600.0
_AGAIN: Final = 3600.0
"""Seconds from one making of partitions to the next, and after one that failed."""

_CLOSE_SECONDS: Final = 2.0
_MAKE: Final = "SELECT name, outcome FROM gateway.make_partitions() WHERE outcome <> 'made'"


class Chores:
    """Makes partitions ahead when the store is opened, and once a day while it is written, beside all callers.

    A failure costs the bot nothing, as rows without a partition go to the default one. It is kept for the store's
    health. A connection of its own is used, since the function may wait for locks, and writers must not wait with it.

    Args:
        connector: Opens it.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None
        self.error: GatewayError | None = None
        """What the last attempt failed with."""

    def __repr__(self) -> str:
        return f"<Chores{' running' if self._task is not None and not self._task.done() else ''}>"

    def begin(self, connection: Connection | None = None) -> None:
        """Make partitions now, on a connection that is closed afterwards. Returns at once."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + _EVERY
        self._task = loop.create_task(self._run(connection))

    def remind(self) -> None:
        """Take note of a write: begin what is due. Returns at once."""
        if asyncio.get_running_loop().time() >= self._due and (self._task is None or self._task.done()):
            self.begin()

    async def finished(self) -> None:
        """Wait for what has begun."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self, connection: Connection | None) -> None:
        try:
            left = await self._make(connection or await self._connector.connect())
            self.error = StoreError(left, backend=self._connector.instance) if left else None
        except GatewayError as error:
            self.error = error
        if self.error is not None:
            self._due = asyncio.get_running_loop().time() + _AGAIN

    async def _make(self, connection: Connection) -> str:
        """Return what could not be made, as a sentence; empty if everything could."""
        try:
            with translated(self._connector.instance, user=self._connector.address.user):
                rows = await connection.fetch(_MAKE)
        finally:
            await retire(connection)
        return "; ".join(f"{row['name']}: {row['outcome']}" for row in rows)

    async def close(self) -> None:
        """Let it finish, for a moment, then stop it."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
