"""All mirrors of one gateway: their journals, feeds and relays, and what operators decide about them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any, Final

from gateway.backend import Capability
from gateway.dispatch import Store
from gateway.errors import GatewayClosedError, GatewayError, JournalFullError, StoreError
from gateway.journal.file import JournalFile
from gateway.journal.numbers import Numbers
from gateway.journal.sink import JournaledStore
from gateway.lanes.outcomes import Sink
from gateway.mirror.arrival import Arrivals
from gateway.mirror.bounds import Bounds
from gateway.mirror.circuit import Circuit
from gateway.mirror.contract import Feeding, FeedOptions, Pair, RelayOptions
from gateway.mirror.feed import Feed
from gateway.mirror.homes import Home, home_of
from gateway.mirror.lease import Lease
from gateway.mirror.relay import Relay
from gateway.mirror.watch import Watch
from gateway.records.kind import KindSpec
from gateway.records.row import Row
from gateway.records.version import COUNTER_BITS, HybridClock, version_at
from gateway.shadow.awaited import CaughtUp
from gateway.telemetry import Counters

__all__ = ["MirrorOptions", "Mirrors"]

_log: Final = logging.getLogger(__name__)
_NEVER: Final = 2**63
_LOOKING: Final = 10.0
_SETTLING: Final = 5.0


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """Bounds and paces.

    Attributes:
        bounds: How much may wait for each mirror.
        wait: Seconds that a write waits for room in a full journal.
        look: Seconds between two looks at the states of mirrors.
        closing: Seconds that feeds get to finish when the gateway closes.
        feed: Of each feed.
        relay: Of each relay.
    """

    bounds: Bounds = field(default_factory=Bounds)
    wait: float = 30.0
    look: float = 1.0
    closing: float = 5.0
    feed: FeedOptions = field(default_factory=FeedOptions)
    relay: RelayOptions = field(default_factory=RelayOptions)


RefusedRow = Callable[[str, str, Row, GatewayError], None]
"""Is told of a row that a mirror refuses for good: primary, mirror, row and why. Must return at once."""


class Mirrors:
    """The mirrors of one gateway. Implements `gateway.mirror.contract.Mirroring`.

    Every two stores are a pair in both directions, whatever the routes are now: what one of them noted for the other
    is handed over even if it leads no more.

    Args:
        stores: The opened stores by instance name.
        sinks: What writes to each, behind the cache if there is one.
        kinds: The registered kinds.
        tenant: Whose rows.
        clock: Where versions come from.
        journal: File of the local journal, for primaries that cannot keep intents.
        refused: Is told of rows that a mirror refuses for good.
        options: Bounds and paces.
        counters: The gateway's.

    Attributes:
        caught_up: Tells whether writes have reached a mirror.
    """

    def __init__(
        self,
        stores: Mapping[str, Store],
        sinks: Mapping[str, Sink],
        kinds: Iterable[KindSpec],
        tenant: str,
        clock: HybridClock,
        journal: Path,
        refused: RefusedRow,
        options: MirrorOptions | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.numbers = Numbers()
        self._options = options or MirrorOptions()
        self._tenant = tenant
        self._clock = clock
        self._refused = refused
        self._counters = counters or Counters()
        self._file = JournalFile(journal)
        known = tuple(kinds)
        self.homes = {
            name: home_of(store, self._file, known, tenant, clock) for name, store in stores.items()
        }
        self._watches = {
            (one, other): self._pair(stores[one], stores[other], sinks[other])
            for one, other in permutations(stores, 2)
        }
        self.caught_up: CaughtUp = Arrivals(self._watches, self.homes)
        self._to = {target: watch for (_, target), watch in self._watches.items()}
        self._given_up: frozenset[str] = frozenset()
        self._noted: set[str] = set()
        self._full = self._closed = False
        # How far this gateway may count on until a journal may be full; looked at before every write.
        self._count_from = _NEVER
        self._turned = asyncio.Event()
        self._counting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Mirrors {' '.join(f'{one}->{other}' for one, other in self._watches)}>"

    def _pair(self, primary: Store, mirror: Store, sink: Sink) -> Watch:
        home, options = self.homes[primary.name], self._options
        alone = Capability.MULTI_PROCESS not in primary.capabilities
        pair = Pair(primary, sink, home.journal, self._tenant, Circuit(), alone)
        lease = Lease(home.states, mirror.name, self.numbers.owner)
        feed = Feed(pair, self.numbers.owner, options.feed, self._counters)

        def refused(_: str, row: Row, error: GatewayError) -> None:
            self._refused(primary.name, mirror.name, row, error)

        relay = Relay(pair, feed, lease, options.relay, refused)
        numbers = self.numbers
        return Watch(pair, mirror, home.states, feed, relay, lease, options.bounds, lambda: numbers.upcoming)

    async def start(self) -> None:
        """Look once at what operators decided and what is left from before, then begin to replay and to look on.

        A store that does not answer is not waited for longer than one look may take.
        """
        await asyncio.gather(*map(self._look_once, self._watches.values()))
        for watch in self._watches.values():
            watch.relay.start()
            # A task for each: a store that hangs must not hold up what is decided about the other.
            self._tasks.append(asyncio.create_task(self._look_after(watch), name=f"look after {watch!r}"))

    async def _look_after(self, watch: Watch) -> None:
        while True:
            await asyncio.sleep(self._options.look)
            await self._look_once(watch)

    async def _look_once(self, watch: Watch) -> None:
        try:
            async with asyncio.timeout(_LOOKING):
                await watch.look()
        except TimeoutError:
            watch.lost = f"no answer within {_LOOKING:g} s"
        except Exception as error:  # noqa: BLE001 - looking on matters more than whatever this was
            _log.exception("%r failed", watch)
            watch.lost = repr(error)
        self._draw()

    def _draw(self) -> None:
        """Draw the conclusions that writers look at."""
        watches = self._watches.values()
        self._given_up = frozenset(watch.pair.target for watch in watches if watch.given_up)
        full = any(watch.full is not None for watch in watches)
        self._count_from = min((watch.count_from for watch in watches), default=_NEVER)
        self._full = full
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    @property
    def crowded(self) -> bool:
        """Whether `admit` has anything to say; see `Mirroring.crowded`."""
        return self._full or self.numbers.upcoming >= self._count_from

    def journaled(self, sink: Sink) -> Sink:
        """Return what the lane of a store writes to; see `Mirroring.journaled`."""
        notebook = self.homes[sink.name].notebook
        return sink if notebook is None else JournaledStore(sink, notebook)

    def feed(self, primary: str, mirror: str) -> Feeding:
        """Return the feed of a pair; see `Mirroring.feed`."""
        return self._watches[primary, mirror].feed

    def home(self, primary: str) -> Home:
        """Return where the intents of a primary are."""
        return self.homes[primary]

    async def admit(self, targets: tuple[str, ...]) -> None:
        """Wait while a journal is full and the policy is to block; see `Mirroring.admit`."""
        end = time.monotonic() + self._options.wait
        if self.numbers.upcoming >= self._count_from:
            await self._recount()
        while True:
            full = next((one for one in map(self._to.__getitem__, targets) if one.full is not None), None)
            if full is None:
                return
            if self._closed:
                raise GatewayClosedError("the gateway is closed; nothing was written")
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    await self._turned.wait()
            except TimeoutError:
                raise _full(full) from None

    async def _recount(self) -> None:
        """Count the journals now, once for all who ask."""
        async with self._counting:
            if self.numbers.upcoming < self._count_from:
                return
            for watch in self._watches.values():
                await self._recount_one(watch)
            self._draw()

    async def _recount_one(self, watch: Watch) -> None:
        target = watch.pair.target
        if target not in self._noted:
            watch.postpone()  # it got nothing, and its journal may be on a store that hangs
            return
        self._noted.discard(target)
        try:
            async with asyncio.timeout(_LOOKING):
                await watch.count()
        except (GatewayError, TimeoutError) as error:  # the write itself will find out what is wrong
            watch.lost = str(error) or f"no answer within {_LOOKING:g} s"
            watch.postpone()
            self._noted.add(target)

    def noted(self, targets: tuple[str, ...]) -> tuple[str, ...]:
        """Return the mirrors whose intents are written; see `Mirroring.noted`."""
        self._noted.update(targets)
        if not self._given_up:
            return targets
        # A process that has not heard for long may have missed that intents are written again.
        return tuple(one for one in targets if one not in self._given_up or not self._to[one].believed)

    async def drained(self, primary: str, mirror: str, before: int, deadline: float) -> bool:
        """Hand over what a pair's journal has before a version; see `Mirroring.drained`."""
        watch, end = self._watches[primary, mirror], time.monotonic() + deadline
        try:
            async with asyncio.timeout(deadline):
                await watch.feed.flush()
        except TimeoutError:
            return False
        return await watch.relay.drain(end - time.monotonic(), before=before)

    async def settled(self, primary: str, mirror: str) -> bool:
        """Return once nothing is on its way that the primary had when this was called; see `Mirroring.settled`."""
        # A process that only removes rows has never looked at its clock for a version.
        now = version_at(datetime.now(UTC)) + (1 << COUNTER_BITS)
        watch, before = self._watches[primary, mirror], max(self._clock.last + 1, now)
        with contextlib.suppress(StoreError):  # the mirror has it; the journal will be told later
            await watch.feed.flush()
        await watch.relay.settled()
        if watch.pair.exclusive:
            return True
        if watch.state is not None and watch.state.paused:
            return True  # by everybody: what is left is read from the primary again, once it is not
        return await watch.relay.drain(_SETTLING, before=before, politely=True)

    async def look(self) -> None:
        """Look now, not within the next second."""
        await asyncio.gather(*map(self._look_once, self._watches.values()))

    def status(self) -> list[dict[str, Any]]:
        """Return facts for people, JSON-ready, for each pair."""
        return [watch.status() for watch in self._watches.values()]

    async def close(self) -> None:
        """Stop the relays, let the feeds finish for a while, give leases back. Calling it again does nothing."""
        self._closed = True
        self._turned.set()  # who waits for room learns that there will be none
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        watches = self._watches.values()
        await asyncio.gather(*(watch.relay.aclose() for watch in watches))
        await asyncio.gather(*(watch.feed.aclose(self._options.closing) for watch in watches))
        await self._file.close()


def _full(watch: Watch) -> JournalFullError:
    source, target = watch.pair.primary.name, watch.pair.target
    contact = watch.pair.circuit.contact
    because = f" ({contact.error})" if contact.error else ""
    return JournalFullError(
        f"{target} does not keep up{because}: {watch.full}. Nothing was written. Bring {target} back, or "
        f"`gateway mirror resume {target}` if it is paused; or raise the bound; or set STORAGE_JOURNAL_POLICY=degrade "
        f"and later run `gateway copy --from {source} --to {target}`",
        target=target,
    )
