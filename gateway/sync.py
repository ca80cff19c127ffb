"""The same API for bots that are not asynchronous: every call waits for its answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from datetime import datetime
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from gateway.api import Order
from gateway.errors import GatewayClosedError
from gateway.gateway import Gateway
from gateway.records.kind import Record

__all__ = ["SyncGateway"]

P = ParamSpec("P")
T = TypeVar("T")

THREAD_NAME: Final = "storage gateway"
LAST_SECONDS: Final = 10.0
"""What is still under way once the stores are closed is cancelled, and may take this long to end."""


def _waits(call: Callable[Concatenate[Gateway, P], Awaitable[T]]) -> Callable[Concatenate[SyncGateway, P], T]:
    """Return a method that runs an asynchronous one of `Gateway` to its end, with the same signature."""

    def method(self: SyncGateway, /, *args: P.args, **kwargs: P.kwargs) -> T:
        # By name, since a gateway that is open may have the call timed and traced.
        bound: Callable[P, Awaitable[T]] = getattr(self._gateway, call.__name__)
        return self._run(bound(*args, **kwargs))

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
        self._thread = threading.Thread()
        # Both can be taken again by the thread that holds them: a signal handler may call while a call is under way.
        self._turn = threading.RLock()
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<Sync{self._gateway!r}"[:-1] + ">"

    def open(self) -> Self:
        """Open the stores; see `Gateway.open`."""
        with self._turn:
            if self._loop is not None:
                return self
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name=THREAD_NAME, daemon=True)
            thread.start()
            try:
                _result(_submit(self._gateway.open(), loop))
            except BaseException:
                _stop(loop, thread)
                raise
            self._thread = thread
            with self._lock:
                self._loop = loop
        return self

    def close(self) -> None:
        """Write what is buffered and close the stores; see `Gateway.close`.

        Calls of other threads that are under way are finished, or end with `GatewayClosedError`; later ones are
        refused. When this returns, none of them waits any more.
        """
        with self._turn:
            with self._lock:
                loop, self._loop = self._loop, None
            if loop is None:
                return
            try:
                _result(_submit(self._gateway.close(), loop))
            finally:
                _stop(loop, self._thread)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Awaitable[T], within: asyncio.AbstractEventLoop | None = None) -> T:
        """Run a call to its end; `within` refuses it where the gateway was closed, and opened again, since."""
        # Under the lock, so that whatever close() stops has reached the loop before, and nothing comes after.
        with self._lock:
            loop = self._loop
            if loop is not None and within in (None, loop):
                future = _submit(call, loop)
            else:
                if asyncio.iscoroutine(call):
                    call.close()  # it never began; without this Python warns about it
                raise GatewayClosedError("the gateway is not open; use `with SyncGateway() as gateway:`")
        return _result(future)

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
        loop = self._loop
        records = aiter(self._gateway.stream(kind, where=where, since=since, until=until, order=order))
        while True:
            try:
                yield self._run(anext(records), loop)
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
    put_frame = _waits(Gateway.put_frame)
    query_frame = _waits(Gateway.query_frame)
    save_indicators = _waits(Gateway.save_indicators)
    load_indicators = _waits(Gateway.load_indicators)
    load_indicator_columns = _waits(Gateway.load_indicator_columns)
    describe_indicators = _waits(Gateway.describe_indicators)
    prune_indicators = _waits(Gateway.prune_indicators)
    get_candles = _waits(Gateway.get_candles)
    latest_prices = _waits(Gateway.latest_prices)
    purge = _waits(Gateway.purge)
    health = _waits(Gateway.health)


def _submit(call: Awaitable[T], loop: asyncio.AbstractEventLoop) -> Future[T]:
    """Begin a call on the gateway's loop."""

    async def run() -> T:
        return await call

    return asyncio.run_coroutine_threadsafe(run(), loop)


def _result(future: Future[T]) -> T:
    """Wait for a call's end.

    Raises:
        GatewayClosedError: The gateway was closed meanwhile.
    """
    try:
        return future.result()
    except CancelledError as error:  # nobody but close() cancels calls
        raise GatewayClosedError(
            "the gateway was closed while this call was under way; whether a write was stored is unknown. "
            "Open it again and repeat the call with the same record_id or operation_id"
        ) from error
    except KeyboardInterrupt:
        future.cancel()
        raise


async def _finish() -> None:
    """End whatever still runs on this loop, so that nobody waits for an answer that cannot come."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=LAST_SECONDS)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """Stop a loop after what still runs on it, and its thread."""
    try:
        asyncio.run_coroutine_threadsafe(_finish(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
