"""Connections to one store: how they are opened, what happens to those that fail, and the one that writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeAlias, TypeVar

import asyncpg

from gateway.errors import StoreUnavailableError
from gateway_postgres.address import Address
from gateway_postgres.errors import sqlstate_of, translated
from gateway_postgres.settings import PostgresSettings

__all__ = ["TIME_OFFSET", "Connection", "Connector", "Writer", "retire", "spoiled"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
P = ParamSpec("P")
T = TypeVar("T")

TIME_OFFSET: Final = 946_684_800_000_000
"""Microseconds from 1970, where the gateway counts from, to 2000, where PostgreSQL does."""

_RETIRE_SECONDS: Final = 2.0
"""How long a connection whose command was broken off may take to end it and say goodbye."""

_PAUSE_FIRST: Final = 0.05
_PAUSE_LONGEST: Final = 1.0
"""Seconds between two attempts at a server that does not answer, at first and at most, before jitter."""

_NO_STATEMENT: Final = frozenset({"26000", "42P05"})
"""What a server says when prepared statements are lost or met twice: there is a pooler after all."""


class Connector:
    """Opens the connections of one store, all alike.

    While the server does not answer, attempts are spaced out: each failure makes everybody wait longer before the
    next one, with jitter, so that a fleet does not fall upon a server that has just come back.

    Args:
        address: Where, and as whom.
        settings: Timeouts, and the statement cache.
        instance: Name of the store, for errors and for the server's list of connections.
        pooled: Whether a pooler in transaction mode stands in front: then no connection keeps anything.
        read_only: Whether the server is to refuse writes on these connections.
    """

    def __init__(
        self,
        address: Address,
        settings: PostgresSettings,
        instance: str,
        *,
        pooled: bool = True,
        read_only: bool = False,
    ) -> None:
        self.address = address
        self.instance = instance
        self.pooled = pooled
        self._settings = settings
        self._read_only = read_only
        self._failures = 0
        self._not_before = 0.0

    def __repr__(self) -> str:
        return f"<Connector {self.instance} {self.address}{' pooled' if self.pooled else ''}>"

    async def connect(self) -> Connection:
        """Open a connection that gives times as microseconds since 1970.

        Raises:
            StoreError: The server cannot be reached, or refuses.
            ConfigurationError: The settings cannot work.
        """
        await self._pause()
        try:
            connection = await self._open()
        except StoreUnavailableError:
            self._failures += 1
            longest = min(_PAUSE_LONGEST, _PAUSE_FIRST * 2.0 ** min(self._failures, 10))
            # Not for secrets: it spreads the attempts of a fleet.
            self._not_before = asyncio.get_running_loop().time() + longest * random.uniform(0.5, 1.0)  # noqa: S311
            raise
        self._failures = 0
        return connection

    async def _pause(self) -> None:
        if self._failures:
            wait = self._not_before - asyncio.get_running_loop().time()
            if wait > 0:
                await asyncio.sleep(wait)

    async def _open(self) -> Connection:
        settings, address = self._settings, self.address
        arguments: dict[str, Any] = {
            **address.asyncpg_arguments(),
            "timeout": settings.connect_timeout,
            "command_timeout": settings.command_timeout,
            # A statement prepared on one server connection is not there on the next one that a pooler gives.
            "statement_cache_size": 0 if self.pooled else settings.statement_cache_size,
            "server_settings": self._server_settings(),
            "target_session_attrs": address.target or self._target(),
        }
        with translated(self.instance, user=address.user):
            connection: Connection = await asyncpg.connect(**arguments)
            try:
                await connection.set_type_codec(
                    "timestamptz",
                    schema="pg_catalog",
                    format="tuple",
                    encoder=lambda micros: (micros - TIME_OFFSET,),
                    decoder=lambda held: held[0] + TIME_OFFSET,
                )
            except BaseException:
                connection.terminate()
                raise
        return connection

    def _server_settings(self) -> dict[str, str]:
        """Return what the server is told at the start: of a pooler no more than its own name is asked."""
        told = {"application_name": self.address.application or f"storage-gateway {self.instance}"}
        if self._read_only and not self.pooled:
            told["default_transaction_read_only"] = "on"
        return told

    def _target(self) -> str:
        """Return which of several servers will do: for writing, the one that takes writes."""
        return "any" if self._read_only or len(self.address.hosts) == 1 else "read-write"

    def learn(self, error: BaseException) -> None:
        """Take note of an error that only a pooler causes: from here on, connections prepare nothing."""
        if sqlstate_of(error) in _NO_STATEMENT:
            self.pooled = True


class Writer:
    """The one connection that writes, for one caller at a time.

    It is opened when first needed and again after it was lost. A call that fails or is cancelled never leaves it in
    an unknown state: unless the server itself answered and no transaction is open, it is replaced.

    Args:
        connector: Opens it.
        keep: Whether it stays open when nobody is waiting for it.
    """

    def __init__(self, connector: Connector, *, keep: bool = True) -> None:
        self._connector = connector
        self._keep = keep
        self._lock = asyncio.Lock()
        self._callers = 0
        self._connection: Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "idle" if self._connection is None else "open"
        return f"<Writer {self._connector.instance} {state} callers={self._callers}>"

    async def run(
        self, function: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what `await function(connection, *args)` returns, with the connection to itself.

        Raises:
            StoreError: What the server answered, translated, or `StoreUnavailableError` if this is closed.
        """
        self._callers += 1
        try:
            async with self._lock:
                return await self._run(function, *args, **kwargs)
        finally:
            self._callers -= 1

    async def _run(
        self, function: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        connection = await self._ready()
        try:
            with translated(self._connector.instance, user=self._connector.address.user, writing=True):
                answer = await function(connection, *args, **kwargs)
        except BaseException as error:
            self._connector.learn(error.__cause__ or error)
            if connection.is_in_transaction() or spoiled(connection, error.__cause__ or error):
                self._drop()
            raise
        if not self._keep and self._callers == 1:
            self._drop()
        return answer

    async def _ready(self) -> Connection:
        if self._closed:
            raise StoreUnavailableError(
                "the store is closed; open it again before using it", backend=self._connector.instance
            )
        if self._connection is None or self._connection.is_closed():
            # In a task of its own: a caller that gives up leaves it to the next one, who needs it just as much, and
            # asyncpg does not like to be cancelled while it connects.
            if self._opening is None or self._opening.done():
                self._opening = asyncio.create_task(self._open())
            await asyncio.shield(self._opening)
        assert self._connection is not None, "it was opened just now"  # noqa: S101 - for the type checker
        return self._connection

    async def _open(self) -> None:
        if self._retiring is not None:
            # So that there is never more than one, and the server is done with what was broken off.
            await self._retiring
        self._connection = await self._connector.connect()

    def _drop(self) -> None:
        if self._connection is not None:
            self._retiring = asyncio.create_task(retire(self._connection))
            self._connection = None

    async def close(self) -> None:
        """Let a running call finish, for a moment, and close. Calling it again does nothing."""
        self._closed = True
        try:
            async with asyncio.timeout(_RETIRE_SECONDS), self._lock:
                pass
        except TimeoutError:
            # Whoever holds it is stuck; the server rolls back what it did when the connection is gone.
            pass
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        self._drop()
        if self._retiring is not None:
            await self._retiring


def spoiled(connection: Connection, error: BaseException) -> bool:
    """Tell whether a connection cannot be used again after an error: it is gone, or nobody knows what it is doing."""
    if connection.is_closed() or not isinstance(error, Exception):
        return True
    if isinstance(error, (OSError, asyncpg.InternalClientError)):
        return True
    # An InterfaceError that is a ValueError is about an argument, before anything was sent.
    return isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)


async def retire(connection: Connection) -> None:
    """Close a connection, whatever it is doing: the server is told to stop, and has a moment for it."""
    try:
        async with asyncio.timeout(_RETIRE_SECONDS):
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        # It is being thrown away; that it cannot say goodbye changes nothing.
        pass
    finally:
        connection.terminate()
