"""Connections that read beside the writer. WAL lets each see every commit acknowledged before it began."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from gateway_sqlite.connection import StoreConnection

__all__ = ["Readers"]

P = ParamSpec("P")
T = TypeVar("T")


class Readers:
    """Hands each read to the connection with the fewest waiting.

    Args:
        connections: Open connections; closed with the pool.
    """

    __slots__ = ("_connections", "_waiting")

    def __init__(self, connections: Sequence[StoreConnection]) -> None:
        self._connections = tuple(connections)
        self._waiting = [0] * len(self._connections)

    def __repr__(self) -> str:
        return f"<Readers {len(self._connections)} waiting={self._waiting}>"

    async def run(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function on the thread of one of the connections; see `StoreConnection.run`."""
        waiting = self._waiting
        chosen = waiting.index(min(waiting))
        waiting[chosen] += 1
        try:
            return await self._connections[chosen].run(function, *args, **kwargs)
        finally:
            waiting[chosen] -= 1

    async def close(self) -> None:
        """Close every connection, each after what it is running."""
        await asyncio.gather(*(connection.close() for connection in self._connections))
