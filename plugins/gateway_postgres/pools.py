"""The connections that read: a bounded pool of read-only transactions, each for one tenant.

Not asyncpg's pool, because that one waits for a reset of the connection whenever it is released, which costs a
round trip and undoes nothing here: all that a transaction sets ends with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from uuid import UUID

from gateway.errors import (
    GatewayError,
    InvalidRecordError,
    StoreBusyError,
    StoreError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from gateway_postgres.connections import Connection, Connector, join, retire, spoiled
from gateway_postgres.errors import DRIVER_ERRORS, lost_connection, translate, translated
from gateway_postgres.profiles import PoolSize

__all__ = ["Readers"]

P = ParamSpec("P")
T = TypeVar("T")

_LINGER: Final = 30.0
"""Seconds that a connection beyond those kept stays open for the next burst."""

_CLOSE_SECONDS: Final = 3.0
"""How long a close lets what is under way come to its end."""


class Readers:
    """Reading connections.

    Args:
        connector: Opens them.
        size: How many are kept, and how many there may be.
        timeout: Seconds to wait for a free one.
    """

    def __init__(self, connector: Connector, size: PoolSize, timeout: float) -> None:
        self._connector = connector
        self._size = size
        self._timeout = timeout
        self._idle: deque[tuple[Connection, float]] = deque()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open = 0
        self._connecting = 0
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return (
            f"<Readers {self._connector.instance} open={self._open}/{self._size.total} "
            f"idle={len(self._idle)} waiting={len(self._waiting)}{state}>"
        )

    def facts(self) -> dict[str, int]:
        """Return how many connections there may be, are open, are idle, and how many callers wait for one."""
        return {
            "pool_total": self._size.total,
            "pool_open": self._open,
            "pool_idle": len(self._idle),
            "pool_waiting": len(self._waiting),
        }

    @asynccontextmanager
    async def transaction(self, tenant: str | None) -> AsyncIterator[Connection]:
        """Give a connection inside a read-only transaction that sees the rows of one tenant; with None, of nobody.

        The caller does not wait for the end of the transaction; the next user of the connection does.

        Raises:
            InvalidRecordError: The tenant is no UUID.
            StoreBusyError: All connections were in use for too long.
            StoreError: The server cannot be reached, or what it answered.
        """
        begin = _begin(tenant)
        with translated(self._connector.instance, user=self._connector.address.user):
            connection = await self._begun(begin)
            try:
                yield connection
            except BaseException as error:
                self._connector.learn(error)
                if spoiled(connection, error):
                    self._spawn(self._throw_away(connection))
                else:
                    self._spawn(self._finish(connection, "ROLLBACK"))
                raise
            self._spawn(self._finish(connection, "COMMIT"))

    async def run(
        self, function: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what `await function(connection, *args)` returns: one read that is a statement of its own.

        It has the connection to itself, in no transaction. On one that turns out to be dead it is tried again on
        another: a read changes nothing.

        Raises:
            StoreBusyError: All connections were in use for too long.
            StoreError: The server cannot be reached, or what it answered.
        """
        while True:
            try:
                connection, kept = await self._take()
                try:
                    answer = await function(connection, *args, **kwargs)
                except BaseException as error:
                    self._connector.learn(error)
                    if connection.is_in_transaction() or spoiled(connection, error):
                        self._spawn(self._throw_away(connection))
                        if kept and lost_connection(error):
                            continue
                    else:
                        self._give_back(connection)
                    raise
            except DRIVER_ERRORS as error:
                instance, user = self._connector.instance, self._connector.address.user
                raise translate(error, instance, user=user) from error
            self._give_back(connection)
            return answer

    async def _begun(self, begin: str) -> Connection:
        """Take a connection and begin; one that turns out to be dead is replaced, since nothing was asked of it yet."""
        while True:
            connection, kept = await self._take()
            try:
                await connection.execute(begin)
            except BaseException as error:
                self._spawn(self._throw_away(connection))
                if not (kept and lost_connection(error)):
                    raise
            else:
                return connection

    async def _take(self) -> tuple[Connection, bool]:
        """Return a connection, and whether it was there already: idle, or just left by somebody else."""
        self._refuse_if_closed()
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection, True
            self._open -= 1
        if self._open < self._size.total:
            return await self._connect(), False
        given = await self._wait()
        if given is not None:
            return given, True
        return await self._connect(counted=True), False

    async def _connect(self, *, counted: bool = False) -> Connection:
        """Open one more connection; `counted` if its place was taken for it already.

        In a task of its own: what a caller who gives up has begun is of use to the next one, and asyncpg does not
        like to be cancelled while it connects.
        """
        if not counted:
            self._open += 1
        opening = self._spawn(self._open_one())
        try:
            connection = await join(opening, self._connector.instance)
        except asyncio.CancelledError:
            opening.add_done_callback(self._adopt)
            raise
        if self._closed:
            self._spawn(self._throw_away(connection))
            self._refuse_if_closed()
        return connection

    async def _open_one(self) -> Connection:
        self._connecting += 1
        try:
            return await self._connector.connect()
        except BaseException:
            self._leave_place()
            raise
        finally:
            self._connecting -= 1

    def _adopt(self, opening: asyncio.Task[Connection]) -> None:
        """Take over a connection whose caller has left."""
        if not opening.cancelled() and opening.exception() is None:
            self._give_back(opening.result())

    async def _wait(self) -> Connection | None:
        """Wait in line for a connection, or for the place of one that is gone (None)."""
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._timeout):
                return await turn
        except BaseException as error:
            self._give_up(turn)
            if isinstance(error, TimeoutError):
                raise self._too_late() from None
            raise

    def _too_late(self) -> StoreError:
        """Return why nobody got a connection in time."""
        instance = self._connector.instance
        if self._connecting >= self._open:
            return StoreTimeoutError(
                f"the server did not let anybody in for {self._timeout} s; nothing was asked of it",
                backend=instance,
            )
        return StoreBusyError(
            f"all {self._size.total} reading connections were in use for {self._timeout} s; look for slow "
            "queries, or raise STORAGE_POSTGRES_POOL_SIZE or STORAGE_POSTGRES_MAX_OVERFLOW",
            backend=instance,
        )

    def _give_up(self, turn: asyncio.Future[Connection | None]) -> None:
        """Leave the line; what was handed over in the same moment goes to the next."""
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif turn.done() and not turn.cancelled() and turn.exception() is None:
            given = turn.result()
            if given is None:
                self._leave_place()
            else:
                self._give_back(given)

    def _give_back(self, connection: Connection) -> None:
        """Hand a clean connection to whoever waits longest, or keep it."""
        if connection.is_closed():
            self._leave_place()
        elif self._closed:
            self._spawn(self._throw_away(connection))
        elif (turn := self._next()) is not None:
            turn.set_result(connection)
        elif not self._size.kept:
            self._spawn(self._throw_away(connection))
        else:
            self._idle.append((connection, asyncio.get_running_loop().time()))
            self._reap_later()

    def _leave_place(self) -> None:
        """Count a connection as gone, or let the next in line open one in its place."""
        if not self._closed and (turn := self._next()) is not None:
            turn.set_result(None)
        else:
            self._open -= 1

    def _next(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                return turn
        return None

    def _reap_later(self) -> None:
        if self._open > self._size.kept and self._reaper is None:
            self._reaper = asyncio.get_running_loop().call_later(_LINGER, self._reap)

    def _reap(self) -> None:
        """Close what is beyond the number kept and was idle for long; the longest idle are on the left."""
        self._reaper = None
        ripe = asyncio.get_running_loop().time() - _LINGER
        excess = self._open - self._size.kept
        while self._idle and excess > 0 and self._idle[0][1] <= ripe:
            connection, _ = self._idle.popleft()
            excess -= 1
            self._spawn(self._throw_away(connection))
        if self._idle:
            self._reap_later()

    async def _finish(self, connection: Connection, statement: str) -> None:
        """End a transaction behind the caller's back, and give the connection to the next."""
        try:
            with translated(self._connector.instance):
                await connection.execute(statement)
        except (GatewayError, asyncio.CancelledError):
            # Nothing was written. If it cannot even end its transaction, the connection is not worth keeping.
            await self._throw_away(connection)
            return
        self._give_back(connection)

    async def _throw_away(self, connection: Connection) -> None:
        try:
            await retire(connection)
        finally:
            self._leave_place()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something that no caller waits for, or that outlives its caller."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreUnavailableError(
                "the store is closed; open it again before using it", backend=self._connector.instance
            )

    async def close(self) -> None:
        """Close the idle connections, and each of the others when its transaction ends. Again does nothing."""
        if not self._closed:
            self._closed = True
            if self._reaper is not None:
                self._reaper.cancel()
            while self._waiting:
                turn = self._waiting.popleft()
                if not turn.done():
                    turn.set_exception(
                        StoreUnavailableError("the store was closed", backend=self._connector.instance)
                    )
            while self._idle:
                self._spawn(self._throw_away(self._idle.popleft()[0]))
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._settle()
        except TimeoutError:
            # The server is stuck: it does not answer a COMMIT, or does not let anybody in.
            for task in set(self._tasks):
                task.cancel()
            await self._settle()

    async def _settle(self) -> None:
        """Wait for what no caller waits for."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))


def _begin(tenant: str | None) -> str:
    """Return what begins a transaction of a tenant, in one round trip.

    The simple protocol takes several statements but no parameters, so the tenant stands in the text: in the
    canonical form of a UUID, which holds nothing but hexadecimal digits and dashes.
    """
    if tenant is None:
        return "BEGIN READ ONLY"
    try:
        canonical = UUID(tenant)
    except ValueError:
        raise InvalidRecordError(f"a tenant is a UUID, and {tenant[:80]!r} is none") from None
    return f"BEGIN READ ONLY; SELECT set_config('app.tenant_id', '{canonical}', true)"
