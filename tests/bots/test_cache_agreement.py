"""Processes that differ in what they know of the cache, or in where rows live: nobody reads what is out of date."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway import Gateway
from gateway.backend import BackendSpec, Capability, WriteBatch
from gateway.cache.authority import Authority
from gateway.cache.front import CacheFront
from gateway.cache.keeper import boot_time
from gateway.cache.permit import Epoch, State
from gateway.errors import StoreError
from gateway.hookspecs import BackendCall, hookimpl
from gateway.records import DAILY_STATS, POSITIONS, KindSpec, Record, Shape
from gateway.records.row import Row
from gateway.records.types import Count, Text
from gateway_memory.cache import CacheServer, server_named
from gateway_sqlite.plugin import SPEC as SQLITE
from tests.children import Start, children
from tests.open_cache import copied, open_cache, prepared_file
from tests.prepared import environ_of
from tests.servers import Database

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, tzinfo=UTC)
LIFE = "prepared"
QUICK: dict[str, Any] = {"timeout": 0.5, "cache_permit": 0.15, "env_file": None}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in front of which the cache is open."""
    return prepared_file(tmp_path_factory.mktemp("prepared"), LIFE, **{**QUICK, "environ": {}})


@pytest.fixture
def server(tmp_path: Path) -> CacheServer:
    """The cache of a test, which does not evict."""
    made = server_named(str(tmp_path), 1_000)
    made.incarnation, made.evicts = LIFE, False
    return made


@pytest.fixture
def data(prepared: Path, tmp_path: Path, server: CacheServer) -> Path:
    """A directory with a file in front of which that cache is open."""
    assert len(server) == 0
    copied(prepared, tmp_path / "data")
    return tmp_path / "data"


@asynccontextmanager
async def bot(backends: str, data: Path, *plugins: object, **settings: Any) -> AsyncIterator[Gateway]:
    """Open a bot, and wait until its cache is open if it has one."""
    environ = dict(settings.pop("environ", {}))
    if "memory_cache" in backends:
        environ["STORAGE_MEMORY_CACHE_URL"] = str(data.parent)
    async with Gateway(
        backends, data_dir=data, environ=environ, plugins=list(plugins), **{**QUICK, **settings}
    ) as gateway:
        if gateway.engine.cache is not None:
            await until(lambda: front_of(gateway).keeper.readable() is not None)
        yield gateway


def front_of(gateway: Gateway) -> CacheFront:
    """Return a bot's cache."""
    assert gateway.engine.cache is not None
    return gateway.engine.cache


async def until(holds: Callable[[], bool]) -> None:
    """Return as soon as something holds."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        await asyncio.sleep(0.01)


async def save(gateway: Gateway, price: int) -> int:
    """Save the position and return its version."""
    ack = await gateway.save_position(condition_id="k", side="YES", entry_price=price, opened_at=NOW)
    return ack.version


async def seen(gateway: Gateway) -> int:
    """Return the version of the position that a bot reads."""
    row = await gateway.engine.get(POSITIONS, ("k",))
    return 0 if row is None else row.version


async def warmed(gateway: Gateway, kind: KindSpec = POSITIONS, key: str = "k") -> None:
    """Read until the cache answers."""
    hits, end = gateway.counters.cache_hits, time.monotonic() + 30
    while gateway.counters.cache_hits == hits:
        assert time.monotonic() < end, "the cache never answers"
        await gateway.engine.get(kind, (key,))
        await front_of(gateway).drained()
        await asyncio.sleep(0.01)


async def test_a_bot_announces_what_only_others_cache(data: Path) -> None:
    """Whoever leaves a kind out of the cache still lets those know who read it there, and keeps no row of it there."""
    async with (
        bot("sqlite,memory_cache", data, cache_kinds="daily_stats") as narrow,
        bot("sqlite,memory_cache", data) as wide,
    ):
        await save(narrow, 1)
        await warmed(wide)
        version = await save(narrow, 2)
        assert await seen(wide) == version
        assert narrow.counters.cache_written == 0
        await warmed(wide)
        assert await narrow.engine.purge(POSITIONS, datetime(2027, 1, 1, tzinfo=UTC)) == 1
        assert await wide.load_position("k") is None


class Short(Record):
    """A note as one release has it."""

    name: Text
    count: Count


class Long(Record):
    """The same as the next release has it."""

    name: Text
    count: Count
    extra: Text | None = None


class Notes:
    """Brings the kind of a release."""

    def __init__(self, model: type[Record]) -> None:
        self.kind = KindSpec("notes", model, key=("name",), shape=Shape.STATE, cacheable=True)

    @hookimpl
    def gateway_record_kinds(self) -> list[KindSpec]:
        """Bring it."""
        return [self.kind]


async def test_bots_of_two_releases_see_what_the_other_writes(data: Path) -> None:
    """While a kind gets a field, rows of one release are no rows for the other, and its writes are known."""
    old, new = Notes(Short), Notes(Long)
    async with bot("sqlite,memory_cache", data, old) as before:
        await before.put(Short(name="x", count=1))
        async with bot("sqlite,memory_cache", data, new) as after:
            for at in range(2, 6):
                writer, reader, kind = (before, after, new.kind) if at % 2 else (after, before, old.kind)
                ack = await writer.put((Short if at % 2 else Long)(name="x", count=at))
                row = await reader.engine.get(kind, ("x",))
                assert row is not None
                assert row.version == ack.version
                await front_of(writer).drained()
                row = await reader.engine.get(kind, ("x",))
                assert row is not None
                assert row.version == ack.version
            assert before.counters.cache_errors == after.counters.cache_errors == 0


async def test_a_bot_without_a_cache_waits_for_nobody_where_there_never_was_one(tmp_path: Path) -> None:
    """Where no row says anything of a cache, nothing stands between the bot and its store."""
    async with bot("sqlite", tmp_path) as plain:
        assert plain.engine.stores["sqlite"].gate is None
        await save(plain, 1)


async def test_what_a_bot_without_the_cache_cannot_know_it_finds_out_before_it_writes(
    prepared_database: Database, tmp_path: Path, server: CacheServer
) -> None:
    """The row could not be read when it started: it writes nothing before that, and then closes the cache."""
    environ = environ_of(prepared_database.app_url)
    settings = {"environ": environ, "timeout": 1.0, "retry_seconds": 0}
    async with bot("postgres", tmp_path, **settings) as first:
        await open_cache(first, server.incarnation, timeout=1.0, permit=0.15)
    async with bot("postgres,memory_cache", tmp_path / "data", **settings) as reader:
        await save(reader, 1)
        connection = await asyncpg.connect(prepared_database.owner_url)
        try:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("LOCK TABLE supporting.cache_epochs IN ACCESS EXCLUSIVE MODE")
            async with bot("postgres", tmp_path / "other", **settings) as plain:
                with pytest.raises(StoreError) as failed:
                    await save(plain, 2)
                assert "through a cache could not be found out" in failed.value.__notes__[0]
                await transaction.rollback()
                await until(lambda: front_of(reader).keeper.readable() is not None)
                await warmed(reader)
                for price in (3, 4):
                    version = await save(plain, price)
                    assert await seen(reader) == version
                hits = reader.counters.cache_hits
                assert await seen(reader) == version
                assert reader.counters.cache_hits == hits
        finally:
            await connection.close()


PLAIN = """
import asyncio, json, sys
from datetime import datetime, UTC
from gateway import Gateway

async def main(directory):
    async with Gateway("sqlite", data_dir=directory, environ={}, env_file=None, timeout=0.5) as gateway:
        price = 10
        while True:
            price += 1
            ack = await gateway.save_position(
                condition_id="k", side="YES", entry_price=price, opened_at=datetime(2026, 3, 12, tzinfo=UTC))
            print(json.dumps(ack.version), flush=True)
            await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that end with the test."""
    with children() as starting:
        yield starting


async def test_a_bot_without_the_cache_that_was_stopped_looks_before_it_writes(
    data: Path, start: Start
) -> None:
    """It slept for so long that others opened the cache again; its first write closes it, before it is stored."""
    async with bot("sqlite,memory_cache", data) as reader:
        await save(reader, 1)
        await warmed(reader)
        plain = start("-c", PLAIN, data)
        assert plain.stdin is not None
        assert plain.stdout is not None
        version = json.loads(await asyncio.to_thread(plain.stdout.readline))
        assert await seen(reader) == version
        os.kill(plain.pid, signal.SIGSTOP)
        await until(lambda: front_of(reader).keeper.readable() is not None)
        await warmed(reader)
        plain.stdin.write("\n")
        plain.stdin.flush()
        os.kill(plain.pid, signal.SIGCONT)
        later = json.loads(await asyncio.to_thread(plain.stdout.readline))
        assert later > version
        assert await seen(reader) == later


class Watcher:
    """Looks at the fences in the cache while a write is with the store."""

    def __init__(self, server: CacheServer) -> None:
        self.front: CacheFront | None = None
        self.fences: list[int] = []
        self._server = server

    @hookimpl
    def gateway_wrap(self, call: BackendCall) -> object:
        """Look, when positions are written."""
        return self._around(call)

    @asynccontextmanager
    async def _around(self, call: BackendCall) -> AsyncIterator[None]:
        if self.front is not None and call.hook == "gateway_write" and _of_positions(call.payload):
            await self.front.drained()
            self.fences.append(max(len(entry.fences) for entry in self._server._entries.values()))
        yield


def _of_positions(batch: WriteBatch) -> bool:
    return any(isinstance(step, Row) and step.kind is POSITIONS for step in batch.steps)


async def test_a_late_announcement_does_not_lift_the_fence_of_the_next(
    data: Path, server: CacheServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Announced to one epoch twice, since the row went from opening to open between, a write stays announced."""
    watcher = Watcher(server)
    async with bot("sqlite,memory_cache", data, watcher) as one:
        watcher.front = front = front_of(one)

        async def before_write(
            home: Authority, announce: Callable[[Epoch], Awaitable[bool]], _: str = ""
        ) -> Epoch:
            assert home.known is not None
            opened = home.known.epoch
            assert await announce(replace(opened, state=State.OPENING))
            assert await announce(opened)
            return opened

        monkeypatch.setattr(front.keeper, "before_write", before_write)
        await save(one, 1)
        assert watcher.fences == [1]
        await front.drained()
        assert not any(entry.fences for entry in server._entries.values())


class Simple:
    """Brings `simple`: SQLite, but for reading and writing in one step."""

    @hookimpl
    def gateway_backends(self) -> tuple[BackendSpec, ...]:
        """Bring it."""
        less = SQLITE.capabilities - {Capability.UPDATE}
        return (replace(SQLITE, name="simple", capabilities=less, url_schemes=("simple",)),)


async def test_kinds_of_a_store_without_a_row_are_not_cached(data: Path, tmp_path: Path) -> None:
    """A bot of that store alone could not know of the cache; kinds that live elsewhere are cached as ever."""
    environ = {"STORAGE_SIMPLE_URL": str(tmp_path / "simple.db")}
    settings: dict[str, Any] = {"phase": "legacy", "places": "positions:simple", "environ": environ}
    async with (
        bot("sqlite,simple,memory_cache", data, Simple(), **settings) as cached,
        bot("simple", tmp_path / "other", Simple(), environ=environ) as alone,
    ):
        for price in range(1, 8):
            version = await save(alone, price)
            for _ in range(3):
                assert await seen(cached) == version
                await front_of(cached).drained()
        assert cached.counters.cache_hits == 0
        concerns = [one.sentence for one in cached.configuration.concerns() if one.subject == "cache"]
        assert len(concerns) == 1
        assert concerns[0].startswith("positions: not cached, since simple cannot")
        await warmed(cached, DAILY_STATS, "2026-03-12")


@pytest.mark.parametrize("phase", ["dual_write", "cutover"])
async def test_kinds_with_such_a_mirror_or_reader_are_not_cached(
    data: Path, tmp_path: Path, phase: str
) -> None:
    """Whichever of the two stores leads: one of them cannot say whether there is a cache."""
    environ = {"STORAGE_SIMPLE_URL": str(tmp_path / "simple.db")}
    async with bot("sqlite,simple,memory_cache", data, Simple(), phase=phase, environ=environ) as cached:
        for price in range(1, 4):
            version = await save(cached, price)
            for _ in range(3):
                assert await seen(cached) == version
                await front_of(cached).drained()
        assert cached.counters.cache_hits == cached.counters.cache_misses == 0


async def test_a_machine_that_was_suspended_has_no_permit_left(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time it slept counts, though the monotonic clock stood still."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system has no clock that goes on while it is suspended")
    real, slept = time.clock_gettime, [0.0]
    monkeypatch.setattr(time, "clock_gettime", lambda clock: real(clock) + slept[0])
    async with bot("sqlite,memory_cache", data) as one:
        keeper = front_of(one).keeper
        assert keeper.readable() is not None
        slept[0] = 3600.0
        assert keeper.readable() is None
        assert boot_time() > real(time.CLOCK_BOOTTIME) + 3000
        await until(lambda: keeper.readable() is not None)
