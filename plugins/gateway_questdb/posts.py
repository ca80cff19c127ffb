"""Lines over HTTP: a few connections that are kept, each with one request at a time.

The same requests as those of the official client, for lines that were written here. They are sent from the event loop
itself: handing a request to a thread and back takes as long as the server takes for it. A request that the server
could not take is sent again for a while, since a repeated row is one row.
"""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
from typing import Final

from gateway.errors import StoreUnavailableError
from gateway_questdb.address import Address
from gateway_questdb.errors import DRIVER_ERRORS, refused, translate
from gateway_questdb.exchange import CutOffError, Exchange

__all__ = ["Posts", "headers_of", "tls_context"]

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0
_CLOSING: Final = 1.0
"""Seconds that a connection may take to end in good order."""


def tls_context(address: Address) -> ssl.SSLContext | None:
    """Return how HTTP is encrypted; None if it is not."""
    if not address.tls:
        return None
    context = ssl.create_default_context(cafile=address.ca)
    if not address.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def headers_of(address: Address) -> dict[str, str]:
    """Return the headers that say who connects; they hold the password."""
    if address.token is not None:
        return {"Authorization": f"Bearer {address.token}"}
    if address.named:
        pair = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {}


class Posts:
    """Connections to send lines by.

    Args:
        address: Where, and as whom.
        seconds: How long one request may take.
        retry: Seconds for which a request is repeated that the server could not take.
        count: How many requests may be under way at once.
        backend: Instance name, for errors.
    """

    def __init__(self, address: Address, seconds: float, retry: float, count: int, backend: str) -> None:
        self._address = address
        self._seconds = seconds
        self._retry = retry
        self._backend = backend
        self._context = tls_context(address)
        named = {"Host": str(address), "Content-Type": "text/plain", **headers_of(address)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self._head = f"POST /write?precision=u HTTP/1.1\r\n{lines}Content-Length: ".encode()
        self._open: set[Exchange] = set()
        self._idle: list[Exchange] = []
        self._free = asyncio.Semaphore(count)
        self._closed = False

    def __repr__(self) -> str:
        return f"<Posts {self._address} idle={len(self._idle)}{' closed' if self._closed else ''}>"

    async def post(self, body: bytes) -> None:
        """Store the lines of one table in one transaction.

        Raises:
            StoreError: Nothing of it counts as stored.
        """
        deadline, pause = asyncio.get_running_loop().time() + self._retry, _FIRST_PAUSE
        while True:
            try:
                async with self._free:
                    return await self._once(body)
            except StoreUnavailableError:
                wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret; so that many do not come at once
                if asyncio.get_running_loop().time() + wait >= deadline:
                    raise
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _once(self, body: bytes) -> None:
        """Send one request; raises what the server's answer, or its absence, means."""
        request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        try:
            async with asyncio.timeout(self._seconds):
                status, said = await self._exchanged(request)
        except CutOffError as error:
            raise StoreUnavailableError(
                "the server ended the connection before its answer was complete; repeating the write is safe",
                backend=self._backend,
            ) from error
        except DRIVER_ERRORS as error:
            raise translate(error, self._backend) from error
        if status not in {200, 204}:
            raise refused(status, said, self._backend)

    async def _exchanged(self, request: bytes) -> tuple[int, bytes]:
        kept = self._take()
        if kept is not None:
            try:
                return await self._over(kept, request)
            except CutOffError as error:
                if error.begun:
                    raise
                # The server ended a kept connection meanwhile; a fresh one tells whether it is there.
        return await self._over(await self._connect(), request)

    async def _over(self, exchange: Exchange, request: bytes) -> tuple[int, bytes]:
        try:
            answer = await exchange.ask(request)
        except BaseException:
            exchange.abort()
            raise
        if exchange.reusable and answer[0] in {200, 204} and not self._closed:
            self._idle.append(exchange)
        else:
            exchange.close()
        return answer

    def _take(self) -> Exchange | None:
        while self._idle:
            exchange = self._idle.pop()
            if exchange.reusable:
                return exchange
            exchange.close()
        return None

    async def _connect(self) -> Exchange:
        if self._closed:
            raise StoreUnavailableError("the store is closed; open the gateway again", backend=self._backend)
        _, exchange = await asyncio.get_running_loop().create_connection(
            Exchange, self._address.host, self._address.port, ssl=self._context
        )
        self._open.add(exchange)
        exchange.ended.add_done_callback(lambda _: self._open.discard(exchange))
        return exchange

    async def close(self) -> None:
        """Close all connections; nothing may be under way."""
        self._closed = True
        left = list(self._open)
        for exchange in left:
            exchange.close()
        if left:
            _, hanging = await asyncio.wait([exchange.ended for exchange in left], timeout=_CLOSING)
            for exchange in left:
                if exchange.ended in hanging:
                    exchange.abort()  # an end to encryption that the server does not answer
            await asyncio.gather(*hanging)
