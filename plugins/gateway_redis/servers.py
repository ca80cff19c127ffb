"""The servers of an address: one, the master that sentinels name, or the masters of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from gateway.errors import CacheError, CacheMovedError
from gateway_redis.address import Address, Place
from gateway_redis.connecting import connect, described
from gateway_redis.errors import DRIVER_ERRORS
from gateway_redis.identity import Identity, incarnation_of
from gateway_redis.link import Link
from gateway_redis.node import Node
from gateway_redis.scripts import Call

__all__ = ["Master", "Servers", "find_master"]

LIFE: Final = "life"
ENTRIES: Final = 64
"""Entries of one script at most: nobody else is served while it runs."""

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

    async def run(self, incarnation: str, call: Call, probation: int) -> list[Any]:
        """Run a script, for its entries in their order, and return an answer or a `CacheError` for each of them.

        Args:
            incarnation: Which servers are meant.
            call: What to run.
            probation: Milliseconds.

        Raises:
            CacheMovedError: Other servers answer; nothing was done.
            CacheError: None can be reached, or the connection was lost meanwhile.
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
        self._patience = timeout
        self._life_key = f"{prefix}:{LIFE}"
        self._space = address.space_of(prefix)
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

    async def run(self, incarnation: str, call: Call, probation: int) -> list[Any]:
        """Run a script; see `Servers.run`."""
        node = self._node
        link = await node.link()
        identity = node.identity
        if identity is None or self._incarnation(identity) != incarnation:
            raise CacheMovedError(f"{node.where}: another server answers than the one that was meant")
        # The mark protects entries that are trusted at once; those on probation need none.
        life = identity.life if probation <= 0 else ""
        count = len(call.keys)
        parts = [slice(first, min(first + ENTRIES, count)) for first in range(0, count, ENTRIES)]
        found: list[Any] = []
        commands = [call.command(life, probation, self._life_key, part) for part in parts]
        for part, answer in zip(parts, await node.run(link, commands), strict=True):
            if isinstance(answer, Exception):
                found += [node.failed(answer)] * (part.stop - part.start)
            else:
                found += answer
        return found

    def facts(self) -> dict[str, Any]:
        """Return facts for people."""
        return {"server": self._node.where or str(self._address), "connects": self._node.connects}

    async def close(self) -> None:
        """Release everything."""
        await self._node.close()

    def _incarnation(self, identity: Identity) -> str:
        if identity is not self._known:
            self._known, self._named = identity, incarnation_of((identity,), self._space)
        return self._named

    async def _connect(self) -> tuple[Link, str]:
        address = self._address
        self._place = place = (
            await find_master(address, self._timeout) if address.service else address.places[0]
        )
        return await connect(address, place, self._patience), described(place)


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
