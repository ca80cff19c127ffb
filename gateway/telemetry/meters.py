"""What is measured, one set a gateway: counters, how long things took, and what is the case at the moment.

Everything is kept as plain numbers, which cost well under a microsecond to change; whoever publishes them reads them
when it is asked. The sets of gateways that were closed are added up, so that no counter of the process ever falls.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from threading import Lock
from typing import Any, Final, NamedTuple

from gateway.budget import Budget
from gateway.errors import JournalFullError, QueueFullError
from gateway.telemetry.counters import Counters
from gateway.telemetry.names import (
    COUNTED,
    DB_OPERATION,
    DB_SYSTEM,
    ERROR_TYPE,
    METRICS,
    OPERATION,
    STORE,
    Attributes,
    Metric,
    Sort,
    system_of,
)

__all__ = ["DIRECT", "PER_SECOND", "Calls", "Gauge", "Meters", "Observed", "Reading", "Series", "StoreCalls"]

PER_SECOND: Final = 20
"""Values of a series that go into a histogram of OpenTelemetry each second, at most: one takes ten times as long as all
the rest of it."""

DIRECT: Final[dict[str, list[Any]]] = {}
"""By metric: the histograms of OpenTelemetry that get values one by one, since they cannot be read when asked for."""


class Reading(NamedTuple):
    """A series of one metric, as it was found.

    Attributes:
        attributes: Which series.
        value: The number; of a histogram, the sum of its values.
        counts: Of a histogram: values in each bucket, the one above all bounds last.
    """

    attributes: Attributes
    value: float
    counts: tuple[int, ...] = ()


class Series:
    """A series of a histogram.

    Args:
        metric: Which.
        attributes: Of the series.
    """

    __slots__ = ("_attributes", "_bounds", "_budget", "_direct", "attributes", "counts", "metric", "total")

    def __init__(self, metric: Metric, attributes: Attributes) -> None:
        self.metric = metric
        self.attributes = attributes
        self.counts = [0] * (len(metric.bounds) + 1)
        self.total = 0.0
        self._bounds = metric.bounds
        self._direct = DIRECT.setdefault(metric.name, [])
        self._attributes = dict(attributes)
        self._budget = Budget(PER_SECOND)

    def __repr__(self) -> str:
        return f"<Series {self.metric.name} {self._attributes} {sum(self.counts)}>"

    def add(self, value: float) -> None:
        """Take note of a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value
        if self._direct and self._budget.take():
            for instrument in self._direct:
                instrument.record(value, self._attributes)

    def read(self) -> Reading:
        """Return what was noted so far."""
        return Reading(self.attributes, self.total, tuple(self.counts))


class Gauge(NamedTuple):
    """What is the case at the moment.

    Attributes:
        name: The metric's.
        attributes: Of the series.
        value: The number.
    """

    name: str
    attributes: Attributes
    value: float


class Calls:
    """Times calls of one sort: those that went well, and those that failed, by error.

    Args:
        meters: Where the series are.
        metric: Name of the histogram.
        attributes: What all have in common.
    """

    __slots__ = ("_attributes", "_meters", "_metric", "ended")

    def __init__(self, meters: Meters, metric: str, attributes: Attributes) -> None:
        self._meters = meters
        self._metric = metric
        self._attributes = attributes
        self.ended: Callable[[float], None] = meters.series(metric, attributes).add
        """Takes note of a call that went well and took so many seconds."""

    def failed(self, error: BaseException, seconds: float) -> None:
        """Take note of a call that failed."""
        name = type(error).__qualname__
        self._meters.series(self._metric, (*self._attributes, (ERROR_TYPE, name))).add(seconds)


class Meters:
    """What one gateway measures.

    Args:
        counters: The gateway's.
    """

    def __init__(self, counters: Counters | None = None) -> None:
        self.counters = counters or Counters()
        self._series: dict[tuple[str, Attributes], Series] = {}
        self._gauges: list[Callable[[], Iterable[Gauge]]] = []

    def __repr__(self) -> str:
        return f"<Meters series={len(self._series)}>"

    def series(self, metric: str, attributes: Attributes) -> Series:
        """Return a series of a histogram, which is made at the first time."""
        found = self._series.get((metric, attributes))
        if found is None:
            found = self._series[metric, attributes] = Series(METRICS[metric], attributes)
        return found

    def operation(self, name: str) -> Calls:
        """Return what times one sort of calls of a bot."""
        return Calls(self, "gateway.operation.duration", ((OPERATION, name),))

    def call(self, backend: str, store: str, operation: str) -> Calls:
        """Return what times one sort of calls to a store."""
        attributes = ((DB_SYSTEM, system_of(backend)), (DB_OPERATION, operation), (STORE, store))
        return Calls(self, "db.client.operation.duration", attributes)

    def refused(self, error: BaseException) -> None:
        """Take note of a call that a bound refused, if this is why it failed."""
        self.counters.queue_refused += isinstance(error, QueueFullError)
        self.counters.journal_refused += isinstance(error, JournalFullError)

    def watch(self, gauges: Callable[[], Iterable[Gauge]]) -> None:
        """Ask for these each time somebody reads; from any thread, so it must not do more than look."""
        self._gauges.append(gauges)

    def gauges(self) -> Iterator[Gauge]:
        """Yield what is the case now."""
        for gauges in self._gauges:
            yield from gauges()

    def read(self, metric: str) -> Iterator[Reading]:
        """Yield the series of one histogram or counter."""
        if metric in _TIMES:
            for one in self.read(_TIMES[metric]):
                yield Reading(one.attributes, sum(one.counts))
        found = [one.read() for (name, _), one in tuple(self._series.items()) if name == metric]
        yield from (one for one in found if any(one.counts))
        for field, (name, attributes) in COUNTED.items():
            if name == metric:
                yield Reading(attributes, getattr(self.counters, field))

    def absorb(self, other: Meters) -> None:
        """Add what another one has counted and timed."""
        for item in fields(Counters):
            own = getattr(self.counters, item.name)
            setattr(self.counters, item.name, own + getattr(other.counters, item.name))
        for (name, attributes), series in other._series.items():
            mine = self.series(name, attributes)
            mine.counts = _added(mine.counts, series.counts)
            mine.total += series.total


class StoreCalls:
    """Times the calls to one store.

    Args:
        meters: Where the series are.
        backend: Name of its backend.
        store: Instance name.
    """

    __slots__ = ("_backend", "_calls", "_meters", "_rows", "_store")

    def __init__(self, meters: Meters, backend: str, store: str) -> None:
        self._meters = meters
        self._backend = backend
        self._store = store
        self._calls: dict[str, Calls] = {}
        self._rows = meters.series("gateway.batch.rows", ((STORE, store),))

    def _of(self, operation: str) -> Calls:
        found = self._calls.get(operation)
        if found is None:
            found = self._calls[operation] = self._meters.call(self._backend, self._store, operation)
        return found

    def ended(self, operation: str, seconds: float) -> None:
        """Take note of a call that went well."""
        self._of(operation).ended(seconds)

    def failed(self, operation: str, error: BaseException, seconds: float) -> None:
        """Take note of a call that failed."""
        self._of(operation).failed(error, seconds)

    def wrote(self, rows: int) -> None:
        """Take note of how many rows a write had."""
        self._rows.add(rows)


_TIMES: Final = {
    "gateway.operations": "gateway.operation.duration",
    "gateway.store.calls": "db.client.operation.duration",
}
"""Counters that say how often something was timed."""


class Observed:
    """What all gateways of a process measure, the closed ones too."""

    def __init__(self) -> None:
        self._open: list[Meters] = []
        self._closed = Meters()
        self._lock = Lock()

    def add(self, meters: Meters) -> None:
        """Read these, too, until `remove`."""
        with self._lock:
            self._open.append(meters)

    def remove(self, meters: Meters) -> None:
        """Read these no more; what they counted stays. Calling it again does nothing."""
        with self._lock:
            if any(known is meters for known in self._open):
                self._open = [known for known in self._open if known is not meters]
                self._closed.absorb(meters)

    def read(self, metric: Metric) -> list[Reading]:
        """Return the series of a metric: counters and histograms added up, gauges of open gateways as they are."""
        with self._lock:
            known = (self._closed, *self._open)
            if metric.sort is Sort.GAUGE:
                found = [one for meters in known for one in meters.gauges() if one.name == metric.name]
                return list({one.attributes: Reading(one.attributes, one.value) for one in found}.values())
            return _summed(reading for meters in known for reading in meters.read(metric.name))


def _summed(readings: Iterable[Reading]) -> list[Reading]:
    found: dict[Attributes, Reading] = {}
    for one in readings:
        known = found.get(one.attributes)
        if known is not None:
            one = Reading(one.attributes, known.value + one.value, tuple(_added(known.counts, one.counts)))
        found[one.attributes] = one
    return list(found.values())


def _added(left: Sequence[int], right: Sequence[int]) -> list[int]:
    return [one + other for one, other in zip(left, right, strict=True)]
