"""The same API for bots that are not asynchronous: every call waits for its answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from datetime import datetime
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from gateway.api import Order
from gateway.errors import GatewayClosedError
from gateway.gateway import Gateway
from gateway.records.kind import Record

__all__ = ["SyncGateway"]

P = ParamSpec("P")
T = TypeVar("T")


def _waits(call: Callable[Concatenate[Gateway, P], Awaitable[T]]) -> Callable[Concatenate[SyncGateway, P], T]:
    """Return a method that runs an asynchronous one of `Gateway` to its end, with the same signature."""

    def method(self: SyncGateway, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(call(self._gateway, *args, **kwargs))

    method.__name__ = call.__name__
    method.__qualname__ = f"SyncGateway.{call.__name__}"
    method.__doc__ = call.__doc__
    return method


class SyncGateway:
    """A gateway whose calls block, for bots without an event loop.

    It owns a thread with an event loop, so it works from any thread, and from inside a running loop's thread too
    (where it blocks that loop for as long as the call takes).

    Args:
        backends: As in `STORAGE_BACKENDS`; None takes the environment's.
        settings: Everything else that `Gateway` takes.
    """

    def __init__(self, backends: str | None = None, **settings: Any) -> None:
        self._gateway = Gateway(backends, **settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Sync{self._gateway!r}"[:-1] + ">"

    def open(self) -> Self:
        """Open the stores; see `Gateway.open`."""
        with self._lock:
            if self._loop is None:
                self._start()
        try:
            self._run(self._gateway.open())
        except BaseException:
            self._stop()
            raise
        return self

    def close(self) -> None:
        """Write what is buffered and close the stores; see `Gateway.close`."""
        if self._loop is None:
            return
        try:
            self._run(self._gateway.close())
        finally:
            self._stop()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._thread = threading.Thread(target=loop.run_forever, name="storage gateway", daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _run(self, call: Awaitable[T]) -> T:
        loop = self._loop
        if loop is None:
            if asyncio.iscoroutine(call):
                call.close()  # it never began; without this Python warns about it
            raise GatewayClosedError("the gateway is not open; use `with SyncGateway() as gateway:`")

        async def run() -> T:
            return await call

        future = asyncio.run_coroutine_threadsafe(run(), loop)
        try:
            return future.result()
        except (KeyboardInterrupt, CancelledError):
            future.cancel()
            raise

    def stream(
        self,
        kind: str,
        *,
        where: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        order: Order = "asc",
    ) -> Iterator[Record]:
        """Yield records one by one, fetched in pages; see `gateway.api.Records.stream`."""
        records = aiter(self._gateway.stream(kind, where=where, since=since, until=until, order=order))
        while True:
            try:
                yield self._run(anext(records))
            except StopAsyncIteration:
                return

    save_position = _waits(Gateway.save_position)
    load_position = _waits(Gateway.load_position)
    close_position = _waits(Gateway.close_position)
    get_open_positions = _waits(Gateway.get_open_positions)
    insert_trade = _waits(Gateway.insert_trade)
    get_trades = _waits(Gateway.get_trades)
    record_event = _waits(Gateway.record_event)
    get_events = _waits(Gateway.get_events)
    list_sessions = _waits(Gateway.list_sessions)
    buffer_snapshot = _waits(Gateway.buffer_snapshot)
    flush = _waits(Gateway.flush)
    get_snapshots = _waits(Gateway.get_snapshots)
    insert_alert = _waits(Gateway.insert_alert)
    get_alerts = _waits(Gateway.get_alerts)
    get_or_create_daily_stats = _waits(Gateway.get_or_create_daily_stats)
    update_daily_stats = _waits(Gateway.update_daily_stats)
    put = _waits(Gateway.put)
    put_many = _waits(Gateway.put_many)
    get = _waits(Gateway.get)
    delete = _waits(Gateway.delete)
    query = _waits(Gateway.query)
    purge = _waits(Gateway.purge)
    health = _waits(Gateway.health)
