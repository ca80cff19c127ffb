"""What the processes that use a cache tell about it, for people who look at it from outside.

Counters live in the bots, and whoever looks at night has none of them at hand. So each process leaves its own in the
cache now and then, in one of a few entries that are not rows, and they run out soon after it ended. They are for
people: nothing depends on them, and where two processes take the same entry, one of them goes elsewhere.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from gateway.cache.contract import MARK_DIGITS, Cache, End, Terms
from gateway.telemetry import Counters

__all__ = ["Report", "Reporter", "hit_rate", "read_reports", "totals"]

SLOTS: Final = 64
EVERY: Final = 5.0
"""Seconds between two reports of a process."""
_TERMS: Final = Terms(value_ms=30_000, lease_ms=1_000, fence_ms=2_000, floor_ms=4_000, probation_ms=0)
_COUNTED: Final[tuple[str, ...]] = (
    "cache_hits",
    "cache_misses",
    "cache_skipped",
    "cache_fills_refused",
    "cache_errors",
    "cache_closings",
    "cache_closed_seconds",
)


class Report(msgspec.Struct, frozen=True):
    """What one process tells.

    Attributes:
        author: Stands for the process.
        process: The same for people.
        counts: Its counters since it was started.
        closed: Why it does not read from the cache; empty if it does.
    """

    author: str
    process: str
    counts: dict[str, int]
    closed: str = ""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Report).decode


def hit_rate(hits: int, misses: int) -> float | None:
    """Return the share of reads of cached kinds that the cache answered; None if there were none."""
    return hits / (hits + misses) if hits + misses else None


def totals(reports: Iterable[Report]) -> dict[str, int]:
    """Return the sums of all processes' counters, but for the time closed the longest."""
    sums: dict[str, int] = dict.fromkeys(_COUNTED, 0)
    for report in reports:
        for name, count in report.counts.items():
            if name == "cache_closed_seconds":
                sums[name] = max(sums[name], count)
            elif name in sums:
                sums[name] += count
    return sums


class Reporter:
    """Leaves one process's counters in the cache.

    Args:
        process: The process, for people.
        counters: The gateway's.
        now: The monotonic clock, in seconds.
    """

    def __init__(self, process: str, counters: Counters, now: Callable[[], float] = time.monotonic) -> None:
        self._author = secrets.token_hex(8)
        self._process = process
        self._counters = counters
        self._now = now
        self._due = now()
        self._slot = _any_slot()
        self._closed: bool | None = None

    def __repr__(self) -> str:
        return f"<Reporter {self._process} at {self._slot}>"

    async def publish(self, cache: Cache, incarnation: str, closed: str) -> None:
        """Leave a report if it is time for one, or the cache was closed or opened since the last.

        Args:
            cache: Where.
            incarnation: Which life of its server.
            closed: Why this process does not read from it; empty if it does.

        Raises:
            CacheError: No answer, or another server.
        """
        if self._now() < self._due and bool(closed) is self._closed:
            return
        self._due = self._now() + EVERY
        name = _name(self._slot)
        (found,) = await cache.get(incarnation, [name], self._author, _TERMS)
        if isinstance(found, bytes) and getattr(_read(found), "author", None) != self._author:
            self._slot, self._due = _any_slot(), self._now()
            return
        self._closed = bool(closed)
        counts = {one: int(getattr(self._counters, one)) for one in _COUNTED}
        value = _encode(Report(self._author, self._process, counts, closed))
        await cache.begin(incarnation, [name], self._author, _TERMS)
        mark = f"{time.time_ns():0{MARK_DIGITS}x}"
        await cache.end(incarnation, [End(name, self._author, mark, value)], _TERMS)

    async def withdraw(self, cache: Cache, incarnation: str) -> None:
        """Take the report back, since the process is about to end.

        Raises:
            CacheError: No answer, or another server.
        """
        if self._closed is not None:
            name = _name(self._slot)
            await cache.begin(incarnation, [name], self._author, _TERMS)
            await cache.end(incarnation, [End(name, self._author, "", None)], _TERMS)


async def read_reports(cache: Cache, incarnation: str) -> Sequence[Report]:
    """Return what the processes told within the last half minute.

    Raises:
        CacheError: No answer, or another server.
    """
    found = await cache.get(incarnation, [_name(slot) for slot in range(SLOTS)], "reports", _TERMS)
    reports = [_read(one) for one in found if isinstance(one, bytes)]
    return [one for one in reports if one is not None]


def _name(slot: int) -> str:
    return f"report:{slot}"


def _any_slot() -> int:
    return random.randrange(SLOTS)  # noqa: S311 - spreads the processes, hides nothing


def _read(value: Any) -> Report | None:
    """Return a report; None for what a later release may have left there."""
    try:
        return _decode(value)
    except msgspec.MsgspecError:
        return None
