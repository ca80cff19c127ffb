"""Connections to read with: a pool of asyncpg's over the PostgreSQL protocol.

Statements run outside of transactions, which QuestDB is not at home with. A connection that was lost is replaced, and
what it was asked is asked once more: reading twice changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from gateway.errors import StoreUnavailableError
from gateway_questdb.address import Address
from gateway_questdb.errors import DRIVER_ERRORS, lost, translate
from gateway_questdb.settings import QuestDbSettings
from gateway_questdb.statements import Statement

__all__ = ["Readers"]

_CLOSING: Final = 5.0
"""Seconds that closing waits for queries that are under way."""
_STALE: Final = ("cached query plan", "cannot be used because table", "table does not exist [table=")


class Readers:
    """A pool of connections, opened as they are needed.

    Args:
        address: Where, and as whom.
        settings: How many, and how long a query may take.
        instance: Instance name, for errors.
    """

    def __init__(self, address: Address, settings: QuestDbSettings, instance: str) -> None:
        self._address = address
        self._settings = settings
        self._instance = instance
        self._pool: Any = None
        self._opening = asyncio.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Readers {self._address}{' closed' if self._closed else ''}>"

    async def fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Return the rows of a statement.

        Raises:
            StoreError: The server could not answer.
        """
        try:
            try:
                return await self._fetch(statement)
            except DRIVER_ERRORS as error:
                if self._closed or not _worth_another(error):
                    raise
                await self._forget()
                return await self._fetch(statement)
        except DRIVER_ERRORS as error:
            if self._closed:
                raise self._gone() from error
            raise translate(error, self._instance) from error

    async def _fetch(self, statement: Statement) -> Sequence[Sequence[Any]]:
        pool = await self._opened()
        async with pool.acquire() as connection:
            rows: list[Sequence[Any]] = await connection.fetch(statement.text, *statement.parameters)
            return rows

    async def _opened(self) -> Any:
        if self._closed:
            raise self._gone()
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        **self._address.asyncpg_arguments(),
                        min_size=0,
                        max_size=self._settings.readers,
                        timeout=self._settings.connect_timeout,
                        command_timeout=self._settings.command_timeout,
                        reset=_nothing,
                    )
        return self._pool

    async def _forget(self) -> None:
        """Replace all connections: a server that came back knows none of them."""
        if self._pool is not None:
            await self._pool.expire_connections()

    def _gone(self) -> StoreUnavailableError:
        return StoreUnavailableError("the store is closed; open the gateway again", backend=self._instance)

    async def close(self) -> None:
        """Close all connections; what does not end by itself is cut off."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is None:
            return
        with contextlib.suppress(TimeoutError, *DRIVER_ERRORS):
            async with asyncio.timeout(_CLOSING):
                await pool.close()
        pool.terminate()


async def _nothing(connection: Any) -> None:
    """Reset nothing: no statement of this plugin leaves anything behind on a connection."""


def _worth_another(error: BaseException) -> bool:
    """Tell whether a fresh connection can help: the old one was lost, or knew a table as it was before."""
    return (lost(error) and not isinstance(error, TimeoutError)) or any(text in str(error) for text in _STALE)
