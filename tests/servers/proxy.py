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
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers.ports import LOOPBACK, free_port

__all__ = ["FaultProxy"]

CHUNK: Final = 65_536
PATIENCE: Final = 20.0
TICK: Final = 0.05
"""Seconds between two pieces of a connection that is slowed down."""
UNHEARD: Final = 4
"""Connections that fill the queue of a socket which accepts none."""


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

    def reset(self) -> None:
        for writer in (self.client, self.server):
            own = writer.get_extra_info("socket")
            if own is not None:
                # Closing it then says RST and not FIN, whatever was read.
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


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
        self._rate: int | None = None
        self._silent = False
        self._refusing = False
        self._flapping: asyncio.Task[None] | None = None
        self._unheard: list[socket.socket] = []
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

    def vanish(self) -> None:
        """Swallow everything, and answer no attempt to connect either, as a host that is cut off does."""
        self._run(self._vanish())

    def refuse(self) -> None:
        """Cut all connections, and every new one."""
        self._do(self._refuse)

    def reset(self) -> None:
        """Reset all connections that there are (RST); new ones get through."""
        self._do(self._reset_all)

    def flap(self, up: float, down: float) -> None:
        """Let everything through for some seconds, then reset and refuse everything for some, and so on."""
        self._do(lambda: self._flap(up, down))

    def throttle(self, rate: int) -> None:
        """Let so many bytes a second through each way of each connection; with 0, none are even read."""
        self._do(lambda: setattr(self, "_rate", rate))

    def heal(self) -> None:
        """Let everything through again; connections that went silent are cut, since what they lost cannot come."""
        self._run(self._heal())

    # How ----------------------------------------------------------------------------------------------------

    def _do(self, what: Callable[[], object]) -> None:
        done = threading.Event()

        def run() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(run)
        if not done.wait(PATIENCE):
            raise AssertionError("the proxy hangs")

    def _run(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE)

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

    def _flap(self, up: float, down: float) -> None:
        async def flap() -> None:
            while True:
                self._refusing = False
                await asyncio.sleep(up)
                self._refusing = True
                self._reset_all()
                await asyncio.sleep(down)

        self._flapping = self._loop.create_task(flap())

    async def _vanish(self) -> None:
        """Listen without accepting, and fill the queue: the kernel then answers nobody who connects."""
        self._silent = True
        assert self._server is not None
        self._server.close()
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind((self.host, self.port))
        deaf.listen(0)
        self._unheard.append(deaf)
        for _ in range(UNHEARD):
            own = socket.socket()
            own.setblocking(False)
            own.connect_ex((self.host, self.port))
            self._unheard.append(own)

    async def _heal(self) -> None:
        if self._flapping is not None:
            self._flapping.cancel()
            self._flapping = None
        if self._silent:
            self._cut_all()
        self._silent = self._refusing = False
        self._delay, self._rate = 0.0, None
        self._traps.clear()
        self._open_gate.set()
        if self._unheard:
            self._forget_unheard()
            await self._listen()

    def _forget_unheard(self) -> None:
        while self._unheard:
            self._unheard.pop().close()

    def _cut_all(self) -> None:
        for pair in list(self._pairs):
            pair.close()

    def _reset_all(self) -> None:
        for pair in list(self._pairs):
            pair.reset()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._flapping is not None:
            self._flapping.cancel()
        self._forget_unheard()
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
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        pair = _Pair((writer, server_writer))
        self._pairs.add(pair)
        pumps = [
            asyncio.ensure_future(self._up(reader, pair)),
            asyncio.ensure_future(self._down(server_reader, pair)),
        ]
        try:
            with contextlib.suppress(
                OSError, asyncio.CancelledError
            ):  # only `_end` cancels, and waits for it
                await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            self._pairs.discard(pair)
            pair.close()

    async def _up(self, reader: asyncio.StreamReader, pair: _Pair) -> None:
        while data := await self._read(reader):
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
        while data := await self._read(reader):
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

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """Read as fast as is wanted at the moment."""
        await self._flows()
        # Whoever waits here already when a connection is slowed down has asked for much, and pays for it afterwards.
        data = await reader.read(max(1, int(self._rate * TICK)) if self._rate else CHUNK)
        if self._rate:
            await asyncio.sleep(len(data) / self._rate)
        await self._flows()
        if self._delay:
            await asyncio.sleep(self._delay)
        return data

    async def _flows(self) -> None:
        while self._rate == 0:  # noqa: ASYNC110 - an event for each rate is more than this is worth
            await asyncio.sleep(TICK)
