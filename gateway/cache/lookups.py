"""Asking the cache for many keys at once: while one call is under way, those who come meanwhile share the next."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, NamedTuple

from gateway.cache.breaker import Breaker
from gateway.cache.contract import Cache, Miss
from gateway.cache.entries import name_of
from gateway.cache.keeper import Keeper
from gateway.cache.permit import Epoch
from gateway.cache.sampling import Sampling
from gateway.cache.terms import TermsMaker
from gateway.deadlines import Deadlines
from gateway.errors import CacheError
from gateway.records.kind import KindSpec
from gateway.records.row import Key
from gateway.telemetry import Counters

__all__ = ["Found", "Lease", "Lookups", "Place", "Tokens"]

MAX_NAMES: Final = 200
"""Entries of one call, at most."""


class Place(NamedTuple):
    """A row as a reader names it."""

    kind: KindSpec
    tenant: str
    key: Key


class Lease(NamedTuple):
    """The right to fill an entry.

    Attributes:
        epoch: To which the entry belongs.
        name: Of the entry.
        token: The lease's.
    """

    epoch: Epoch
    name: str
    token: str


@dataclass(frozen=True, slots=True)
class Found:
    """What the cache has.

    Attributes:
        value: The bytes.
    """

    value: bytes


Answer = Found | Lease | Miss | None
"""What a lookup comes to; None if the cache was not asked, or did not answer."""


def _key_number(place: Place) -> int:
    """Return a number that is the same for the same row, in this process."""
    return hash((place.tenant, place.key))


class Tokens:
    """Makes tokens that nobody else has."""

    __slots__ = ("_numbers", "_prefix")

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = count()

    def next(self) -> str:
        """Return one."""
        return f"{self._prefix}.{next(self._numbers):x}"


class Lookups:
    """Reads of the cache.

    Args:
        cache: The cache.
        keeper: Says whether it may be read.
        terms: Makes the terms of calls.
        tokens: Makes tokens.
        timeout: Seconds after which a call is given up.
        counters: The gateway's.
    """

    def __init__(
        self,
        cache: Cache,
        keeper: Keeper,
        terms: TermsMaker,
        tokens: Tokens,
        timeout: float,
        counters: Counters,
    ) -> None:
        self._cache = cache
        self._keeper = keeper
        self._terms = terms
        self._tokens = tokens
        self._deadlines = Deadlines(timeout)
        self._counters = counters
        self._breaker = Breaker()
        self._samplings: dict[KindSpec, Sampling] = {}
        self._waiting: list[tuple[Place, asyncio.Future[Answer]]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Lookups {self._breaker}>"

    async def get(self, place: Place) -> Answer:
        """Return what the cache has for a row, as of a moment after this call began. Never raises for the cache."""
        sampling = self._samplings.get(place.kind)
        if sampling is None:
            sampling = self._samplings[place.kind] = Sampling()
        if sampling.sparse and not sampling.asks(_key_number(place)):
            self._counters.cache_skipped += 1
            return None
        answer = await self._find(place)
        if answer is not None:
            sampling.saw(hit=isinstance(answer, Found))
        return answer

    async def _find(self, place: Place) -> Answer:
        if self._waiting is not None:
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting.append((place, future))
            return await future
        self._waiting = []
        try:
            return (await self._ask((place,)))[0]
        finally:
            self._next()

    async def close(self) -> None:
        """Wait for the calls under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _next(self) -> None:
        """Ask for what queued up meanwhile, apart from the caller that was first."""
        if not self._waiting:
            self._waiting = None
            return
        task = asyncio.get_running_loop().create_task(self._drain())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_NAMES], self._waiting[MAX_NAMES:]
                await self._serve(batch)
        finally:
            left, self._waiting = self._waiting or [], None
            for _, future in left:  # only if this task was cancelled; the stores answer then
                _resolve(future, None)

    async def _serve(self, batch: Sequence[tuple[Place, asyncio.Future[Answer]]]) -> None:
        places = list(dict.fromkeys(place for place, _ in batch))
        answers: dict[Place, Answer] = dict.fromkeys(places)
        try:
            answers.update(zip(places, await self._ask(places), strict=True))
        finally:
            for place, future in batch:
                answer = answers[place]
                _resolve(future, answer)
                if isinstance(answer, Lease):
                    answers[place] = Miss.WAIT  # one of those who want the same row fills, not all

    async def _ask(self, places: Sequence[Place]) -> Sequence[Answer]:
        """Ask for some rows, if the cache may be read now."""
        epoch = self._keeper.readable()
        if epoch is None or not self._breaker.allows(time.monotonic()):
            return [None] * len(places)
        names = [name_of(epoch.name, *place) for place in places]
        token = self._tokens.next()
        try:
            found = await self._within(epoch, names, token)
        except (CacheError, TimeoutError):
            self._counters.cache_errors += 1
            self._breaker.failed(time.monotonic())
            return [None] * len(places)
        self._breaker.succeeded()
        return [
            Found(one) if isinstance(one, bytes) else Lease(epoch, name, token) if one is Miss.LEASED else one
            for one, name in zip(found, names, strict=True)
        ]

    async def _within(self, epoch: Epoch, names: Sequence[str], token: str) -> Sequence[bytes | Miss]:
        """Ask, for no longer than the timeout; one timer watches over all calls, see `gateway.deadlines`."""
        call = self._deadlines.begin()
        try:
            return await self._cache.get(epoch.incarnation, names, token, self._terms.plain(epoch))
        except asyncio.CancelledError:
            if self._deadlines.gave_up(call):
                raise TimeoutError from None
            raise
        finally:
            self._deadlines.end(call)


def _resolve(future: asyncio.Future[Answer], answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)
