"""Candles: lengths of bars, and bars sampled from ticks. Pure; the reference for stores that sample themselves.

A bar begins at a whole multiple of its length since 1970-01-01 UTC and is always whole: a span selects the bars whose
beginning lies in it. A bar without ticks does not exist. Among ticks of one instant, the one with the smallest
`(version, digest)` comes first, in every store.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, cast

from gateway.errors import InvalidRecordError
from gateway.query import Condition, position_of
from gateway.records.codec import Value
from gateway.records.kind import KindSpec
from gateway.records.row import Row

__all__ = ["Bar", "Sample", "SampleStore", "Sampler", "bars_of", "interval_micros", "whole_bars"]

_INTERVAL: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS: Final = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


def interval_micros(interval: object) -> int:
    """Return the length of a bar in microseconds: `1s`, `1m`, `5m`, `1h`, `1d` and other whole numbers of them.

    Raises:
        InvalidRecordError: The text is no such length.
    """
    found = _INTERVAL.fullmatch(interval) if isinstance(interval, str) else None
    if found is None:
        raise InvalidRecordError(
            f"interval {interval!r} is no length of a candle; write a whole number and s, m, h or d, "
            "such as 1s, 5m, 1h or 1d"
        )
    return int(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True, slots=True)
class Sample:
    """Ask for bars of the rows of a log.

    Attributes:
        kind: Which kind, such as `tick_prices`.
        tenant: Whose rows.
        where: Conditions on the rows; those on the time field are at whole multiples of `step`.
        step: Length of a bar, in microseconds.
        value: The float field that bars are made of; rows always have it.
        volume: The float field that is added up.
        descending: Last bars first.
        limit: At most this many bars, counted from where the listing starts; None for all.
    """

    kind: KindSpec
    tenant: str
    where: tuple[Condition, ...]
    step: int
    value: str = "price"
    volume: str = "volume"
    descending: bool = False
    limit: int | None = None


class Bar(NamedTuple):
    """What the rows of one stretch of time come to.

    Attributes:
        start: Its beginning, microseconds since 1970; a multiple of the step.
        open: Value of the row with the smallest `(time, version, digest)`.
        high: Greatest value.
        low: Smallest value.
        close: Value of the row with the greatest `(time, version, digest)`.
        volume: Sum of the volumes that are not None; None if none is. Sums of floats may differ between stores
            in the last digits (relative 1e-9), everything else may not.
        ticks: How many rows.
    """

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    ticks: int


class SampleStore(Protocol):
    """What a backend that declares `Capability.SAMPLE` has beside `Backend`; mark the method with `@hookimpl`."""

    async def gateway_sample(self, request: Sample) -> Sequence[Bar]:
        """Return bars computed inside the store, by their beginning.

        Sees every write acknowledged before the call; tombstones and older versions of a row count for nothing. Equal
        to `gateway.candles.bars_of` of the same rows.

        Raises:
            StoreError: The store could not answer.
        """
        ...


class _Running:
    """A bar that is being made of rows in any order."""

    __slots__ = ("first", "high", "last", "low", "start", "ticks", "volumes")

    def __init__(self, start: int) -> None:
        self.start = start
        self.first: tuple[tuple[int, int, int], float] | None = None
        self.last: tuple[tuple[int, int, int], float] | None = None
        self.high = -math.inf
        self.low = math.inf
        self.volumes: list[float] = []
        self.ticks = 0

    def add(self, moment: int, row: Row, value: float, volume: Value) -> None:
        """Take one row in."""
        place = (moment, row.version, row.digest)
        if self.first is None or place < self.first[0]:
            self.first = (place, value)
        if self.last is None or place > self.last[0]:
            self.last = (place, value)
        self.high = max(self.high, value)
        self.low = min(self.low, value)
        if volume is not None:
            self.volumes.append(float(volume))
            if len(self.volumes) >= _PARTIALS:
                self.volumes = _partials(self.volumes)
        self.ticks += 1

    def bar(self) -> Bar:
        """Return what the rows came to."""
        assert self.first is not None  # noqa: S101 - a bar begins with its first row
        assert self.last is not None  # noqa: S101 - the same
        volume = _total(self.volumes) if self.volumes else None
        return Bar(self.start, self.first[1], self.high, self.low, self.last[1], volume, self.ticks)


_PARTIALS: Final = 4096


def _total(volumes: Sequence[float]) -> float | None:
    """Return the sum, rounded once; None for one that no float holds."""
    try:
        total = math.fsum(volumes)
    except (OverflowError, ValueError):
        return None
    return total if math.isfinite(total) else None


def _partials(values: Sequence[float]) -> list[float]:
    """Return a few floats whose exact sum is that of many (Shewchuk 1997), so that a long bar takes little memory."""
    partials: list[float] = []
    for value in values:
        rest = value
        kept = 0
        for other in partials:
            big, small = (rest, other) if abs(rest) >= abs(other) else (other, rest)
            total = big + small
            lost = small - (total - big)
            if lost:
                partials[kept] = lost
                kept += 1
            rest = total
        partials[kept:] = [rest]
    return partials


class Sampler:
    """Makes bars of rows that come in listing order, ascending or descending; takes one bar's memory.

    Args:
        request: How to sample.
    """

    def __init__(self, request: Sample) -> None:
        kind, names = request.kind, (request.kind.time_field or "", request.value, request.volume)
        self._time, self._value, self._volume = (kind.index(name) for name in names)
        self._step = request.step
        self._running: _Running | None = None

    def __repr__(self) -> str:
        return f"<Sampler step={self._step}>"

    def add(self, row: Row) -> Bar | None:
        """Take the next row in, and return the bar that ended before it, if one did."""
        moment, value = cast("int", row.values[self._time]), cast("float", row.values[self._value])
        start = moment // self._step * self._step
        running, done = self._running, None
        if running is None or running.start != start:
            done = self.end()
            running = self._running = _Running(start)
        running.add(moment, row, value, row.values[self._volume])
        return done

    def end(self) -> Bar | None:
        """Return the bar of the last rows; None if there were none."""
        running, self._running = self._running, None
        return None if running is None else running.bar()


def bars_of(rows: Iterable[Row], request: Sample) -> list[Bar]:
    """Return the bars of rows in any order: the reference of `SampleStore.gateway_sample`.

    Args:
        rows: Rows that satisfy the request's conditions, each in its latest version and none deleted.
        request: How to sample them.
    """
    sampler = Sampler(request)
    bars = [sampler.add(row) for row in sorted(rows, key=position_of)]
    made = [bar for bar in (*bars, sampler.end()) if bar is not None]
    return (made[::-1] if request.descending else made)[: request.limit]


def whole_bars(step: int, since: int | None, until: int | None) -> tuple[int | None, int | None]:
    """Return from where and up to where rows are needed for the bars that begin in a span; microseconds."""
    return tuple(None if bound is None else -(-bound // step) * step for bound in (since, until))  # type: ignore[return-value] # two of them
