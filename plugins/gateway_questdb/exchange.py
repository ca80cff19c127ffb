"""One connection over HTTP/1.1 that sends a request and takes its answer, one after the other.

Only what answers to written lines can have is understood: a status, headers, and a body of a known length, in chunks,
or up to the end of the connection. An answer that is longer than errors are is none.
"""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["Answer", "CutOffError", "Exchange", "answer_in"]

MOST: Final = 65_536
"""Bytes of an answer at most."""

Answer = tuple[int, bytes]
"""Status and body."""

_EMPTY: Final = b"HTTP/1.1 204 "
_END: Final = b"\r\n\r\n"


class CutOffError(OSError):
    """The connection ended before the answer was complete.

    Attributes:
        begun: Whether some of the answer had come.
    """

    def __init__(self, *, begun: bool) -> None:
        super().__init__("the connection ended before the answer was complete")
        self.begun = begun


class Exchange(asyncio.Protocol):
    """A connection; made by the event loop's `create_connection`.

    Attributes:
        reusable: Whether another request can be sent.
        ended: Is done once the connection has ended.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._got = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reusable = True

    def __repr__(self) -> str:
        state = "busy" if self._waiting else "idle" if self.reusable else "ended"
        return f"<Exchange {state}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection; called by the event loop."""
        assert isinstance(transport, asyncio.Transport), "a stream has such a transport"  # noqa: S101 - for the type
        self._transport = transport

    async def ask(self, request: bytes) -> Answer:
        """Send a request and return the answer.

        Raises:
            CutOffError: The connection ended first.
        """
        if self._transport is None or not self.reusable:
            raise CutOffError(begun=False)
        self._got = b""
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer; called by the event loop."""
        if self._waiting is None:
            self.reusable = False  # nobody asked
            return
        self._got = self._got + data if self._got else data
        try:
            found = answer_in(self._got)
        except ValueError:
            self.abort()
            return
        if found is not None:
            status, body, kept = found
            self.reusable = self.reusable and kept
            self._answer((status, body))
        elif len(self._got) > MOST:
            self.abort()

    def eof_received(self) -> None:
        """Note that the server sends no more; called by the event loop, which then closes the connection."""
        self.reusable = False
        found = answer_in(self._got, ended=True) if self._got else None
        if found is not None:
            self._answer(found[:2])

    def connection_lost(self, exc: Exception | None) -> None:
        """End; called by the event loop."""
        self.reusable = False
        if not self.ended.done():
            self.ended.set_result(None)
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            cut = CutOffError(begun=bool(self._got))
            cut.__cause__ = exc
            waiting.set_exception(cut)

    def _answer(self, answer: Answer) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def abort(self) -> None:
        """End the connection at once."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End the connection once everything is sent."""
        self.reusable = False
        if self._transport is not None:
            self._transport.close()


def answer_in(got: bytes, *, ended: bool = False) -> tuple[int, bytes, bool] | None:
    """Return the status, the body and whether the connection can be used again; None of half an answer. Pure.

    Args:
        got: All that has come of it.
        ended: Whether no more will come.

    Raises:
        ValueError: It is no answer of HTTP.
    """
    head, found, body = got.partition(_END)
    if not found:
        return None
    if head.startswith(_EMPTY):
        return 204, b"", b"connection: close" not in head.lower()
    first, *lines = head.split(b"\r\n")
    version, status, *_ = first.split(b" ", 2)
    if not version.startswith(b"HTTP/1."):
        raise ValueError("the answer is not HTTP/1")
    named = dict(_header(line) for line in lines)
    kept = version == b"HTTP/1.1" and named.get(b"connection", b"").lower() != b"close"
    whole = _body(named, body, ended=ended)
    return None if whole is None else (int(status), whole, kept)


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip()


def _body(named: dict[bytes, bytes], body: bytes, *, ended: bool) -> bytes | None:
    if named.get(b"transfer-encoding", b"").lower() == b"chunked":
        return _unchunked(body)
    if b"content-length" in named:
        length = int(named[b"content-length"])
        return body[:length] if len(body) >= length else None
    return body if ended else None


def _unchunked(body: bytes) -> bytes | None:
    """Return what chunks hold; None if the last one has not come."""
    found: list[bytes] = []
    while True:
        size, ended, body = body.partition(b"\r\n")
        if not ended:
            return None
        length = int(size.partition(b";")[0], 16)
        if length == 0:
            return b"".join(found) if body.startswith(b"\r\n") or _END in body else None
        if len(body) < length + 2:
            return None
        found.append(body[:length])
        body = body[length + 2 :]
