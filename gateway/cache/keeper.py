"""Keeps watch over the epoch rows: looks at them in time, and opens and closes them as `gateway.cache.permit` says."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.cache.authority import Authority, RowStore, who
from gateway.cache.contract import Cache, Contact
from gateway.cache.permit import Epoch, State, Step, changes, may_read, next_step, patience_of
from gateway.cache.reports import Reporter
from gateway.errors import CacheError, GatewayError, StoreTimeoutError
from gateway.records.version import HybridClock
from gateway.telemetry import Counters

__all__ = ["Keeper", "Pace", "boot_time", "fence_for", "never", "pace_for"]

_log: Final = logging.getLogger(__name__)
_LOOKS: Final = 8
"""Looks at the row within one write, before it is given up."""
_BOOT_TIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)
_ANNOUNCEMENTS: Final = 3
"""Announcements of one write that may come too late, before the cache is left aside."""
_BESIDE: Final = "rows are being written beside the cache"
_FAREWELL: Final = 0.2
"""Seconds for which the end of a process waits for the cache."""


def boot_time() -> float:
    """Return seconds of a clock that goes on while the machine is suspended, where there is one.

    `time.monotonic` stands still then, and a process that wakes up would take its permit for fresh.
    """
    return time.monotonic() if _BOOT_TIME is None else time.clock_gettime(_BOOT_TIME)


async def never(_: Epoch) -> bool:
    """Announce nothing: for who writes without the cache."""
    return False


def fence_for(timeout: float) -> float:
    """Return for how long an announced write may last, in seconds, where calls to stores take `timeout` at most.

    A call is given up an eighth late at most. What is left is time between the announcement and the call.
    """
    return 1.5 * timeout + 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a keeper goes, in seconds.

    Attributes:
        permit: How long a look at a row may be acted on.
        fence: How long a write may last.
        lead: How much of that may pass before the store is called.
        pause: How long a closed row is left alone.
        contact: How long the cache may take to say who it is.
    """

    permit: float
    fence: float
    lead: float
    pause: float
    contact: float


def pace_for(permit: float, timeout: float) -> Pace:
    """Return the pace of a process.

    Args:
        permit: `STORAGE_CACHE_PERMIT`.
        timeout: `STORAGE_TIMEOUT`.
    """
    return Pace(permit, fence_for(timeout), 0.25 * timeout + 0.25, 10 * permit, max(1.0, permit))


class Keeper:
    """The process's share in the agreement about the cache.

    Args:
        stores: The stores whose rows count: each may be written or read by somebody.
        cache: The cache; None for a process that only keeps it closed.
        pace: How fast.
        clock: Where versions of rows come from.
        counters: The gateway's.
        now: The monotonic clock.

    Attributes:
        contact: What the cache said of itself last; None while it cannot be reached.
        closed_some: Whether it closed a row that somebody had opened.
    """

    def __init__(
        self,
        stores: Sequence[RowStore],
        cache: Cache | None,
        pace: Pace,
        clock: HybridClock,
        counters: Counters | None = None,
        now: Callable[[], float] = boot_time,
    ) -> None:
        self.authorities = tuple(Authority(store, pace.permit, clock, now) for store in stores)
        self.pace = pace
        self.contact: Contact | None = None
        self._cache = cache
        self._counters = counters or Counters()
        self._now = now
        self._holders = 0
        self.closed_some = False
        self._worker: asyncio.Task[None] | None = None
        self._reporter = Reporter(who(), self._counters, now)
        self._closed_since: float | None = None
        self._closed_for = 0.0
        self._asked = self._met = now() - 2 * pace.permit

    def __repr__(self) -> str:
        return f"<Keeper {', '.join(map(repr, self.authorities))}>"

    async def start(self) -> None:
        """Look at every row, and begin to keep watch. A store that does not answer now will be asked again."""
        await self.tend()
        self._watch()

    async def keep_closed(self) -> None:
        """Close every row, and keep them closed from now on, whoever opens them.

        Raises:
            StoreError: A row could not be read or closed.
        """
        self._holders += 1
        await self._close_all()
        self._watch()

    def _watch(self) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._run(), name="cache epochs")

    async def aclose(self) -> None:
        """Stop watching. The rows stay as they are: others may be using them."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        if self._cache is not None and self.contact is not None:
            try:
                async with asyncio.timeout(_FAREWELL):
                    await self._reporter.withdraw(self._cache, self.contact.incarnation)
            except (CacheError, TimeoutError):
                return  # it runs out by itself

    def readable(self) -> Epoch | None:
        """Return the epoch that may be read from at this moment; None if none may."""
        return may_read([one.known for one in self.authorities], self._now())

    async def before_write(
        self,
        home: Authority,
        announce: Callable[[Epoch], Awaitable[bool]],
        reason: str = "a writer cannot reach the cache",
    ) -> Epoch | None:
        """Do what must be done before a write to a store, and return the epoch it is announced to; None for none.

        Args:
            home: The row of the store that is to be written.
            announce: Announces the write to the cache in an epoch, and tells whether that worked.
            reason: Why the row is closed if it did not.

        Raises:
            StoreError: The row could not be read or changed, so whether the cache may be left aside is unknown.
        """
        able, looks, late = True, 0, 0
        while True:
            known = home.known
            step, pause = next_step(known, self._now(), able=able, fence=self.pace.fence)
            if step is Step.PLAIN:
                return None
            if step is Step.WAIT:
                await asyncio.sleep(pause)
            elif step is Step.LOOK or known is None:
                looks = _checked(looks + 1, home)
                await home.look(self._now())
            elif step is Step.CLOSE:
                looks = _checked(looks + 1, home)
                longest = replace(known.epoch, fence=max(known.epoch.fence, self.pace.fence))
                await self._change(home, longest, State.CLOSED, reason)
            else:
                began = self._now()
                able = await announce(known.epoch)
                if able and self._now() - began <= self.pace.lead:
                    return known.epoch
                late += 1
                able = able and late < _ANNOUNCEMENTS

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Keep the cache closed for as long as the context lasts: rows are going to change beside it.

        Yields:
            What to await before each change: it makes sure that the cache is still closed, since this process may have
            been stopped meanwhile.

        Raises:
            StoreError: A row could not be closed.
        """
        self._holders += 1
        try:
            await self._close_all()
            yield self._close_all
        finally:
            self._holders -= 1

    async def kept_from_opening(self, work: Collection[asyncio.Future[Any]]) -> None:
        """Keep the cache from being opened until some work is done that writes beside it."""
        self._holders += 1
        try:
            await asyncio.wait(work)
        finally:
            self._holders -= 1

    async def _close_all(self) -> None:
        for home in self.authorities:
            await self.before_write(home, never, _BESIDE)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval())
            try:
                await self.tend()
            except Exception:  # noqa: BLE001 - the watch must go on, or the cache would stay unused without a word
                self._counters.cache_errors += 1
                _log.exception("looking after the cache's epoch failed; it goes on")

    def _interval(self) -> float:
        """Return how long until the next look.

        Whoever only keeps rows closed may leave one alone for as long as writers may act on what they saw.
        """
        known = [one.known for one in self.authorities if one.known is not None]
        if self._cache is not None or not known:
            return self.pace.permit / 3
        return max(self.pace.permit, min(patience_of(one.epoch) for one in known)) / 3

    async def tend(self) -> None:
        """Look at every row and at the cache, and make the changes that are due."""
        now = self._now()
        looks = [self._look(one, now) for one in self.authorities]
        if now - self._asked >= self.pace.permit and self._cache is not None:
            self._asked = now
            looks.append(self._ask(self._cache))
        await asyncio.gather(*looks)
        self._count_closed()
        due = changes(
            [one.known for one in self.authorities],
            self._now(),
            incarnation=None if self.contact is None else self.contact.incarnation,
            wanted=Epoch(State.OPENING, secrets.token_hex(8), "", self.pace.permit, self.pace.fence),
            pause=self.pace.pause,
            holding=self._holders > 0,
        )
        for change in due:
            home = self.authorities[change.at]
            try:
                await self._change(home, change.epoch, change.epoch.state, change.reason)
            except GatewayError as error:
                self._note(f"{home.store.name}: the cache's epoch could not be changed: {error}")

    async def _look(self, home: Authority, now: float) -> None:
        try:
            await home.look(now)
        except GatewayError as error:
            self._note(f"{home.store.name}: the cache's epoch could not be read: {error}")

    async def _ask(self, cache: Cache) -> None:
        """Ask the cache who it is. That it misses a question or two does not mean that it is gone."""
        try:
            async with asyncio.timeout(self.pace.contact):
                self.contact = contact = await cache.contact()
                self._met = self._now()
                await self._reporter.publish(cache, contact.incarnation, self._why_closed())
        except (CacheError, TimeoutError) as error:
            self._counters.cache_errors += 1
            if self.contact is not None and self._now() - self._met > 3 * self.pace.permit:
                self.contact = None
                _log.warning("the cache cannot be reached; the stores answer meanwhile: %s", error)

    def _why_closed(self) -> str:
        """Return why the cache is not read now, for people; empty if it is."""
        if self.readable() is not None:
            return ""
        found = []
        for home in self.authorities:
            row = home.describe()
            if row is None:
                found.append(f"{home.store.name}: nobody has opened the cache yet")
            elif row["state"] != State.OPEN:
                found.append(
                    f"{home.store.name}: {row['state']} since {row['changed_at']}, because {row['reason']}"
                )
        return "; ".join(found) or "what the stores say of it could not be read in time"

    def _count_closed(self) -> None:
        """Count the time for which the cache could not be read, from one look to the next."""
        if self._cache is None:
            return
        now = self._now()
        if self._closed_since is not None:
            self._closed_for += now - self._closed_since
            self._counters.cache_closed_seconds = int(self._closed_for)
        self._closed_since = now if self.readable() is None else None

    async def _change(self, home: Authority, epoch: Epoch, state: State, reason: str) -> None:
        known = home.known
        if known is None:
            return
        changed = await home.change(known, replace(epoch, state=state), reason)
        if changed:
            closed = state is State.CLOSED and known.epoch.state is not State.CLOSED
            self._counters.cache_closings += closed
            self.closed_some = self.closed_some or closed
            _log.info("%s: the cache is %s: %s", home.store.name, state.value, reason)

    def _note(self, sentence: str) -> None:
        self._counters.cache_errors += 1
        _log.debug("%s", sentence)


def _checked(looks: int, home: Authority) -> int:
    """Count the looks of one write: a store that always answers too late must not keep it for ever."""
    if looks > _LOOKS:
        raise StoreTimeoutError(
            "whether the cache is in use could not be found out in time; nothing was written. Check the store, or "
            "raise STORAGE_CACHE_PERMIT",
            backend=home.store.name,
        )
    return looks
