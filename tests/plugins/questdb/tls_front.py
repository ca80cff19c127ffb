"""TLS in front of a QuestDB, whose open source edition has none: what a proxy does in production.

It takes encrypted HTTP at one port, and at another the PostgreSQL protocol, whose clients first ask in the clear
whether they may encrypt.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from types import TracebackType
from typing import Final, Self

from tests.servers import QuestDbServer

__all__ = ["TlsFront"]

_ASK: Final = bytes.fromhex("0000000804d2162f")
"""How a client of PostgreSQL asks for TLS."""
_PATIENCE: Final = 20.0


class TlsFront:
    """A proxy with both ports; runs in a thread of its own.

    Args:
        server: The server behind it.
        context: Has the certificate.
    """

    def __init__(self, server: QuestDbServer, context: ssl.SSLContext) -> None:
        self._server = server
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls front", daemon=True)
        self._listeners: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = self.pg_port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    async def _listen(self) -> None:
        http = await asyncio.start_server(self._http, "127.0.0.1", 0, ssl=self._context)
        pg = await asyncio.start_server(self._pg, "127.0.0.1", 0)
        self._listeners = [http, pg]
        self.port, self.pg_port = (one.sockets[0].getsockname()[1] for one in self._listeners)

    async def _end(self) -> None:
        for listener in self._listeners:
            listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # transports end in later turns of the loop

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._join(reader, writer, self._server.port)

    async def _pg(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if await reader.readexactly(len(_ASK)) != _ASK:
                writer.close()  # not in the clear
                return
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(self._context)
            await self._join(reader, writer, self._server.pg_port)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        behind, onward = await asyncio.open_connection(self._server.host, port)
        try:
            await asyncio.gather(_copy(reader, onward), _copy(behind, writer))
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            for one in (writer, onward):
                one.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
