"""A server that hangs: what was given up before it began is dropped, and closing ends."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.backend import WriteBatch
from gateway.errors import StoreUnavailableError
from gateway.query import Query
from gateway.records import TICK_PRICES, Row
from gateway.records.codec import from_micros
from gateway.records.stamp import Stamper
from gateway_questdb import connections, writing
from gateway_questdb.backend import QuestDbBackend
from gateway_questdb.opening import open_backend
from tests.plugins.questdb.conftest import context_on
from tests.servers import QuestDbServer

pytestmark = pytest.mark.anyio


def tick(stamper: Stamper, at: int) -> Row:
    """Return a tick."""
    values = {"timestamp": from_micros(1_788_000_000_000_000 + at), "symbol": "BTC", "price": float(at)}
    return stamper.stamp(TICK_PRICES, TICK_PRICES.model.model_validate(values))


@contextmanager
def stopped(server: QuestDbServer) -> Iterator[None]:
    """Let a server hang: it takes connections, and answers nothing."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def given_up(store: QuestDbBackend, row: Row) -> bool:
    """Write, and give up soon; return whether that was necessary."""
    try:
        async with asyncio.timeout(0.02):
            await store.gateway_write(WriteBatch([row]))
    except TimeoutError:
        return True
    return False


async def test_what_was_given_up_before_its_turn_is_not_kept(
    own_server: QuestDbServer, stamper: Stamper
) -> None:
    """Behind a write that hangs the others are dropped with their callers: no more than one is left, in any time."""
    store = await open_backend(context_on(own_server, request_timeout=30, retry_seconds=0))
    rows = [tick(stamper, at) for at in range(40)]
    await store.gateway_write(WriteBatch(rows[:1]))
    count = 2
    with stopped(own_server):
        before = asyncio.all_tasks()
        while not await given_up(store, rows[count - 1]):
            count += 1  # a signal takes a moment to stop all threads
        for row in rows[count:]:
            assert await given_up(store, row)
        left = len(asyncio.all_tasks() - before)
        assert left < 15, "the write that was begun, and the look at its table, are a few tasks"
    last = tick(stamper, 99)
    await store.gateway_write(WriteBatch([last]))
    found = await store.gateway_query(Query(TICK_PRICES, stamper.tenant))
    assert len(rows) - count > 20, "the server went on for long"
    assert list(found) == [*rows[:count], last], "only the write that was begun went on"
    await store.gateway_close()


async def test_closing_waits_for_no_server_that_hangs(
    own_server: QuestDbServer, stamper: Stamper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing gives a write under way some time; then whoever waits for it, or for a turn, hears that it is unknown."""
    monkeypatch.setattr(writing, "_CLOSING", 0.3)
    monkeypatch.setattr(connections, "_CLOSING", 0.3)
    store = await open_backend(context_on(own_server, request_timeout=60, retry_seconds=0))
    await store.gateway_write(WriteBatch([tick(stamper, 0)]))
    other = await open_backend(context_on(own_server, request_timeout=60, retry_seconds=0))
    with stopped(own_server):
        while not await given_up(other, tick(stamper, 9)):
            pass  # a signal takes a moment to stop all threads
        waiting = [
            asyncio.create_task(store.gateway_write(WriteBatch([tick(stamper, at)]))) for at in (1, 2, 3)
        ]
        await asyncio.sleep(0)  # so that the first begins
        began = time.monotonic()
        async with asyncio.timeout(20):
            await store.gateway_close()
        assert time.monotonic() - began < 10
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, StoreUnavailableError)
            assert "closed before the write was acknowledged" in str(outcome)
        await other.gateway_close()


async def test_closing_lets_a_write_end(own_server: QuestDbServer, stamper: Stamper) -> None:
    """Writes that wait for their turn while the store is closed are stored and acknowledged."""
    store = await open_backend(context_on(own_server))
    rows = [tick(stamper, at) for at in range(4)]
    writes = [asyncio.create_task(store.gateway_write(WriteBatch([row]))) for row in rows]
    await asyncio.sleep(0)  # so that they queue up
    await store.gateway_close()
    await asyncio.gather(*writes)
    store = await open_backend(context_on(own_server))
    assert list(await store.gateway_query(Query(TICK_PRICES, stamper.tenant))) == rows
    await store.gateway_close()
