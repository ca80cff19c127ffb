"""Versions: a 64-bit hybrid logical clock, and the record ids made from it.

A version is `milliseconds since 1970 << 16 | counter`. It grows strictly within a process, never falls behind a
version the process has seen, and stays close to the wall clock. See Kulkarni et al., "Logical Physical Clocks"
(2014), of which this is the compact form.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from gateway.errors import ClockError
from gateway.records.types import EPOCH

__all__ = [
    "COUNTER_BITS",
    "MAX_VERSION",
    "HybridClock",
    "RecordIds",
    "made_by_gateway",
    "made_with",
    "version_at",
    "version_time",
]

COUNTER_BITS: Final = 16
MAX_VERSION: Final = 2**63 - 1
DEFAULT_MAX_AHEAD: Final = timedelta(minutes=1)

_TIME: Final = -1 << COUNTER_BITS
_MARKS: Final = tuple(f"{8 | low >> 2:x}{low & 3:x}" for low in range(16))
"""What an id has after its first 64 bits: the variant of a UUID around the counter's lowest 4 bits."""
_ID_PATTERN: Final = re.compile(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-3][0-9a-f]{14}")
_MILLISECOND: Final = timedelta(milliseconds=1)


def version_at(moment: datetime) -> int:
    """Return the smallest version of a moment; used for history, which must lose against every live write.

    Args:
        moment: Aware time, not before 1970.
    """
    return max(0, (moment - EPOCH) // _MILLISECOND) << COUNTER_BITS


def version_time(version: int) -> datetime:
    """Return the wall-clock time in a version, in UTC, to the millisecond."""
    return EPOCH + timedelta(milliseconds=version >> COUNTER_BITS)


def _system_ms() -> int:
    return time.time_ns() // 1_000_000


class HybridClock:
    """Makes versions, and learns from the versions it is shown.

    Safe to use from several threads.

    Args:
        max_ahead: How far a version may run ahead of this machine's clock before it is refused.
        wall_ms: The wall clock, in milliseconds since 1970.
    """

    __slots__ = ("_last", "_lock", "_max_ahead_ms", "_wall_ms")

    def __init__(
        self, max_ahead: timedelta = DEFAULT_MAX_AHEAD, *, wall_ms: Callable[[], int] = _system_ms
    ) -> None:
        self._last = 0
        self._lock = threading.Lock()
        self._max_ahead_ms = max_ahead // _MILLISECOND
        self._wall_ms = wall_ms

    def __repr__(self) -> str:
        return f"<HybridClock last={self._last}>"

    @property
    def last(self) -> int:
        """The newest version made or seen."""
        return self._last

    def next(self) -> int:
        """Return a version greater than every one made or observed before.

        Raises:
            ClockError: The clock has been pushed further ahead of the wall clock than it may run.
        """
        with self._lock:
            physical = self._wall_ms() << COUNTER_BITS
            last = self._last
            if physical > last:
                self._last = physical
                return physical
            # The same millisecond, or a wall clock that stepped back: count on from the last version.
            self._check(last + 1, physical)
            self._last = last + 1
            return last + 1

    def take(self, count: int) -> int:
        """Return the first of several versions in a row, all of them greater than every one before.

        Raises:
            ClockError: As `next`.
        """
        with self._lock:
            physical = self._wall_ms() << COUNTER_BITS
            first = max(physical, self._last + 1)
            self._check(first + count - 1, physical)
            self._last = first + count - 1
            return first

    def observe(self, version: int) -> None:
        """Take note of a version read from a store, so that what is written next comes after it.

        Raises:
            ClockError: The version is further ahead of this machine's clock than the bound.
        """
        if version <= self._last:
            return
        with self._lock:
            self._check(version, self._wall_ms() << COUNTER_BITS)
            self._last = max(self._last, version)

    def _check(self, version: int, physical: int) -> None:
        ahead_ms = (version - physical) >> COUNTER_BITS
        if ahead_ms > self._max_ahead_ms:
            raise ClockError(
                f"version {version} is {ahead_ms / 1000:.1f} s ahead of this machine's clock (at most "
                f"{self._max_ahead_ms / 1000:.1f} s are allowed): a clock of the fleet is wrong. "
                "Synchronise the clocks, "
                "or raise STORAGE_CLOCK_MAX_AHEAD until this one has caught up."
            )


class RecordIds:
    """Makes record ids from versions: UUIDs of version 7 (RFC 9562) as 32 hex digits, ordered by time.

    The random part is drawn once a process, and again after a fork; the version makes each id distinct.
    """

    __slots__ = ("__weakref__", "_tails")

    def __init__(self) -> None:
        self._draw()
        os.register_at_fork(after_in_child=self._draw)

    def _draw(self) -> None:
        # What follows the first 64 bits: the variant, the counter's lowest 4 bits, and 56 random bits. There are only
        # sixteen of them, so they are written out once.
        node = f"{secrets.randbits(56):014x}"
        self._tails = [f"{mark}{node}" for mark in _MARKS]

    def next(self, version: int) -> str:
        """Return the id that belongs to a version made by this process's clock."""
        # 48 bits of time, the digit 7, the counter's upper 12 bits.
        return f"{version & _TIME | 0x7000 | (version & 0xFFFF) >> 4:016x}{self._tails[version & 15]}"


def made_by_gateway(record_id: str) -> bool:
    """Tell whether an id has the form of those that `RecordIds` makes; a person may have made such a one, too."""
    return _ID_PATTERN.fullmatch(record_id) is not None


def made_with(record_id: str, version: int) -> bool:
    """Tell whether an id was made from this very version.

    Then the row with both is the first that was ever written under the id: any other row of it has another version.
    A row that was written again later, one whose id a person gave, and history with an id of its own have not.
    """
    head = f"{version & _TIME | 0x7000 | (version & 0xFFFF) >> 4:016x}{_MARKS[version & 15]}"
    return record_id[:18] == head and _ID_PATTERN.fullmatch(record_id) is not None
