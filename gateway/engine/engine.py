"""The engine: rows in, rows out, along the routes of the moment. `Gateway` puts records and names on top.

Every operation takes the route once and keeps it to its end. When the routes change, plain writes go on at once:
both stores take both old and new writes, and versions decide. Only read-modify-write operations wait until what
went along the old routes has arrived, since they must read the latest row.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Final

from gateway.api import Ack
from gateway.backend import Capability, GroupSummary, KeyRef, Summarize, Update
from gateway.cache.front import CacheFront, behind
from gateway.columns import ColumnBatch, by_column
from gateway.dispatch import Store
from gateway.engine.acks import acknowledged
from gateway.engine.both import Apply, knowing_both
from gateway.engine.flip import hand_over
from gateway.engine.paths import Path, Paths
from gateway.engine.portions import CHUNK, chunks, slices
from gateway.engine.purging import purge
from gateway.errors import MirrorBehindError, MirrorWriteError, StoreError
from gateway.lanes.lane import Lane, close_lanes
from gateway.lanes.outcomes import Computed, LaneOptions, Outcome
from gateway.mirror.contract import Mirroring
from gateway.query import Query, following
from gateway.records.kind import KindSpec, Record, Shape
from gateway.records.row import Key, Row
from gateway.records.stamp import Stamper
from gateway.routing import Route, RoutingPlan, leaders_moved
from gateway.shadow.observer import ReadObserver
from gateway.telemetry import Counters

__all__ = ["Engine", "Path", "ReadObserver"]

_log: Final = logging.getLogger(__name__)


class Engine:
    """Writes and reads rows along a plan's routes.

    Args:
        stores: The opened stores by instance name.
        plan: The routes to begin with.
        stamper: Makes rows of records.
        lanes: Bounds of the write lanes.
        observer: Gets to see reads that have a shadow.
        counters: Where everything is counted.
        cache: What stands in front of the stores; None for nothing. Whoever made it closes it, after the engine.
        mirrors: Brings to mirrors what was committed; None if no plan ever has one. Closed like the cache.
    """

    def __init__(
        self,
        stores: dict[str, Store],
        plan: RoutingPlan,
        stamper: Stamper,
        lanes: LaneOptions | None = None,
        observer: ReadObserver | None = None,
        counters: Counters | None = None,
        cache: CacheFront | None = None,
        mirrors: Mirroring | None = None,
    ) -> None:
        self.stores = stores
        self.stamper = stamper
        self.counters = counters or Counters()
        self.observer, self.cache = observer, cache
        self.mirrors = mirrors
        # Only lanes and reads by key go through the cache. Who compares stores, or reads many keys, wants the stores.
        ends = {name: behind(cache, store) for name, store in stores.items()}
        self.lanes = {
            name: Lane(sink if mirrors is None else mirrors.journaled(sink), lanes, self.counters, mirrors)
            for name, (sink, _) in ends.items()
        }
        self._readers = {name: reader for name, (_, reader) in ends.items()}
        self._paths = Paths(plan, stamper.tenant, self.lanes, self._readers, mirrors)
        self._settling: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def plan(self) -> RoutingPlan:
        """The routes of this moment."""
        return self._paths.plan

    async def follow(self, plan: RoutingPlan, *, backlog: float = 10.0, waiting: float = 2.0) -> None:
        """Follow other routes, once a store that is to lead has everything that the one before it has.

        Args:
            plan: The routes.
            backlog: Seconds for which the mirrors' backlog is waited for.
            waiting: Seconds for which writes may wait for their mirrors, at the end.

        Raises:
            MirrorBehindError: It has not; the routes stay as they are, and the call can be repeated. Not raised for a
                plan that was forced: the store that leads may be gone for good.
            StoreError: What it lacks cannot be told; the same.
        """
        moved = leaders_moved(self.plan, plan)
        if moved and self.mirrors is not None:
            lanes = self.lanes.values()
            clock = self.stamper.clock
            try:
                await hand_over(
                    moved,
                    self._paths,
                    lanes,
                    self.mirrors,
                    lambda: clock.last,
                    backlog=backlog,
                    waiting=waiting,
                )
            except (MirrorBehindError, StoreError) as error:
                if not plan.forced:
                    raise
                _log.error("epoch %d was forced, and is followed all the same: %s", plan.epoch, error)
        self.switch(plan)

    def switch(self, plan: RoutingPlan) -> None:
        """Follow other routes from now on, whatever has arrived; operations under way keep theirs."""
        self._paths.follow(plan)
        self._settling = settled = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._settle(settled), name="routes settle")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, settled: asyncio.Event) -> None:
        for lane in self.lanes.values():
            await lane.barrier()
        settled.set()
        if self._settling is settled:
            self._settling = None

    def path(self, kind: KindSpec, key: Key) -> Path:
        """Return the way of one key."""
        return self._paths.of_key(kind, key)

    def listing(self, kind: KindSpec) -> Path:
        """Return the way of queries over many keys."""
        return self._paths.of_listing(kind)

    @property
    def _hindered(self) -> bool:
        """Whether a write has to wait for anything before it takes its path; hardly ever."""
        return self._settling is not None or (self.mirrors is not None and self.mirrors.crowded)

    async def _admitted(self, kinds: Iterable[KindSpec]) -> None:
        """Wait for room in the mirrors' journals, and until the routes have settled where that matters.

        No path may be chosen before this: by the time it is over, another store may lead.

        Raises:
            JournalFullError: There was no room; nothing was written.
        """
        asked = tuple(kinds)
        targets = self._paths.targets(asked)
        if self.mirrors is not None and targets:
            await self.mirrors.admit(targets)
        if any(kind.shape is not Shape.LOG for kind in asked):
            await self._settled()

    async def put(self, kind: KindSpec, record: Record) -> Ack:
        """Store one record.

        Raises:
            StoreError: The primary did not commit it.
            MirrorWriteError: The primary did, a mirror did not.
        """
        if self._hindered:
            await self._admitted((kind,))
        row = self.stamper.stamp(kind, record)
        path = self.path(kind, row.values[: len(kind.key)])
        try:
            outcome = await path.lane.write((row,), path.way)
        except StoreError as error:
            if kind.shape is Shape.LOG:
                error.retry_with = {"record_id": str(row.values[0])}
            raise
        if outcome.lost and kind.shape is not Shape.LOG:
            return await self._put_again(row, outcome)
        return acknowledged(row, path.route, outcome)

    async def _settled(self) -> None:
        """Wait until everything that follows the routes of before has arrived.

        What reads before it writes, and what replaces a row, would otherwise overtake a change that is computed only
        when the old primary gets to it, and so is newer than it looks.
        """
        while self._settling is not None:
            await self._settling.wait()

    async def _put_again(self, row: Row, outcome: Outcome) -> Ack:
        """Repeat a write that lost against a row of a machine whose clock is ahead: what is written last must win.

        Once is enough: what the second attempt loses against came after the first had looked, so it was written
        while this call was under way, and counts as the later of the two.
        """
        if self._hindered:
            await self._admitted((row.kind,))
        self.stamper.clock.observe(outcome.superseded)
        row = self.stamper.restamp(row)
        path = self.path(row.kind, row.key)
        return acknowledged(row, path.route, await path.lane.write((row,), path.way))

    async def put_rows(self, rows: Sequence[Row], *, latest: bool = True) -> None:
        """Store rows that are stamped already, each along its own way.

        Args:
            rows: What to store.
            latest: Whether they are what is true now, so that none may lose against a row of a machine whose clock is
                ahead. History is not: it loses against whatever is there.

        Raises:
            StoreError: A primary did not commit some of them; the call can be repeated.
            MirrorWriteError: Every primary committed, a mirror did not.
        """
        if self._hindered:
            await self._admitted({row.kind: None for row in rows})
        if isinstance(rows, ColumnBatch) and not self.plan.keyed(rows.kind):
            await self._put_chunk(self.path(rows.kind, ()), rows, latest)
            return
        ways: dict[Path, list[Row]] = {}
        for kind, group in groupby(rows, lambda row: row.kind):
            if not self.plan.keyed(kind):
                ways.setdefault(self.path(kind, ()), []).extend(group)
                continue
            for row in group:
                ways.setdefault(self.path(kind, row.key), []).append(row)
        parts = [(path, part) for path, own in ways.items() for part in chunks(own)]
        turn = self._paths.turn
        outcomes = await asyncio.gather(
            *(self._put_in_turn(turn, path, part, latest) for path, part in parts), return_exceptions=True
        )
        # A primary's failure matters more than a mirror's, whichever came first.
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in sorted(failures, key=lambda failure: isinstance(failure, MirrorWriteError)):
            raise failure

    async def _put_in_turn(self, turn: int, path: Path, rows: Sequence[Row], latest: bool) -> None:
        """Store rows that a task of their own has waited with, while other routes may have been taken."""
        if turn == self._paths.turn:
            await self._put_chunk(path, rows, latest)
        else:
            await self.put_rows(rows, latest=latest)

    async def _put_chunk(self, path: Path, rows: Sequence[Row], latest: bool) -> None:
        outcome = await path.lane.write(by_column(rows) if path.by_column else rows, path.way)
        lost = [rows[at] for at in outcome.lost if rows[at].kind.shape is not Shape.LOG] if latest else []
        # A key that comes twice in one call loses against itself; only its last row is what is true now.
        last = {(row.kind, row.key): row for row in rows} if lost else {}
        for row in lost:
            if last[row.kind, row.key] is row:
                await self._put_again(row, outcome)
        acknowledged(rows[-1], path.route, outcome)

    async def put_many(self, records: Iterable[Record], kind_of: Callable[[type[Record]], KindSpec]) -> int:
        """Store many records, some thousand rows at a time, and return how many."""
        count = 0
        rows: list[Row] = []
        writing: asyncio.Task[None] | None = None
        try:
            for kind, part in slices(records, kind_of):
                rows += self.stamper.stamp_many(kind, part)
                await asyncio.sleep(0)  # a store's own thread gets to run in between
                if len(rows) >= CHUNK:
                    # One chunk is written while the next is stamped; more would only fill memory.
                    if writing is not None:
                        await writing
                    count += len(rows)
                    writing, rows = asyncio.create_task(self.put_rows(rows)), []
        finally:
            if writing is not None:
                await writing
        await self.put_rows(rows)
        return count + len(rows)

    async def update(self, lead: KeyRef, reads: Sequence[KeyRef], apply: Apply) -> Outcome:
        """Read rows and write what `apply` makes of them, along the way of the leading key, with nobody in between.

        Raises:
            CapabilityError: The primary cannot.
            StoreError: The primary did not commit; `apply` has no effect.
            MirrorWriteError: A mirror did not commit the result.
        """
        path, prepared = await self._prepared(lead, reads, apply)
        computed = Computed(prepared)
        step = Update(self.stamper.tenant, tuple(reads), computed)
        outcome = await path.lane.write((step,), path.way)
        if outcome.failures:
            # The clock may have gone on since, for other rows.
            version = max((row.version for row in computed.rows if row.kind is lead.kind), default=0)
            ack = Ack(lead.kind.name, lead.key, None, version, path.route.primary, outcome.mirrored)
            raise MirrorWriteError(ack, outcome.failures)
        return outcome

    async def _prepared(self, lead: KeyRef, reads: Sequence[KeyRef], apply: Apply) -> tuple[Path, Apply]:
        """Return the path of an update, and `apply` as it is to run there."""
        while True:
            if self._hindered:
                await self._admitted((lead.kind,))
                await self._settled()
            path, turn = self.path(lead.kind, lead.key), self._paths.turn
            self.stores[path.route.primary].require(Capability.UPDATE, "read and write in one step")
            if path.way is None or path.route.primary == self.plan.backends[0]:
                return path, apply
            old = self.stores[path.route.mirrors[0]]
            computed = await knowing_both(old, path.way, self.stamper.tenant, reads, apply)
            if turn == self._paths.turn:
                return path, computed

    async def get(self, kind: KindSpec, key: Key) -> Row | None:
        """Return the live row of a key; None if there is none."""
        self.counters.reads += 1
        path = self.path(kind, key)
        row = await path.reader.get(kind, self.stamper.tenant, key)
        if path.route.shadow is not None and self.observer is not None:
            stores = self.stores
            self.observer.offer_keys(
                stores[path.route.reader],
                stores[path.route.shadow],
                kind,
                self.stamper.tenant,
                (key,),
                (row,),
            )
        return None if row is None or row.deleted else row

    async def query(self, query: Query) -> Sequence[Row]:
        """Return a page of rows."""
        return await self._page(self.plan.listing(query.kind), query)

    async def _page(self, route: Route, query: Query) -> Sequence[Row]:
        self.counters.reads += 1
        rows = await self.stores[route.reader].query(query)
        if route.shadow is not None and self.observer is not None:
            self.observer.offer_query(self.stores[route.reader], self.stores[route.shadow], query, rows)
        return rows

    async def pages(self, query: Query) -> AsyncIterator[Sequence[Row]]:
        """Yield page after page, all from the store that is read when the listing begins."""
        route = self.plan.listing(query.kind)
        while True:
            rows = await self._page(route, query)
            if rows:
                yield rows
            if len(rows) < query.limit:
                return
            query = following(query, rows[-1].position)

    async def summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Count live rows on the store that is read."""
        route = self.plan.listing(request.kind)
        groups = await self.stores[route.reader].summarize(request)
        if route.shadow is not None and self.observer is not None:
            self.observer.offer_summary(self.stores[route.reader], self.stores[route.shadow], request, groups)
        return groups

    def compared(self, kind: KindSpec) -> bool:
        """Tell whether listings of a kind may be compared with those of another store, and so have to be rows."""
        shadow = self.plan.listing(kind).shadow
        return shadow is not None and self.observer is not None and self.observer.samples(kind)

    async def purge(self, kind: KindSpec, before: datetime) -> int:
        """Remove rows by age from the primary and every mirror; returns how many on the primary."""
        route = self.plan.listing(kind)
        stores = [self.stores[name] for name in (route.primary, *route.mirrors)]
        return await purge(stores, kind, self.stamper.tenant, before, self.cache, self.mirrors)

    async def close(self) -> None:
        """Finish every write and read under way."""
        await close_lanes(self.lanes.values())
        for reader in self._readers.values():
            await reader.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
