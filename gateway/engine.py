"""The engine: rows in, rows out, along the routes of the moment. `Gateway` puts records and names on top.

Every operation takes the route once and keeps it to its end. When the routes change, plain writes go on at once:
both stores take both old and new writes, and versions decide. Only read-modify-write operations wait until what
went along the old routes has arrived, since they must read the latest row.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from typing import Final, Protocol

from gateway.api import Ack
from gateway.backend import Capability, GroupSummary, KeyRef, Summarize, Update
from gateway.cache.front import CacheFront, KeyReading, behind, held, reader_for
from gateway.columns import ColumnBatch, by_column
from gateway.dispatch import Store
from gateway.errors import MirrorWriteError, StoreError
from gateway.lanes import Lane, close_lanes
from gateway.outcomes import Computed, LaneOptions, Outcome
from gateway.query import Query, following
from gateway.records.kind import KindSpec, Record, Shape
from gateway.records.row import Key, Row
from gateway.records.stamp import Stamper
from gateway.routing import Route, RoutingPlan
from gateway.telemetry import Counters

__all__ = ["Engine", "Path", "ReadObserver", "acknowledge"]

Apply = Callable[[Sequence[Row | None]], Sequence[Row]]
CHUNK: Final = 2_500
SLICE: Final = 250


@dataclass(frozen=True, eq=False, slots=True)
class Path:
    """A route with everything looked up. One object a route, so that writes can be grouped by it cheaply.

    Attributes:
        route: The names.
        lane: Lane of the primary.
        followers: Lanes of the mirrors.
        reader: Answers reads by key.
        by_column: Whether one of the stores takes rows by column.
    """

    route: Route
    lane: Lane
    followers: tuple[Lane, ...]
    reader: KeyReading
    by_column: bool


class ReadObserver(Protocol):
    """Gets to see reads after they were answered, to repeat some on the shadow. Must return at once and never raise."""

    def offer_keys(
        self,
        reader: Store,
        shadow: Store,
        kind: KindSpec,
        tenant: str,
        keys: Sequence[Key],
        rows: Sequence[Row | None],
    ) -> None:
        """Offer a read by key."""
        ...

    def offer_query(self, reader: Store, shadow: Store, query: Query, rows: Sequence[Row]) -> None:
        """Offer a listing."""
        ...


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
    ) -> None:
        self.stores = stores
        self.stamper = stamper
        self.counters = counters or Counters()
        self.observer, self.cache = observer, cache
        # Only lanes and reads by key go through the cache. Who compares stores, or reads many keys, wants the stores.
        ends = {name: behind(cache, store) for name, store in stores.items()}
        self.lanes = {name: Lane(sink, lanes, self.counters) for name, (sink, _) in ends.items()}
        self._readers = {name: reader for name, (_, reader) in ends.items()}
        self._plan, self._paths = plan, dict[KindSpec, Path]()
        self._by_route: dict[Route, Path] = {}
        self._settling: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def plan(self) -> RoutingPlan:
        """The routes of this moment."""
        return self._plan

    def switch(self, plan: RoutingPlan) -> None:
        """Follow other routes from now on; operations under way keep theirs."""
        self._plan = plan
        self._paths = {}
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
        path = self._paths.get(kind)
        if path is not None:
            return path
        plan = self._plan
        path = self._path(plan.route(kind, self.stamper.tenant, key))
        if not plan.keyed(kind):
            self._paths[kind] = path  # every key of the kind goes this way, so look it up once
        return path

    def listing(self, kind: KindSpec) -> Path:
        """Return the way of queries over many keys."""
        return self._path(self._plan.listing(kind))

    def _path(self, route: Route) -> Path:
        path = self._by_route.get(route)
        if path is None:
            followers = tuple(self.lanes[name] for name in route.mirrors)
            lane = self.lanes[route.primary]
            columnar = any(Capability.COLUMNS in one.store.capabilities for one in (lane, *followers))
            path = Path(route, lane, followers, reader_for(self._readers, route), columnar)
            self._by_route[route] = path
        return path

    async def put(self, kind: KindSpec, record: Record) -> Ack:
        """Store one record.

        Raises:
            StoreError: The primary did not commit it.
            MirrorWriteError: The primary did, a mirror did not.
        """
        if self._settling is not None and kind.shape is not Shape.LOG:
            await self._settled()
        row = self.stamper.stamp(kind, record)
        path = self.path(kind, row.values[: len(kind.key)])
        try:
            outcome = await path.lane.write((row,), path.followers)
        except StoreError as error:
            if kind.shape is Shape.LOG:
                error.retry_with = {"record_id": str(row.values[0])}
            raise
        if outcome.lost and kind.shape is not Shape.LOG:
            row, outcome = await self._put_again(row, path, outcome)
        return _ack(row, path.route, outcome)

    async def _settled(self) -> None:
        """Wait until everything that follows the routes of before has arrived.

        What reads before it writes, and what replaces a row, would otherwise overtake a change that is computed only
        when the old primary gets to it, and so is newer than it looks.
        """
        while self._settling is not None:
            await self._settling.wait()

    async def _put_again(self, row: Row, path: Path, outcome: Outcome) -> tuple[Row, Outcome]:
        """Repeat a write that lost against a row of a machine whose clock is ahead: what is written last must win.

        Once is enough: what the second attempt loses against came after the first had looked, so it was written
        while this call was under way, and counts as the later of the two.
        """
        self.stamper.clock.observe(outcome.superseded)
        row = self.stamper.restamp(row)
        return row, await path.lane.write((row,), path.followers)

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
        if self._settling is not None and any(row.kind.shape is not Shape.LOG for row in rows):
            await self._settled()
        if isinstance(rows, ColumnBatch) and not self._plan.keyed(rows.kind):
            await self._put_chunk(self.path(rows.kind, ()), rows, latest)
            return
        ways: dict[Path, list[Row]] = {}
        for kind, group in groupby(rows, lambda row: row.kind):
            if not self._plan.keyed(kind):
                ways.setdefault(self.path(kind, ()), []).extend(group)
                continue
            for row in group:
                ways.setdefault(self.path(kind, row.key), []).append(row)
        chunks = [(path, part) for path, own in ways.items() for part in _chunks(own)]
        outcomes = await asyncio.gather(
            *(self._put_chunk(path, part, latest) for path, part in chunks), return_exceptions=True
        )
        # A primary's failure matters more than a mirror's, whichever came first.
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in sorted(failures, key=lambda failure: isinstance(failure, MirrorWriteError)):
            raise failure

    async def _put_chunk(self, path: Path, rows: Sequence[Row], latest: bool) -> None:
        outcome = await path.lane.write(by_column(rows) if path.by_column else rows, path.followers)
        lost = [rows[at] for at in outcome.lost if rows[at].kind.shape is not Shape.LOG] if latest else []
        # A key that comes twice in one call loses against itself; only its last row is what is true now.
        last = {(row.kind, row.key): row for row in rows} if lost else {}
        for row in lost:
            if last[row.kind, row.key] is row:
                row, again = await self._put_again(row, path, outcome)
                _ack(row, path.route, again)
        _ack(rows[-1], path.route, outcome)

    async def put_many(self, records: Iterable[Record], kind_of: Callable[[type[Record]], KindSpec]) -> int:
        """Store many records, some thousand rows at a time, and return how many."""
        count = 0
        rows: list[Row] = []
        writing: asyncio.Task[None] | None = None
        try:
            for kind, part in _slices(records, kind_of):
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
        if self._settling is not None:
            await self._settled()
        path = self.path(lead.kind, lead.key)
        self.stores[path.route.primary].require(Capability.UPDATE, "read and write in one step")
        if path.followers and path.route.primary != self._plan.backends[0]:
            apply = await self._knowing_both(path, reads, apply)
        step = Update(self.stamper.tenant, tuple(reads), Computed(apply))
        outcome = await path.lane.write((step,), path.followers)
        if outcome.failures:
            version = self.stamper.clock.last
            ack = Ack(lead.kind.name, lead.key, None, version, path.route.primary, outcome.mirrored)
            raise MirrorWriteError(ack, outcome.failures)
        return outcome

    async def _knowing_both(self, path: Path, reads: Sequence[KeyRef], apply: Apply) -> Apply:
        """Return `apply` as it is to run on a new store: on the newer of both stores' rows.

        A new store may lack a row that nobody copied. Computed from nothing, the result would be the newest version of
        it everywhere, and the old store's row, which is the way back, would be gone.
        """
        old = self.stores[path.route.mirrors[0]]
        rows = [(await old.get(kind, self.stamper.tenant, (key,)))[0] for kind, key in reads]

        def on_newer(current: Sequence[Row | None]) -> Sequence[Row]:
            return apply([_newer(own, other) for own, other in zip(current, rows, strict=True)])

        return on_newer

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
        return await self._page(self._plan.listing(query.kind), query)

    async def _page(self, route: Route, query: Query) -> Sequence[Row]:
        self.counters.reads += 1
        rows = await self.stores[route.reader].query(query)
        if route.shadow is not None and self.observer is not None:
            self.observer.offer_query(self.stores[route.reader], self.stores[route.shadow], query, rows)
        return rows

    async def pages(self, query: Query) -> AsyncIterator[Sequence[Row]]:
        """Yield page after page, all from the store that is read when the listing begins."""
        route = self._plan.listing(query.kind)
        while True:
            rows = await self._page(route, query)
            if rows:
                yield rows
            if len(rows) < query.limit:
                return
            query = following(query, rows[-1].position)

    async def summarize(self, request: Summarize) -> Sequence[GroupSummary]:
        """Count live rows on the store that is read."""
        return await self.stores[self._plan.listing(request.kind).reader].summarize(request)

    async def purge(self, kind: KindSpec, before: datetime) -> int:
        """Remove rows by age from the primary and every mirror; returns how many on the primary."""
        route = self._plan.listing(kind)
        for name in (route.primary, *route.mirrors):
            self.stores[name].require(Capability.PURGE, "remove rows by age")
        async with held(self.cache, kind) as ready:
            await ready()
            removed = await self.stores[route.primary].purge(kind, self.stamper.tenant, before)
            for name in route.mirrors:
                await ready()
                await self.stores[name].purge(kind, self.stamper.tenant, before)
        return removed

    async def close(self) -> None:
        """Finish every write and read under way."""
        await close_lanes(self.lanes.values())
        for reader in self._readers.values():
            await reader.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _slices(
    records: Iterable[Record], kind_of: Callable[[type[Record]], KindSpec]
) -> Iterator[tuple[KindSpec, list[Record]]]:
    """Yield a few records at a time, each time of one kind."""
    for model, group in groupby(records, type):
        kind = kind_of(model)
        while part := list(islice(group, SLICE)):
            yield kind, part


def _chunks(rows: Sequence[Row]) -> list[Sequence[Row]]:
    return [rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK)]


def _newer(own: Row | None, other: Row | None) -> Row | None:
    if own is None or other is None:
        return own or other
    return max(own, other, key=lambda row: row.stamp)


def acknowledge(row: Row, primary: str = "", mirrors: tuple[str, ...] = ()) -> Ack:
    """Return what a caller learns of a row; without a primary, that it is buffered."""
    kind = row.kind
    key = row.values[: len(kind.key)]
    record_id = key[0] if kind.shape is Shape.LOG else None
    return Ack(kind.name, key, record_id, row.version, primary, mirrors)  # type: ignore[arg-type] # ids are text


def _ack(row: Row, route: Route, outcome: Outcome) -> Ack:
    ack = acknowledge(row, route.primary, outcome.mirrored)
    if outcome.failures:
        raise MirrorWriteError(ack, outcome.failures)
    return ack
