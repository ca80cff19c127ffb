"""One SQLite connection on its own thread: aiosqlite's, with a whole function as the unit of work."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar, cast

import aiosqlite

from gateway.errors import StoreError, StoreUnavailableError
from gateway.sql.dialect import DECIMAL_COLLATION
from gateway_sqlite.errors import translate

__all__ = ["StoreConnection", "connect"]

P = ParamSpec("P")
T = TypeVar("T")

_STATEMENTS: Final = 512
"""Prepared statements kept a connection; the driver's default of 128 is less than many kinds need."""


class StoreConnection(aiosqlite.Connection):
    """An aiosqlite connection that runs a function on its thread in one hop.

    aiosqlite's public methods take one hop to the thread and back for each statement, BEGIN and COMMIT among
    them, and a hop costs more than the statement. `run` hands over the whole unit of work instead, through
    the method that all public ones go through, `_execute`. It is protected, so the version is pinned and a
    test fails if it changes.

    Cancelling the caller does not stop the function: it runs to its end on the thread, so no transaction is
    ever left open or half done.

    Args:
        connector: Makes the driver's connection; called on the thread.
        backend: Instance name, for errors.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection], backend: str) -> None:
        super().__init__(connector, iter_chunk_size=64)
        # A bot that forgets to close must still be able to exit. What was acknowledged is committed already.
        self._thread.daemon = True
        self._backend = backend
        self._closing = False

    def __repr__(self) -> str:
        state = "closing" if self._closing else "closed" if self._connection is None else "open"
        return f"<StoreConnection {self._backend} {state}>"

    @classmethod
    async def open(cls, connector: Callable[[], sqlite3.Connection], backend: str) -> StoreConnection:
        """Start the thread and connect on it.

        Raises:
            StoreError: What the connector raised, translated.
        """
        connection = cls(connector, backend)
        try:
            await connection
        except sqlite3.Error as error:
            raise translate(error, backend) from error
        except StoreError as error:
            error.backend = error.backend or backend
            raise
        return connection

    async def run(
        self, function: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function(connection, *args)` on the thread and return its result.

        Raises:
            StoreError: What SQLite answered, translated; `StoreUnavailableError` if the connection is closed.
        """
        connection = self._connection
        if connection is None or self._closing:
            raise StoreUnavailableError(
                "the store is closed; open it again before using it", backend=self._backend
            )
        try:
            # aiosqlite annotates the method only in part.
            return cast("T", await self._execute(function, connection, *args, **kwargs))  # type: ignore[no-untyped-call]
        except sqlite3.Error as error:
            raise translate(error, self._backend) from error
        except StoreError as error:
            error.backend = error.backend or self._backend
            raise

    async def close(self) -> None:
        """Wait for what is running and close. Calling it again does nothing."""
        if self._closing:
            return
        self._closing = True
        await super().close()


def connect(path: Path, mode: str, busy_timeout: float) -> sqlite3.Connection:
    """Open a file with the driver's own transactions switched off.

    Args:
        path: Absolute path; any characters.
        mode: `ro`, `rw` or `rwc`, as in SQLite's URIs.
        busy_timeout: Seconds to wait for other processes.

    Raises:
        sqlite3.Error: The file cannot be opened.
    """
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        # Made on the thread that uses it; interrupting and closing may come from another.
        check_same_thread=False,
        cached_statements=_STATEMENTS,
    )
    connection.create_collation(DECIMAL_COLLATION, _compare_decimals)
    return connection


def _compare_decimals(left: str, right: str) -> int:
    first, second = Decimal(left), Decimal(right)
    return (first > second) - (first < second)
