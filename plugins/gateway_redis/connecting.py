"""How a connection is opened: by redis-py, with the login and the protection that the address asks for."""

from __future__ import annotations

from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

from gateway_redis.address import Address, Place

__all__ = ["connect", "described"]


async def connect(address: Address, place: Place, timeout: float) -> AbstractConnection:
    """Open a connection to a server of an address.

    Args:
        address: As whom, and how protected.
        place: Which server.
        timeout: Seconds that the socket may take; the caller bounds the whole.

    Raises:
        RedisError: It cannot be opened, or the login is refused.
    """
    connection = _made(address, place, timeout)
    try:
        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's own is not annotated
    except BaseException:
        # The driver closes after its own errors, not when the caller's patience ends in the middle.
        await connection.disconnect(nowait=True)
        raise
    return connection


def described(place: Place) -> str:
    """Return a place as people read it."""
    host, port = place
    return f"{host}:{port}" if port else host


def _made(address: Address, place: Place, timeout: float) -> AbstractConnection:
    arguments: dict[str, Any] = {
        "db": address.database,
        "username": address.login.user if address.login.password else None,
        "password": address.login.password,
        "protocol": 3,
        # None: answers are awaited without a timer each; the link watches over all of them with one.
        "socket_timeout": None,
        "socket_connect_timeout": timeout,
    }
    host, port = place
    if not port:
        return UnixDomainSocketConnection(path=host, **arguments)
    arguments |= {"host": host, "port": port, "socket_keepalive": True}
    if address.tls is not None:
        return SSLConnection(**arguments, **address.tls.arguments())
    return Connection(**arguments)
