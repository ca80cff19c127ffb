"""Connections to one store: how they are opened, what happens to those that fail, and the one that writes."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeAlias, TypeVar

import asyncpg

from gateway.errors import StoreBusyError, StoreUnavailableError
from gateway.keepalive import keep_alive
from gateway_postgres.address import Address
from gateway_postgres.errors import DRIVER_ERRORS, lost_connection, sqlstate_of, translated
from gateway_postgres.settings import PostgresSettings

__all__ = ["TIME_OFFSET", "Connection", "Connector", "Writer", "join", "retire", "spoiled"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
P = ParamSpec("P")
T = TypeVar("T")

TIME_OFFSET: Final = 946_684_800_000_000
"""Microseconds from 1970, where the gateway counts from, to 2000, where PostgreSQL does."""

_RETIRE_SECONDS: Final = 2.0
"""How long a connection whose command was broken off may take to end it and say goodbye."""

_EARLY: Final = 0.25
"""Share of a call's time within which a statement counts as begun at once."""

_PAUSE_FIRST: Final = 0.05
_PAUSE_LONGEST: Final = 1.0
"""Seconds between two attempts at a server that does not answer, at first and at most, before jitter."""

_NO_STATEMENT: Final = frozenset({"26000", "42P05"})
"""What a server says when prepared statements are lost or met twice: there is a pooler after all."""

_ANEW: Final = _NO_STATEMENT | {"25006"}
"""States after which a connection is opened anew: one that keeps statements behind a pooler never gets well, and one
to a server that takes no more writes may find the server that does, after a failover."""


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
        self._served: dict[str, Any] | None = None

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
        except (StoreUnavailableError, StoreBusyError):
            # Busy is a server without a connection left, which each further attempt makes worse.
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
            # Of a pooler no more is asked than to pass on its own name.
            "server_settings": {
                "application_name": address.application or f"storage-gateway {self.instance}"
            },
        }
        with translated(self.instance, user=address.user):
            connection = await self._first(arguments)
            try:
                _keep_alive(connection)
                await connection.set_type_codec(
                    "timestamptz",
                    schema="pg_catalog",
                    format="tuple",
                    encoder=lambda micros: (micros - TIME_OFFSET,),
                    decoder=lambda held: held[0] + TIME_OFFSET,
                )
                if self._read_only and not self.pooled:
                    # Not at the start, where it would make every server one that takes no writes.
                    await connection.execute("SET default_transaction_read_only = on")
            except BaseException:
                connection.terminate()
                raise
        return connection

    async def _first(self, arguments: dict[str, Any]) -> Connection:
        """Connect to the first server that will do.

        Not by asyncpg's own search: there one that does not answer uses up the time of all that come after it.
        """
        attempts = self.address.attempts(writes=not self._read_only)
        if all(
            attempt["target_session_attrs"] == attempts[0]["target_session_attrs"] for attempt in attempts
        ):
            # Whoever served last comes first, so that a dead one costs its timeout once and not each time.
            attempts.sort(key=lambda attempt: attempt != self._served)
        for attempt in attempts:
            try:
                connection: Connection = await asyncpg.connect(**arguments, **attempt)
            except DRIVER_ERRORS as error:
                passing = lost_connection(error) or isinstance(
                    error, (TimeoutError, asyncpg.CannotConnectNowError)
                )
                if attempt is attempts[-1] or not passing:
                    raise
            else:
                self._served = attempt
                return connection
        raise AssertionError("there is at least one server")

    def learn(self, error: BaseException) -> None:
        """Take note of an error that only a pooler causes: from here on, connections prepare nothing."""
        if sqlstate_of(error) in _NO_STATEMENT:
            self.pooled = True


class Writer:
    """The one connection that writes, for one caller at a time.

    It is opened when first needed and again after it was lost. A call that fails or is cancelled never leaves it in
    an unknown state: unless the server itself answered and no transaction is open, it is replaced.

    What a caller gave up must not take effect much later: a cache in front of the store relies on it. The server is
    told to cancel, but that may not get through; so it has to give up by itself too, as soon as the caller does.

    Args:
        connector: Opens it.
        keep: Whether it stays open when nobody is waiting for it.
        patience: Seconds after which a call is given up; None lets it take its time.
        bounded: Whether the server gives up by itself behind a pooler too, where no connection can be told to.
    """

    def __init__(
        self, connector: Connector, *, keep: bool = True, patience: float | None = None, bounded: bool = True
    ) -> None:
        self._connector = connector
        self._keep = keep
        self._patience = patience
        self._bounded = bounded
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
            bad = connection.is_in_transaction() or spoiled(connection, error.__cause__ or error)
            if bad or not self._wanted():
                self._drop()
            raise
        if not self._wanted():
            self._drop()
        return answer

    def _wanted(self) -> bool:
        """Tell whether the connection stays open after a call."""
        return self._keep or self._callers > 1

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
            await join(self._opening, self._connector.instance)
        assert self._connection is not None, "it was opened just now"  # noqa: S101 - for the type checker
        return self._connection

    async def _open(self) -> None:
        if self._retiring is not None:
            # So that there is never more than one, and the server is done with what was broken off.
            await self._retiring
        connection = await self._connector.connect()
        if self._patience is not None and not self._connector.pooled:
            try:
                with translated(self._connector.instance, user=self._connector.address.user):
                    await connection.execute(f"SET statement_timeout = {max(1, int(self._patience * 1000))}")
            except BaseException:
                connection.terminate()
                raise
        self._connection = connection

    def alone(self, asked: float) -> bool:
        """Tell whether a statement without a transaction around it ends in time by itself.

        One in a transaction does so anyway: without a COMMIT, which nobody sends who has given up, nothing happens.

        Args:
            asked: When the call began, by the loop's clock.
        """
        if self._patience is None:
            return True
        if self._connector.pooled and not self._bounded:
            return False
        return asyncio.get_running_loop().time() - asked <= _EARLY * self._patience

    def _drop(self) -> None:
        if self._connection is not None:
            seconds = _RETIRE_SECONDS if self._patience is None else min(_RETIRE_SECONDS, self._patience / 16)
            self._retiring = asyncio.create_task(retire(self._connection, seconds))
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


def _discard(connection: Connection) -> None:
    """Have the system throw away what it could not send yet, instead of sending it once the network is back."""
    held = _socket_of(connection)
    if held is not None and held.fileno() >= 0:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _socket_of(connection: Connection) -> Any:
    """Return the socket beneath a connection, as asyncio shows it; None if there is none of TCP."""
    # There is no public way to it; should it have another name one day, connections are as they were before.
    transport: asyncio.Transport | None = getattr(connection, "_transport", None)
    held = None if transport is None else transport.get_extra_info("socket")
    return held if held is not None and held.family in {socket.AF_INET, socket.AF_INET6} else None


def _keep_alive(connection: Connection) -> None:
    """Let the system probe a connection that is idle, as the driver does not."""
    held = _socket_of(connection)
    if held is not None:
        keep_alive(held)


def spoiled(connection: Connection, error: BaseException) -> bool:
    """Tell whether a connection cannot be used again after an error: it is gone, or nobody knows what it is doing."""
    if connection.is_closed() or not isinstance(error, Exception):
        return True
    if isinstance(error, (OSError, asyncpg.InternalClientError)) or sqlstate_of(error) in _ANEW:
        return True
    # An InterfaceError that is a ValueError is about an argument, before anything was sent.
    return isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)


async def join(opening: asyncio.Task[T], instance: str) -> T:
    """Return what a task gives that opens a connection; a caller that gives up leaves it running for the next one.

    Raises:
        StoreUnavailableError: The store was closed meanwhile. The caller is not cancelled then, only the task is.
    """
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if opening.cancelled() and caller is not None and not caller.cancelling():
            raise StoreUnavailableError("the store was closed", backend=instance) from None
        raise


async def retire(connection: Connection, seconds: float = _RETIRE_SECONDS) -> None:
    """Close a connection, whatever it is doing: the server is told to stop, and has a moment for it.

    Args:
        connection: It.
        seconds: How long that may take. What has not reached the server by then never will.
    """
    try:
        async with asyncio.timeout(seconds):
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        # It is being thrown away; that it cannot say goodbye changes nothing.
        pass
    finally:
        _discard(connection)
        connection.terminate()
