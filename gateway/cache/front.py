"""The cache in front of the stores: what reads and writes go through.

A read of a cached kind asks the cache first and the store otherwise, and then lets the cache know. A write announces
itself (a *fence* on each entry that it may change), goes to the store, and reports how it ended. The announcement comes
first because a writer may be killed right after the store committed: nobody must find the old row in the cache then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final

from gateway.backend import Capability, Health, WriteBatch, WriteReceipt
from gateway.cache.affected import Result, affected, guarded, results
from gateway.cache.authority import Authority
from gateway.cache.contract import Cache, End, Fill, Miss
from gateway.cache.entries import NO_ROW, OtherShapeError, mark_of, name_of, pack, unpack
from gateway.cache.keeper import Keeper
from gateway.cache.lookups import Found, Lease, Lookups, Place, Tokens
from gateway.cache.outbox import Outbox
from gateway.cache.permit import Epoch
from gateway.cache.reports import hit_rate
from gateway.cache.terms import CacheOptions, TermsMaker
from gateway.dispatch import Store
from gateway.errors import (
    CacheError,
    CacheMovedError,
    GatewayError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    WriteRejectedError,
)
from gateway.lanes.outcomes import Sink
from gateway.reads import KeyReader
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway.routing import Route
from gateway.telemetry import Counters
from gateway.unfinished import watched

__all__ = ["CacheFront", "CachedReader", "CachedStore", "KeyReading", "behind", "held", "reader_for"]

_AGAIN: Final = 0.02
_SENDING: Final = 1.0
_REFUSED: Final = (WriteRejectedError, StoreBusyError, StoreFullError, StoreReadOnlyError)
"""What a store says when it has written nothing."""


class CacheFront:
    """One gateway's use of the cache.

    Args:
        name: Instance name.
        cache: The cache.
        keeper: Looks after the epochs of the stores; `start` starts it, `close` stops it.
        kinds: Which kinds are read from the cache and kept there.
        announced: Those, and every other that another process may cache: their writes are announced.
        options: Bounds.
        counters: The gateway's.
    """

    def __init__(
        self,
        name: str,
        cache: Cache,
        keeper: Keeper,
        kinds: Iterable[KindSpec],
        announced: Iterable[KindSpec],
        options: CacheOptions,
        counters: Counters,
    ) -> None:
        self.name = name
        self.kinds = frozenset(kinds)
        self.announced = self.kinds.union(announced)
        self.counters = counters
        self.keeper = keeper
        self._cache = cache
        self._options = options
        self._terms = TermsMaker(options, keeper)
        self._tokens = Tokens()
        self._lookups = Lookups(cache, keeper, self._terms, self._tokens, options.timeout, counters)
        self._keeping: set[asyncio.Task[None]] = set()
        self._outbox = Outbox(cache, self._terms, options.queue, _SENDING, counters)

    def __repr__(self) -> str:
        return f"<CacheFront {self.name} {self.keeper}>"

    def home_of(self, store: str) -> Authority | None:
        """Return the row of a store; None for one that cannot have any."""
        return next((one for one in self.keeper.authorities if one.store.name == store), None)

    async def start(self) -> None:
        """Begin to look after the epochs."""
        await self.keeper.start()

    async def close(self) -> None:
        """Finish what is under way and release the cache. The stores stay open."""
        await self._lookups.close()
        for task in self._keeping:  # what the stores did not end when they were closed ends with the process
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await self._outbox.close()
        await self.keeper.aclose()
        await self._cache.close()

    async def drained(self) -> None:
        """Return once every fill and every end of a write that was posted before is sent."""
        await self._outbox.drained()

    async def health(self) -> Health:
        """Return what the cache says of itself, and whether it is in use."""
        answer = await self._cache.health()
        return Health(answer.ok, answer.summary, {**answer.details, **self.status()})

    def status(self) -> dict[str, Any]:
        """Return facts for people, JSON-ready."""
        contact = self.keeper.contact
        return {
            "in_use": self.keeper.readable() is not None,
            "kinds": sorted(kind.name for kind in self.kinds),
            "server": None if contact is None else contact.detail,
            "may_evict": None if contact is None else contact.evicts,
            "hit_rate": hit_rate(self.counters.cache_hits, self.counters.cache_misses),
            "closed_seconds": self.counters.cache_closed_seconds,
            "waiting": self._outbox.depth,
            "stores": {one.store.name: one.describe() for one in self.keeper.authorities},
        }

    # Reading

    async def look_up(self, place: Place) -> tuple[bool, Row | None, Lease | None]:
        """Ask the cache for a row.

        Returns:
            Whether it answered; its row, or that there is none; otherwise the right to fill the entry, if it was given.
        """
        answer = await self._lookups.get(place)
        counters = self.counters
        if isinstance(answer, Found):
            try:
                row = unpack(*place, answer.value)
            except ValueError as error:
                counters.cache_errors += not isinstance(error, OtherShapeError)
            else:
                counters.cache_hits += 1
                return True, row, None
        counters.cache_misses += 1
        counters.cache_waits += answer is Miss.WAIT
        counters.cache_fenced += answer is Miss.FENCED
        return False, None, answer if isinstance(answer, Lease) else None

    def fill(self, lease: Lease, place: Place, row: Row | None) -> None:
        """Let the cache know what the store answered to a read that began after the lease was given."""
        value = self._packed(place, row)
        if value is not None:
            mark = NO_ROW if row is None else mark_of(row)
            self._outbox.post(lease.epoch, Fill(lease.name, lease.token, mark, value))

    def _packed(self, place: Place, row: Row | None) -> bytes | None:
        value = pack(*place, row)
        if len(value) > self._options.value_bytes:
            self.counters.cache_too_large += 1
            return None
        return value

    # Writing

    async def announce(self, epoch: Epoch, places: Collection[Place], token: str) -> bool:
        """Put up the fences of a write; tell whether they stand."""
        if epoch.fence < self.keeper.pace.fence:
            return False
        names = [name_of(epoch.name, *place) for place in places]
        terms = self._terms.plain(epoch)
        try:
            async with asyncio.timeout(self._options.announce):
                while True:
                    try:
                        await self._cache.begin(epoch.incarnation, names, token, terms)
                    except CacheMovedError:
                        raise
                    except CacheError:
                        self.counters.cache_errors += 1
                        await asyncio.sleep(_AGAIN)  # closing the cache would cost far more than trying again
                    else:
                        return True
        except (CacheError, TimeoutError):
            self.counters.cache_errors += 1
            return False

    def keep_fences(
        self,
        epoch: Epoch | None,
        token: str,
        places: Collection[Place],
        work: Collection[asyncio.Future[Any]],
    ) -> None:
        """Keep a write announced that was given up, until the store has ended it for certain.

        Args:
            epoch: To which it was announced; None if it was not, because the cache is closed. It stays closed then.
            token: The write's.
            places: Its rows.
            work: What goes on in the store.
        """
        task = asyncio.get_running_loop().create_task(
            self.keeper.kept_from_opening(work)
            if epoch is None
            else self._keep_fences(epoch, token, places, work)
        )
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep_fences(
        self, epoch: Epoch, token: str, places: Collection[Place], work: Collection[asyncio.Future[Any]]
    ) -> None:
        left: Collection[asyncio.Future[Any]] = work
        while left:
            await self.announce(epoch, places, token)  # again: it lasts anew
            _, left = await asyncio.wait(left, timeout=epoch.fence / 4)
        self.finish(epoch, token, dict.fromkeys(places, Result("", None)))

    def new_token(self) -> str:
        """Return a token for a write."""
        return self._tokens.next()

    def finish(self, epoch: Epoch, token: str, found: Mapping[Place, Result]) -> None:
        """Report how an announced write ended, for each of its rows."""
        for place, result in found.items():
            kept = result.row if place.kind in self.kinds else None
            value = None if kept is None else self._packed(place, kept)
            self._outbox.post(epoch, End(name_of(epoch.name, *place), token, result.mark, value))


def held(
    front: CacheFront | None, kind: KindSpec
) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
    """Return a context in which rows of a kind may change beside the cache; it gives what to await before each."""
    return nullcontext(_nothing) if front is None or kind not in front.announced else front.keeper.held()


async def _nothing() -> None:
    """Do nothing."""


def behind(front: CacheFront | None, store: Store) -> tuple[Sink, KeyReading]:
    """Return what writes to a store and what reads from it by key, both behind the cache if there is one for it."""
    reader = KeyReader(store)
    home = None if front is None else front.home_of(store.name)
    if front is None or home is None:
        return store, reader
    return CachedStore(store, front, home), CachedReader(reader, front)


def reader_for(readers: Mapping[str, KeyReading], route: Route) -> KeyReading:
    """Return what reads along a route: from the cache only if it stands in front of every store of the route.

    Who writes one that cannot say whether there is a cache, would not know that he has to announce it.
    """
    reader = readers[route.reader]
    stores = (route.primary, route.reader, *route.mirrors)
    if isinstance(reader, CachedReader) and not all(isinstance(readers[one], CachedReader) for one in stores):
        return reader.uncached
    return reader


class CachedStore:
    """A store whose writes are announced to the cache. What lanes write to.

    Args:
        store: The store.
        front: The cache.
        home: The store's row.
    """

    def __init__(self, store: Store, front: CacheFront, home: Authority) -> None:
        self._store = store
        self._front = front
        self._home = home

    def __repr__(self) -> str:
        return f"<CachedStore {self._store!r}>"

    @property
    def name(self) -> str:
        """Instance name of the store."""
        return self._store.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the store's backend declared."""
        return self._store.capabilities

    async def write(self, batch: WriteBatch) -> WriteReceipt:
        """Store a batch; see `Backend.gateway_write`."""
        front = self._front
        places = affected(batch.steps, front.announced)
        if not places:
            return await self._store.write(guarded(batch, front.announced))
        token = front.new_token()
        announced: list[Epoch] = []

        async def announce(epoch: Epoch) -> bool:
            announced.append(epoch)
            return await front.announce(epoch, places, token)

        epoch: Epoch | None = None
        result = dict.fromkeys(places, Result("", None))
        known = False  # whether it is known what the store did
        try:
            epoch = await front.keeper.before_write(self._home, announce)
        finally:
            for one in announced:
                # One that nothing came of; what was announced to the same epoch again is one with it.
                if epoch is None or one.name != epoch.name:
                    front.finish(one, token, result)
        with watched() as left:
            try:
                receipt = await self._store.write(guarded(batch, front.announced))
                result, known = results(batch.steps, receipt, places), True
            except GatewayError as error:
                known = self._is_without_effect(batch, error)
                raise
            finally:
                if left:
                    front.keep_fences(epoch, token, places, left)
                elif epoch is not None and known:
                    front.finish(epoch, token, result)
        return receipt

    def _is_without_effect(self, batch: WriteBatch, error: GatewayError) -> bool:
        """Tell whether it is certain that nothing of a failed batch was or will be stored.

        Where it is not, the fences stay until they run out.
        """
        whole = len(batch.steps) == 1 or Capability.ATOMIC_BATCH in self._store.capabilities
        return whole and (isinstance(error, _REFUSED) or not isinstance(error, StoreError))


class CachedReader:
    """Reads by key that ask the cache first.

    Args:
        reader: Reads the store.
        front: The cache.
    """

    def __init__(self, reader: KeyReader, front: CacheFront) -> None:
        self._reader = reader
        self._front = front

    def __repr__(self) -> str:
        return f"<CachedReader {self._reader.store!r}>"

    @property
    def uncached(self) -> KeyReader:
        """What reads the store itself."""
        return self._reader

    async def get(self, kind: KindSpec, tenant: str, key: Key) -> Row | None:
        """Return the row of a key, tombstones included; None if there never was one.

        Raises:
            StoreError: The store was asked and could not answer.
        """
        front = self._front
        if kind not in front.kinds:
            return await self._reader.get(kind, tenant, key)
        place = Place(kind, tenant, key)
        answered, row, lease = await front.look_up(place)
        if answered:
            return row
        row = await self._reader.get(kind, tenant, key)
        if lease is not None:
            front.fill(lease, place, row)
        return row

    async def close(self) -> None:
        """Wait for the reads under way."""
        await self._reader.close()


KeyReading = KeyReader | CachedReader
"""What reads rows of one store by key."""
