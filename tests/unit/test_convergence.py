"""Whatever happens to writers, mirrors and processes, the mirror ends with exactly what the primary has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.backend import Backend, BackendSpec, KeyRef, OpenContext, Step, Update
from gateway.dispatch import Store, StoreSet
from gateway.errors import GatewayError, StoreBusyError, StoreUnavailableError
from gateway.journal.memory import MemoryJournal
from gateway.lanes.lane import Lane
from gateway.lanes.outcomes import Computed, LaneOptions
from gateway.mirror.contract import FeedOptions
from gateway.query import Query
from gateway.records import POSITIONS, TRADES, Position, Row, Trade
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.stamp import DEFAULT_TENANT, Stamper
from tests.mirrors import QUICK_RELAY, Rig
from tests.unit.conftest import MEMORY, GatedStore

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 3, 12, tzinfo=UTC)
FEED = FeedOptions(rows=8, batch=4, linger=0.0, retry=0.0, done=3, done_seconds=0.001)
RELAY = replace(QUICK_RELAY, batch=3, parallel=2)


@dataclass(frozen=True)
class Write:
    """A write of one of a few keys."""

    key: int
    how: str
    repeated: bool = False
    cancelled: bool = False


@dataclass(frozen=True)
class Event:
    """Something that happens to everybody: a fault, a process that dies, a pause, a look at the journal."""

    what: str
    count: int = 1


WRITES = st.builds(
    Write,
    key=st.integers(0, 3),
    how=st.sampled_from(["put", "delete", "add", "log", "group"]),
    repeated=st.booleans(),
    cancelled=st.booleans(),
)
EVENTS = st.builds(
    Event,
    what=st.sampled_from(
        [
            "mirror fails",
            "mirror answers late",
            "primary fails",
            "primary answers late",
            "die",
            "replay",
            "breathe",
        ]
    ),
    count=st.integers(1, 3),
)
STORIES = st.lists(st.lists(st.one_of(WRITES, WRITES, EVENTS), max_size=8), min_size=1, max_size=12)


class World:
    """A primary, a mirror, a journal, and any number of processes that come and go."""

    def __init__(self, stores: dict[str, Store], backends: dict[str, GatedStore], processes: int) -> None:
        self.stores = stores
        self.backends = backends
        self.journals = {name: MemoryJournal() for name in stores}
        self.stamper = Stamper()
        self.processes = [self.born() for _ in range(processes)]
        self.acked: set[Any] = set()

    def born(self) -> tuple[Rig, Lane]:
        """Return a new process: nothing of it but its journal outlives it."""
        rig = Rig(self.stores, feed=FEED, relay=RELAY, journals=self.journals, pauses=lambda _: 0.001)
        return rig, Lane(rig.journaled(self.stores["a"]), LaneOptions(retry=0), mirrors=rig)

    def steps_of(self, write: Write) -> Sequence[Step]:
        """Return what a write is to a lane."""
        stamper, key = self.stamper, f"c{write.key}"
        ref = KeyRef(POSITIONS, (key,))
        if write.how == "log":
            record = Trade(
                timestamp=NOW, market_name=key, action="buy", side="YES", price=Decimal(1), amount=Decimal(1)
            )
            return (stamper.stamp(TRADES, record),)
        if write.how == "put":
            return (self._position(key, 1),)

        def compute(current: Sequence[Row | None]) -> Sequence[Row]:
            (row,) = current
            if row is not None:
                stamper.clock.observe(row.version)
            if write.how == "delete":
                return () if row is None else (stamper.tombstone(POSITIONS, ref.key),)
            price = 1 if row is None or row.deleted else int(dict(row.record())["entry_price"]) + 1
            beside = (self._position(f"{key}+", price),) if write.how == "group" else ()
            return (self._position(key, price), *beside)

        return (Update(DEFAULT_TENANT, (ref,), Computed(compute)),)

    def _position(self, key: str, price: int) -> Row:
        record = Position(condition_id=key, side="YES", entry_price=Decimal(price), opened_at=NOW)
        return self.stamper.stamp(POSITIONS, record)

    async def write(self, process: int, write: Write) -> None:
        """Write as a bot does, perhaps twice, perhaps leaving before it is answered."""
        rig, lane = self.processes[process % len(self.processes)]
        way = rig.way("a", "b", waits=write.key == 0)
        steps = self.steps_of(write)
        for _ in range(1 + write.repeated):
            task = asyncio.create_task(lane.write(steps, way))
            if write.cancelled:
                await asyncio.sleep(0)
                task.cancel()
            try:
                outcome = await task
            except (GatewayError, asyncio.CancelledError):
                continue
            if isinstance(steps[0], Row) and not outcome.lost:
                self.acked.add((steps[0].kind, steps[0].key))

    async def happen(self, process: int, event: Event) -> None:
        """Let something happen."""
        at = process % len(self.processes)
        rig, lane = self.processes[at]
        a, b = self.backends["a"], self.backends["b"]
        if event.what == "mirror fails":
            b.faults += [StoreUnavailableError("down")] * event.count
        elif event.what == "mirror answers late":
            b.late_faults += [StoreUnavailableError("gone")] * event.count
        elif event.what == "primary fails":
            a.faults += [StoreBusyError("busy")] * event.count
        elif event.what == "primary answers late":
            a.late_faults += [StoreUnavailableError("gone")] * event.count
        elif event.what == "replay":
            await rig.relays["a", "b"].drain(0.002)
        elif event.what == "breathe":
            await asyncio.sleep(0.002)
        elif event.what == "die":
            await _killed(rig, lane)
            self.processes[at] = self.born()

    async def end(self) -> None:
        """Let everything calm down, and see that both stores have the same."""
        for backend in self.backends.values():
            backend.faults, backend.late_faults = [], []
        for rig, lane in self.processes:
            await lane.close()
            await rig.close()
        rig, lane = self.born()
        await rig.drain()
        await lane.close()
        await rig.close()
        for kind in (POSITIONS, TRADES):
            query = Query(kind, DEFAULT_TENANT, include_deleted=True, limit=10_000)
            found = [
                {row.key: row.stamp for row in await store.query(query)} for store in self.stores.values()
            ]
            assert found[0] == found[1]
            assert {key for what, key in self.acked if what is kind} <= set(found[0]), (
                "an acknowledged write is gone"
            )


async def _killed(rig: Rig, lane: Lane) -> None:
    """End a process in the middle of everything: nothing is finished, nothing is told, nothing is acknowledged."""
    tasks = [lane._worker, *(feed._worker for feed in rig.feeds.values())]
    for feed in rig.feeds.values():
        feed._done._closed = True
        feed._done._disarm()
        if feed._done._task is not None:
            tasks.append(feed._done._task)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def opened(stores: StoreSet, name: str) -> tuple[Store, GatedStore]:
    """Open a store in memory that counts as one that outlives the process."""
    backend = GatedStore(name)

    async def give(_: OpenContext) -> Backend:
        return backend

    spec: BackendSpec = replace(MEMORY, open=give)
    return await stores.open(spec, OpenContext(name, MEMORY.settings(), BUILTIN_KINDS, Path())), backend


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stories=STORIES, processes=st.integers(1, 3))
def test_any_interleaving_converges(stories: list[list[Write | Event]], processes: int) -> None:
    """Concurrent writers, repetitions, deletions, deltas, lost answers, outages, replays and deaths: all in any order."""

    async def run() -> None:
        stores = StoreSet()
        found = {name: await opened(stores, name) for name in ("a", "b")}
        world = World(
            {name: store for name, (store, _) in found.items()},
            {name: backend for name, (_, backend) in found.items()},
            processes,
        )

        async def live(process: int, story: list[Write | Event]) -> None:
            for event in story:
                if isinstance(event, Write):
                    await world.write(process, event)
                else:
                    await world.happen(process, event)

        async with asyncio.timeout(60):
            await asyncio.gather(*(live(at, story) for at, story in enumerate(stories)))
            await world.end()
        await stores.close()

    asyncio.run(run())
