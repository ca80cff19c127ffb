"""Lines over HTTP: connections that are kept, each used by one thread at a time.

The same requests as those of the official client, for lines that were written here. A server that ended a kept
connection is asked once more by a fresh one: a repeated row is one row.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import ssl
import threading

from gateway.errors import StoreUnavailableError
from gateway_questdb.address import Address
from gateway_questdb.errors import refused

__all__ = ["Posts", "headers_of", "tls_context"]

_ENDED = (
    http.client.RemoteDisconnected,
    http.client.CannotSendRequest,
    BrokenPipeError,
    ConnectionResetError,
)


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
        backend: Instance name, for errors.
    """

    def __init__(self, address: Address, seconds: float, backend: str) -> None:
        self._address = address
        self._seconds = seconds
        self._backend = backend
        self._context = tls_context(address)
        self._headers = {"Content-Type": "text/plain", **headers_of(address)}
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Posts {self._address} idle={len(self._idle)}>"

    def post(self, body: bytes) -> None:
        """Store the lines of one table in one transaction. Blocks.

        Raises:
            StoreError: The server refuses them; nothing was stored.
            OSError: The server cannot be reached, or went away.
        """
        connection = self._take()
        if connection is not None:
            try:
                self._exchange(connection, body)
            except _ENDED:
                connection.close()
            else:
                return
        self._exchange(self._connect(), body)

    def _exchange(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        try:
            connection.request("POST", "/write?precision=u", body, self._headers)
            answer = connection.getresponse()
            said = answer.read()
        except http.client.HTTPException as error:
            connection.close()
            if isinstance(error, _ENDED):
                raise
            raise StoreUnavailableError(
                "the server's answer over HTTP was cut off; repeating the write is safe",
                backend=self._backend,
            ) from error
        except BaseException:
            connection.close()
            raise
        if answer.status not in {200, 204}:
            connection.close()
            raise refused(answer.status, said, self._backend)
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _take(self) -> http.client.HTTPConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._context is not None:
            return http.client.HTTPSConnection(host, port, timeout=self._seconds, context=self._context)
        return http.client.HTTPConnection(host, port, timeout=self._seconds)

    def close(self) -> None:
        """Close the connections that nobody uses; the others are closed when their request has ended."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(OSError):
                connection.close()
