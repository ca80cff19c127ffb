"""Writing over HTTP: clients of the makers of QuestDB, in a few threads.

One request holds rows of one table, and is one transaction: all of it is stored, or nothing. The client waits for
the server's answer without holding the interpreter's lock. A client that saw an error is thrown away with all it held.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from questdb import Sender, TimestampMicros

from gateway.errors import StoreUnavailableError
from gateway_questdb.errors import DRIVER_ERRORS, translate
from gateway_questdb.values import Line

__all__ = ["Senders"]

Result = TypeVar("Result")
_KEPT: Final = 16


class Senders:
    """Clients, and the threads they are used in.

    Args:
        configuration: What a client is configured with; it may hold a password.
        count: How many requests may be under way at once.
        instance: Instance name, for errors.
    """

    def __init__(self, configuration: str, count: int, instance: str) -> None:
        self._configuration = configuration
        self._instance = instance
        self._idle: list[Sender] = []
        self._lock = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(min(count, _KEPT), thread_name_prefix=f"questdb-{instance}")

    def __repr__(self) -> str:
        return f"<Senders {self._instance} idle={len(self._idle)}{' closed' if self._closed else ''}>"

    async def send(self, table: str, lines: Callable[[], Sequence[Line]]) -> None:
        """Store rows in one transaction.

        When this is cancelled, the request goes on and ends by itself.

        Args:
            table: Where.
            lines: Makes the rows; called in the thread.

        Raises:
            StoreError: Nothing of it counts as stored.
        """
        await self.run(lambda sender: _send(sender, table, lines()))

    async def run(self, work: Callable[[Sender], None]) -> None:
        """Do something with a client, in a thread.

        Raises:
            StoreError: It failed.
        """
        await self.in_thread(lambda: self._with_sender(work))

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Do something that blocks, in one of the threads, and return what comes of it.

        Raises:
            StoreError: It failed.
        """
        if self._closed:
            raise self._gone()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except DRIVER_ERRORS as error:
            raise translate(error, self._instance) from error

    def _with_sender(self, work: Callable[[Sender], None]) -> None:
        sender = self._take()
        try:
            work(sender)
        except BaseException:
            with contextlib.suppress(*DRIVER_ERRORS):
                sender.close(flush=False)
            raise
        with self._lock:
            if not self._closed:
                self._idle.append(sender)
                return
        sender.close(flush=False)

    def _take(self) -> Sender:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            with warnings.catch_warnings():
                # The client takes several new ones in a short time for a mistake. They are needed, and kept: a write
                # must not fail in a program that turns warnings into errors. The filters are why the lock is held.
                warnings.filterwarnings("ignore", "questdb.Sender: Detected a burst", UserWarning)
                sender = Sender.from_conf(self._configuration)
                sender.establish()  # type: ignore[no-untyped-call] # the client's annotations lack it
                return sender

    def _gone(self) -> StoreUnavailableError:
        return StoreUnavailableError("the store is closed; open the gateway again", backend=self._instance)

    def close(self) -> None:
        """Close the clients that nobody uses; the others are closed when their request has ended."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for sender in idle:
            with contextlib.suppress(*DRIVER_ERRORS):
                sender.close(flush=False)
        self._threads.shutdown(wait=False)


def _send(sender: Sender, table: str, lines: Sequence[Line]) -> None:
    moment: Any = TimestampMicros
    with sender.transaction(table) as transaction:
        row = transaction.row
        for symbols, columns, at in lines:
            row(symbols=symbols, columns=columns, at=moment(at))
