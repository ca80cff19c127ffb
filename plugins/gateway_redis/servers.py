"""The servers of an address: one, the master that sentinels name, or the masters of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from gateway.errors import CacheError, CacheMovedError
from gateway_redis.address import Address, Place
from gateway_redis.connecting import connect, described
from gateway_redis.errors import DRIVER_ERRORS
from gateway_redis.identity import Identity, incarnation_of
from gateway_redis.node import Node
from gateway_redis.scripts import Call

__all__ = ["Master", "Servers", "find_master"]

LIFE: Final = "life"

SENTINEL_PERIOD: Final = 1.0
"""Seconds between two questions to the sentinels while the master they named answers."""


class Servers(Protocol):
    """Where scripts run."""

    async def identities(self) -> Sequence[Identity]:
        """Ask every server who it is.

        Raises:
            CacheError: One cannot be reached.
        """
        ...

    async def run(self, incarnation: str, calls: Sequence[Call], probation: int) -> list[Any]:
        """Run scripts, those for one entry in their order, and return an answer or a `CacheError` for each.

        Args:
            incarnation: Which servers are meant.
            calls: What to run.
            probation: Milliseconds.

        Raises:
            CacheMovedError: Other servers answer; nothing was done.
            CacheError: None can be reached; nothing was done.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """Return facts for people, without asking anybody."""
        ...

    async def close(self) -> None:
        """Release everything. Calling it again does nothing."""
        ...


class Master:
    """One server that has all entries.

    Args:
        address: Where it is, or where the sentinels are that know.
        prefix: How keys begin.
        connect_timeout: Seconds that connecting may take.
        timeout: Seconds within which the server must answer.
    """

    def __init__(self, address: Address, prefix: str, connect_timeout: float, timeout: float) -> None:
        self._address = address
        self._timeout = connect_timeout
        self._life_key = f"{prefix}:{LIFE}"
        self._node = Node(self._connect, self._life_key, connect_timeout, timeout)
        self._place: Place | None = None
        self._asked_at = 0.0
        self._known: Identity | None = None
        self._named = ""

    def __repr__(self) -> str:
        return f"<Master {self._address}, {self._node}>"

    async def identities(self) -> Sequence[Identity]:
        """Ask the server who it is, and the sentinels whether it is still the one."""
        now = asyncio.get_running_loop().time()
        if (
            self._address.service
            and self._node.identity is not None
            and now - self._asked_at >= SENTINEL_PERIOD
        ):
            self._asked_at = now
            await self._ask_sentinels()
        return (await self._node.refresh(),)

    async def _ask_sentinels(self) -> None:
        try:
            place = await find_master(self._address, self._timeout)
        except CacheError:
            return  # they are away; the server may well be there
        if place != self._place:
            self._node.drop("the sentinels name another master")

    async def run(self, incarnation: str, calls: Sequence[Call], probation: int) -> list[Any]:
        """Run scripts; see `Servers.run`."""
        link = await self._node.link()
        identity = self._node.identity
        if identity is None or self._incarnation(identity) != incarnation:
            raise CacheMovedError(f"{self._node.where}: another server answers than the one that was meant")
        # The mark protects entries that are trusted at once; those on probation need none.
        keys = (identity.life, 0) if probation <= 0 else ("", probation)
        names = (self._life_key,) if probation <= 0 else ()
        answers = await self._node.run(
            link,
            [
                ("EVALSHA", script.digest, 1 + len(names), key, *names, *keys, *arguments)
                for script, key, arguments in calls
            ],
        )
        return [self._node.failed(answer) if isinstance(answer, Exception) else answer for answer in answers]

    def facts(self) -> dict[str, Any]:
        """Return facts for people."""
        return {"server": self._node.where or str(self._address), "connects": self._node.connects}

    async def close(self) -> None:
        """Release everything."""
        await self._node.close()

    def _incarnation(self, identity: Identity) -> str:
        if identity is not self._known:
            self._known, self._named = identity, incarnation_of((identity,))
        return self._named

    async def _connect(self) -> tuple[AbstractConnection, str]:
        address = self._address
        self._place = place = (
            await find_master(address, self._timeout) if address.service else address.places[0]
        )
        return await connect(address, place, self._timeout), described(place)


async def find_master(address: Address, timeout: float) -> Place:
    """Ask the sentinels which server is the master.

    Raises:
        CacheError: None of them answers, or none knows a master by that name.
    """
    tls = {} if address.tls is None else {"ssl": True, **address.tls.arguments()}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py's own is not annotated
        list(address.places),
        sentinel_kwargs={
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "username": address.sentinel.user if address.sentinel.password else None,
            "password": address.sentinel.password,
            "retry": Retry(NoBackoff(), 0),
            **tls,
        },
    )
    try:
        host, port = await sentinel.discover_master(address.service)
    except DRIVER_ERRORS as error:
        raise CacheError(
            f"{address}: the sentinels name no master ({type(error).__name__}); check that they run, and that the "
            "service is called so"
        ) from error
    finally:
        await asyncio.shield(sentinel.aclose())
    return str(host), int(port)
