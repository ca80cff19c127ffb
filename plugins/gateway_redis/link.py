"""One connection that all callers share: what is asked within a moment goes out in one piece, answers come in order.

A pool gives each caller a connection for a round trip, and then waits where there are more callers than connections.
Here nobody waits for anybody, and a server that has many bots has one connection of each. The connection is a protocol
of the event loop, without streams and tasks in between: a question goes out in the step of the caller who asks, and an
answer wakes that caller and nobody else.

A caller who gives up leaves the place of his answer in the order; when the answer comes, it is dropped. So no caller
can be given another one's answer. A server that has not answered the oldest question for longer than the timeout is
taken for gone, and the connection with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from hiredis import HiredisError, Reader, pack_command
from redis.exceptions import ConnectionError as DriverConnectionError
from redis.exceptions import RedisError

from gateway.errors import CacheError
from gateway_redis.errors import answered, translate

__all__ = ["Answers", "Link", "Words", "good"]

Words = tuple[str | bytes | int, ...]
"""A command and its arguments."""

Answers = list[Any]
"""One for each command of a call: bytes, numbers, lists, or the driver's exception for what the server refused."""

_BOUND: Final = 10_000
"""Calls without an answer, beyond which new ones are refused."""

_BYTES: Final = 32 * 2**20
"""Bytes that the server has not taken yet, beyond which new calls are refused: memory is bounded."""

_TICKS: Final = 4
"""Looks at the oldest question during one timeout. They are counted rather than timed, so that a loop that was busy for
long does not take answers that it has not read yet for missing."""


class _Call:
    """Questions of one caller, and what was answered to them so far."""

    __slots__ = ("answers", "future", "left", "looks")

    def __init__(self, future: asyncio.Future[Answers], left: int, looks: int) -> None:
        self.future = future
        self.left = left
        self.looks = looks
        self.answers: Answers = []


class Link(asyncio.Protocol):
    """A connection that is open until it fails or is closed; a new one is made then, by its owner.

    The event loop makes the connection and hands it over; nothing may be asked before.

    Args:
        where: Which server, for errors.
        timeout: Seconds within which the server must have answered.
    """

    def __init__(self, where: str, timeout: float) -> None:
        self._where = where
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(replyError=answered)
        self._unsent: list[bytes] = []
        self._calls: deque[_Call] = deque()
        self._looks = 0
        self._watch: asyncio.TimerHandle | None = None
        self._failure: CacheError | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()

    def __repr__(self) -> str:
        state = "closed" if self._failure else "open"
        return f"<Link to {self._where}, {state}, {len(self._calls)} unanswered>"

    @property
    def open(self) -> bool:
        """Whether it can still be used."""
        return self._failure is None

    def ask(self, *commands: Words) -> asyncio.Future[Answers]:
        """Send commands, with none of anybody else's between them, and return the future of their answers.

        What a server refuses is an answer too: redis-py's exception for it, not raised.

        Raises:
            CacheError: The connection is gone, or the server is too slow for what waits already.
        """
        transport = self._transport
        if self._failure is not None or transport is None:
            raise CacheError(str(self._failure or f"{self._where}: not connected yet")) from self._failure
        if len(self._calls) >= _BOUND or transport.get_write_buffer_size() > _BYTES:
            raise CacheError(
                f"{self._where}: {len(self._calls)} calls wait for an answer; the server is too slow for so many"
            )
        future: asyncio.Future[Answers] = self._loop.create_future()
        data = [pack_command(words) for words in commands]  # type: ignore[arg-type]  # annotated too narrowly
        if self._calls:
            # Somebody's answer is awaited anyway; whoever else asks within this turn of the loop goes along.
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent += data
        else:
            transport.write(b"".join(data) if len(data) > 1 else data[0])
        self._calls.append(_Call(future, len(commands), self._looks))
        if self._watch is None:
            self._arm()
        return future

    def _flush(self) -> None:
        data, self._unsent = b"".join(self._unsent), []
        if self._failure is None and self._transport is not None:
            self._transport.write(data)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Give each answer to the one who asked."""
        reader = self._reader
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not False:
                self._give(answer)
        except HiredisError as error:
            self._fail(DriverConnectionError(f"the server does not speak the protocol: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits that the connection is gone."""
        self._fail(exc or DriverConnectionError("the server closed the connection"))
        if not self._gone.done():
            self._gone.set_result(None)

    def _give(self, answer: Any) -> None:
        if not self._calls:
            self._fail(DriverConnectionError("the server answered what nobody had asked"))
            return
        call = self._calls[0]
        call.answers.append(answer)
        call.left -= 1
        if not call.left:
            self._calls.popleft()
            if not call.future.done():
                call.future.set_result(call.answers)

    # Watching over it

    def _arm(self) -> None:
        self._watch = self._loop.call_later(self._timeout / _TICKS, self._look)

    def _look(self) -> None:
        self._watch = None
        if not self._calls or self._failure is not None:
            return
        self._looks += 1
        if self._looks - self._calls[0].looks > _TICKS:
            self._fail(TimeoutError(f"no answer within {self._timeout} s"))
        else:
            self._arm()

    def _fail(self, error: BaseException) -> None:
        """Give up the connection; whoever waits for an answer is told."""
        if self._failure is not None:
            return
        self._failure = translate(error, self._where)
        if self._watch is not None:
            self._watch.cancel()
        unanswered, self._calls = self._calls, deque()
        for call in unanswered:
            if not call.future.done():
                _raise_in(call.future, type(self._failure)(str(self._failure)))
        if self._transport is not None:
            self._transport.abort()  # nothing that is not sent yet may be sent later: its caller has been told

    def give_up(self, reason: CacheError) -> None:
        """Stop using the connection; callers with an open question are told the reason."""
        self._fail(reason)

    async def close(self, reason: CacheError | None = None) -> None:
        """Give up the connection and wait until it is. Calling it again does nothing."""
        self._fail(reason or CacheError(f"{self._where}: the cache was closed"))
        if self._transport is not None:
            await asyncio.shield(self._gone)


def _raise_in(future: asyncio.Future[Answers], error: BaseException) -> None:
    future.set_exception(error)
    future.exception()  # the one who asked may have given up: that an error is not looked at then is no fault


def good(answers: Answers) -> Answers:
    """Return answers none of which is a refusal.

    Raises:
        RedisError: The first one that is.
    """
    for answer in answers:
        if isinstance(answer, RedisError):
            raise answer
    return answers
