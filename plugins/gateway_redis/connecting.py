"""How a connection is opened: with the login and the protection that the address asks for."""

from __future__ import annotations

import asyncio

from gateway.keepalive import keep_alive
from gateway_redis.address import Address, Place
from gateway_redis.link import Link, Words, good

__all__ = ["connect", "described"]


async def connect(address: Address, place: Place, timeout: float) -> Link:
    """Open a connection to a server of an address, and log in.

    Args:
        address: As whom, and how protected.
        place: Which server.
        timeout: Seconds within which the server must answer. How long connecting may take is the caller's to bound.

    Raises:
        RedisError: The login is refused, or there is no such database.
        OSError: It cannot be reached, or TLS failed.
        CacheError: The connection was lost meanwhile.
    """
    link = Link(described(place), timeout)
    loop = asyncio.get_running_loop()
    host, port = place
    if not port:
        await loop.create_unix_connection(lambda: link, host)
    elif address.tls is None:
        transport, _ = await loop.create_connection(lambda: link, host, port)
        _keep_alive(transport)
    else:
        # The name is what the certificate must be for; where it need not be, it still tells which one is asked for.
        transport, _ = await loop.create_connection(
            lambda: link, host, port, ssl=address.tls.context(), server_hostname=host
        )
        _keep_alive(transport)
    try:
        good(await link.ask(*_login(address)))
    except BaseException:
        await link.close()
        raise
    return link


def described(place: Place) -> str:
    """Return a place as people read it."""
    host, port = place
    return f"{host}:{port}" if port else host


def _login(address: Address) -> list[Words]:
    """Return what is said first."""
    login = address.login
    commands: list[Words] = []
    if login.password is not None:
        commands.append(("AUTH", login.user or "default", login.password))
    if address.database:
        commands.append(("SELECT", address.database))
    return commands or [("PING",)]


def _keep_alive(transport: asyncio.BaseTransport) -> None:
    held = transport.get_extra_info("socket")
    if held is not None:
        keep_alive(held)
