"""The reference implementation of `gateway.cache.contract.Cache`: what every cache must do, and nothing else.

A `CacheServer` stands for the server: gateways of one process that name the same one share it. Nothing outlives the
process, so it serves tests, examples, and bots of one process; between processes it would be no cache but a fault.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.backend import Health
from gateway.cache.contract import Contact, End, EndAnswer, Fill, FillAnswer, Miss, Terms
from gateway.errors import CacheError, CacheMovedError

__all__ = ["CacheServer", "MemoryCache", "server_named"]


@dataclass(slots=True)
class _Entry:
    """One entry; times are seconds of the server's clock."""

    since: float
    value: bytes | None = None
    value_until: float = 0.0
    lease: str = ""
    lease_until: float = 0.0
    fences: dict[str, float] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    floor: str = ""
    floor_until: float = 0.0
    used: float = 0.0

    def forget(self, now: float) -> None:
        """Drop what has run out."""
        if self.value_until <= now:
            self.value = None
        if self.lease_until <= now:
            self.lease = ""
        if self.floor_until <= now:
            self.floor = ""
        self.fences = {token: until for token, until in self.fences.items() if until > now}
        self.shared.intersection_update(self.fences)

    def holds(self, now: float, terms: Terms) -> bool:
        """Tell whether the entry is still needed."""
        lasting = (self.value is not None, self.lease, self.fences, self.floor)
        return any(lasting) or now - self.used < 2 * terms.probation_ms / 1000


class CacheServer:
    """Entries in a dictionary.

    Args:
        max_entries: Entries kept at most; beyond it, those unused for longest are evicted.
        evicts: Whether it tells its users that it may evict.
        now: Its clock, in seconds.

    Attributes:
        incarnation: Which life of the server this is.
        evicted: How many entries were evicted.
    """

    def __init__(
        self,
        max_entries: int = 100_000,
        *,
        evicts: bool = True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.incarnation = secrets.token_hex(8)
        self.evicts = evicts
        self.evicted = 0
        self._max_entries = max_entries
        self._now = now
        self._entries: dict[str, _Entry] = {}

    def __repr__(self) -> str:
        return f"<CacheServer entries={len(self._entries)}>"

    def __len__(self) -> int:
        return len(self._entries)

    def restart(self, *, keep: bool = False) -> None:
        """Begin another life, with the entries of the one before, or without."""
        self.incarnation = secrets.token_hex(8)
        if not keep:
            self._entries.clear()

    def evict(self, name: str | None = None) -> None:
        """Lose one entry, or all of them."""
        names = list(self._entries) if name is None else [name]
        for one in names:
            if self._entries.pop(one, None) is not None:
                self.evicted += 1

    def get(self, name: str, token: str, terms: Terms) -> bytes | Miss:
        """Return a value, or take a lease."""
        now, entry = self._entry(name, terms)
        if entry.fences or not _settled(entry, now, terms):
            return Miss.FENCED
        if entry.value is not None:
            return entry.value
        if entry.lease:
            return Miss.WAIT
        entry.lease, entry.lease_until = token, now + terms.lease_ms / 1000
        return Miss.LEASED

    def fill(self, fill: Fill, terms: Terms) -> FillAnswer:
        """Keep what the owner of a lease read."""
        now, entry = self._entry(fill.name, terms)
        if entry.lease != fill.token:
            return FillAnswer.REFUSED
        entry.lease = ""
        if entry.fences or fill.mark < entry.floor:
            return FillAnswer.REFUSED
        entry.value, entry.value_until = fill.value, now + terms.value_ms / 1000
        return FillAnswer.STORED

    def begin(self, name: str, token: str, terms: Terms) -> None:
        """Put up a fence."""
        now, entry = self._entry(name, terms)
        entry.value, entry.lease = None, ""
        entry.fences[token] = now + terms.fence_ms / 1000
        if len(entry.fences) > 1:
            entry.shared.update(entry.fences)

    def end(self, end: End, terms: Terms) -> EndAnswer:
        """Take down a fence."""
        now, entry = self._entry(end.name, terms)
        own = entry.fences.pop(end.token, None) is not None
        if not own:
            entry.value, entry.lease = None, ""
        if end.mark:
            entry.floor = max(entry.floor, end.mark)
            entry.floor_until = now + terms.floor_ms / 1000
        if not own:
            return EndAnswer.LOST
        settled = _settled(entry, now, terms)
        if end.value is None or end.token in entry.shared or not settled or end.mark < entry.floor:
            return EndAnswer.LIFTED
        entry.value, entry.value_until = end.value, now + terms.value_ms / 1000
        return EndAnswer.STORED

    def _entry(self, name: str, terms: Terms) -> tuple[float, _Entry]:
        """Return the time and an entry, made if it is not known, without what has run out."""
        now = self._now()
        entry = self._entries.pop(name, None)
        if entry is not None:
            entry.forget(now)
        if entry is None or not entry.holds(now, terms):
            entry = _Entry(now)
        entry.used = now
        self._entries[name] = entry  # at the end: what is at the beginning was unused for longest
        while len(self._entries) > self._max_entries:
            self.evict(next(iter(self._entries)))
        return now, entry


def _settled(entry: _Entry, now: float, terms: Terms) -> bool:
    """Tell whether no fence can be missing that stood before the entry was lost."""
    return not terms.probation_ms or now - entry.since >= terms.probation_ms / 1000


_servers: Final[dict[str, CacheServer]] = {}


def server_named(name: str, max_entries: int) -> CacheServer:
    """Return the server of this process that has a name, made when it is first asked for."""
    return _servers.setdefault(name, CacheServer(max_entries))


class MemoryCache:
    """A connection to a `CacheServer`.

    Args:
        server: The server.
    """

    def __init__(self, server: CacheServer) -> None:
        self.server = server
        self._open = True

    def __repr__(self) -> str:
        return f"<MemoryCache {self.server!r} {'open' if self._open else 'closed'}>"

    async def contact(self) -> Contact:
        """Say which life of the server this is."""
        self._check(None)
        return Contact(self.server.incarnation, self.server.evicts, "in this process's memory")

    async def get(
        self, incarnation: str, names: Sequence[str], token: str, terms: Terms
    ) -> Sequence[bytes | Miss]:
        """Return values, or take leases. Others get their turn meanwhile, as with a server that has to be asked."""
        await asyncio.sleep(0)
        self._check(incarnation)
        return [self.server.get(name, token, terms) for name in names]

    async def fill(self, incarnation: str, fills: Sequence[Fill], terms: Terms) -> Sequence[FillAnswer]:
        """Keep what owners of leases read."""
        self._check(incarnation)
        return [self.server.fill(fill, terms) for fill in fills]

    async def begin(self, incarnation: str, names: Sequence[str], token: str, terms: Terms) -> None:
        """Put up fences."""
        self._check(incarnation)
        for name in names:
            self.server.begin(name, token, terms)

    async def end(self, incarnation: str, ends: Sequence[End], terms: Terms) -> Sequence[EndAnswer]:
        """Take down fences."""
        self._check(incarnation)
        return [self.server.end(end, terms) for end in ends]

    async def health(self) -> Health:
        """Say whether the cache is open and how full it is."""
        if not self._open:
            return Health(ok=False, summary="closed; open the gateway again")
        return Health(ok=True, summary="in memory", details={"entries": len(self.server)})

    async def close(self) -> None:
        """Let go of the server, which stays."""
        self._open = False

    def _check(self, incarnation: str | None) -> None:
        if not self._open:
            raise CacheError("the cache is closed; open the gateway again")
        if incarnation is not None and incarnation != self.server.incarnation:
            raise CacheMovedError("the cache was restarted; it will be used again once everybody knows")
