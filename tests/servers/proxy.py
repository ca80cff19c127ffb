"""A proxy that stands before a server and does to its connections what networks do.

It runs in a thread of its own, so that it goes on while a test's event loop is busy. Every method may be called from
any thread, and has happened when it returns.

    with FaultProxy(server.host, server.port) as proxy:
        proxy.cut_answer(b"EVALSHA")
        ...
        proxy.wait_for_catch()
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers.ports import LOOPBACK, free_port

__all__ = ["FaultProxy"]

CHUNK: Final = 65_536
PATIENCE: Final = 20.0


@dataclass
class _Trap:
    """What happens to the next request that contains a text.

    Attributes:
        text: What to look for in one piece of data from the client.
        keep: Bytes that still go through, counted from the text's start in a request, from its first byte in an answer.
        answer: Whether the answer is cut, after the request has gone through whole.
        hold: Whether the request is kept until `release`, instead of being cut.
    """

    text: bytes
    keep: int
    answer: bool = False
    hold: bool = False


class _Pair:
    """A client's connection and the one to the server behind it."""

    def __init__(self, writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.client, self.server = writers
        self.cut_answer: int | None = None

    def close(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class FaultProxy:
    """A proxy to one server.

    Args:
        host: Where the server is.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = LOOPBACK, free_port()
        self.connections = 0
        """How many were accepted so far."""
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._pairs: set[_Pair] = set()
        self._traps: list[_Trap] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._delay = 0.0
        self._silent = False
        self._refusing = False
        self._caught = threading.Event()
        self._open_gate = asyncio.Event()

    def __repr__(self) -> str:
        return f"<FaultProxy {self.host}:{self.port} to {self._target}, {len(self._pairs)} connections>"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def url_of(self, url: str) -> str:
        """Return the same URL through the proxy."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(
            parts._replace(netloc=f"{login}@{self.host}:{self.port}" if login else f"{self.host}:{self.port}")
        )

    # What a test does ---------------------------------------------------------------------------------------

    def delay(self, seconds: float) -> None:
        """Let every piece of data wait, in both directions."""
        self._do(lambda: setattr(self, "_delay", seconds))

    def cut_request(self, text: bytes, keep: int = 0) -> None:
        """Cut the connection within the next request that contains a text: the server sees `keep` bytes of it."""
        self._trap(_Trap(text, keep))

    def cut_answer(self, text: bytes, keep: int = 0) -> None:
        """Let the next request that contains a text through, and cut the connection within what comes back."""
        self._trap(_Trap(text, keep, answer=True))

    def hold_request(self, text: bytes) -> None:
        """Keep the next request that contains a text, and what follows it on its connection, until `release`."""
        self._trap(_Trap(text, 0, hold=True))

    def release(self) -> None:
        """Let through what is kept."""
        self._do(self._open_gate.set)

    def wait_for_catch(self) -> None:
        """Wait until the request that was asked for last has come by and was dealt with."""
        if not self._caught.wait(PATIENCE):
            raise AssertionError("no request with that text came by")

    def silence(self) -> None:
        """Swallow everything, as a network that is down does: connections stay, and nothing gets through."""
        self._do(lambda: setattr(self, "_silent", True))

    def half_open(self) -> None:
        """Cut the server's side of all connections; the clients are not told, and hear nothing any more."""
        self._do(self._abandon)

    def refuse(self) -> None:
        """Cut all connections, and every new one."""
        self._do(self._refuse)

    def heal(self) -> None:
        """Let everything through again; connections that went silent are cut, since what they lost cannot come."""
        self._do(self._heal)

    # How ----------------------------------------------------------------------------------------------------

    def _do(self, what: Callable[[], object]) -> None:
        done = threading.Event()

        def run() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(run)
        if not done.wait(PATIENCE):
            raise AssertionError("the proxy hangs")

    def _trap(self, trap: _Trap) -> None:
        def put() -> None:
            self._caught.clear()
            self._open_gate.clear()
            self._traps.append(trap)

        self._do(put)

    def _abandon(self) -> None:
        self._silent = True
        for pair in self._pairs:
            pair.server.transport.abort()

    def _refuse(self) -> None:
        self._refusing = True
        self._cut_all()

    def _heal(self) -> None:
        if self._silent:
            self._cut_all()
        self._silent = self._refusing = False
        self._delay = 0.0
        self._traps.clear()
        self._open_gate.set()

    def _cut_all(self) -> None:
        for pair in list(self._pairs):
            pair.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        self._cut_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets in the loop's next round

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair((writer, server_writer))
        self._pairs.add(pair)
        pumps = [
            asyncio.ensure_future(self._up(reader, pair)),
            asyncio.ensure_future(self._down(server_reader, pair)),
        ]
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            self._pairs.discard(pair)
            pair.close()

    async def _up(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        while data := await reader.read(CHUNK):
            await self._wait()
            trap = next((one for one in self._traps if one.text in data), None)
            if trap is not None:
                self._traps.remove(trap)
                if not await self._sprung(trap, data, pair):
                    return
            elif not self._silent:
                pair.server.write(data)
                await pair.server.drain()
        pair.close()

    async def _sprung(self, trap: _Trap, data: bytes, pair: _Pair) -> bool:
        """Do what a trap is for; return whether the connection goes on."""
        if trap.hold:
            self._caught.set()
            await self._open_gate.wait()
            pair.server.write(data)
        elif trap.answer:
            pair.cut_answer = trap.keep
            pair.server.write(data)
        else:
            pair.server.write(data[: data.index(trap.text) + trap.keep])
            with contextlib.suppress(OSError):
                await pair.server.drain()
            # Closed, not aborted: what was let through must arrive.
            pair.server.close()
            pair.client.transport.abort()
            self._caught.set()
            return False
        await pair.server.drain()
        return True

    async def _down(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        while data := await reader.read(CHUNK):
            await self._wait()
            if self._silent:
                continue
            if pair.cut_answer is None:
                pair.client.write(data)
                await pair.client.drain()
                continue
            pair.client.write(data[: pair.cut_answer])
            pair.client.close()
            pair.server.transport.abort()
            self._caught.set()
            return
        if not self._silent:
            pair.close()

    async def _wait(self) -> None:
        if self._delay:
            await asyncio.sleep(self._delay)
