"""Partitions as stretches of time: their bounds, their names, and which are missing. Pure.

All bounds are UTC, lower ones inclusive and upper ones exclusive. The database function `gateway.make_partitions`
follows the same rules; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

__all__ = ["DEFAULT_SUFFIX", "Interval", "Span", "default_name", "missing", "parse_name", "partition_name"]

DEFAULT_SUFFIX: Final = "_default"
_SUFFIX: Final = re.compile(r"^(.+)_p(?:(\d{4})(\d{2})|(\d{4})(\d{2})(\d{2})|(\d{4})w(\d{2}))$")


class Interval(StrEnum):
    """How much time one partition holds."""

    MONTH = "month"
    WEEK = "week"
    """From Monday to Monday, numbered as in ISO 8601."""
    DAY = "day"

    def floor(self, moment: datetime) -> datetime:
        """Return where the partition of a moment begins."""
        day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self is Interval.MONTH:
            return day.replace(day=1)
        return day - timedelta(days=day.weekday()) if self is Interval.WEEK else day

    def after(self, start: datetime) -> datetime:
        """Return where the partition behind the one that begins at `start` begins."""
        if self is Interval.MONTH:
            return (start + timedelta(days=31)).replace(day=1)
        return start + timedelta(days=7 if self is Interval.WEEK else 1)

    def span(self, moment: datetime) -> Span:
        """Return the stretch of time that a moment lies in."""
        start = self.floor(moment)
        return Span(start, self.after(start))

    def spans(self, now: datetime, ahead: int) -> list[Span]:
        """Return the current stretch and those ahead of it."""
        found = [self.span(now)]
        while len(found) <= ahead:
            found.append(self.span(found[-1].upper))
        return found


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stretch of time: `lower` belongs to it, `upper` does not."""

    lower: datetime
    upper: datetime

    def holds(self, moment: datetime) -> bool:
        """Tell whether a moment lies in it."""
        return self.lower <= moment < self.upper


def partition_name(table: str, start: datetime, interval: Interval) -> str:
    """Return the name of the partition that begins at a moment: `trades_p202611`, `_p2026w47`, `_p20261121`.

    One that begins within an interval, since another covers the beginning, is named by its day.
    """
    if interval is Interval.DAY or interval.floor(start) != start:
        return f"{table}_p{start.year:04d}{start.month:02d}{start.day:02d}"
    if interval is Interval.MONTH:
        return f"{table}_p{start.year:04d}{start.month:02d}"
    year, week, _ = start.isocalendar()
    return f"{table}_p{year:04d}w{week:02d}"


def parse_name(name: str) -> tuple[str, Interval, datetime] | None:
    """Return table, interval and start that a partition's name tells; None for any other name."""
    found = _SUFFIX.match(name)
    if found is None:
        return None
    table, year, month, day_year, day_month, day, week_year, week = found.groups()
    try:
        if week_year:
            start = datetime.fromisocalendar(int(week_year), int(week), 1).replace(tzinfo=UTC)
            return table, Interval.WEEK, start
        if day_year:
            return table, Interval.DAY, datetime(int(day_year), int(day_month), int(day), tzinfo=UTC)
        return table, Interval.MONTH, datetime(int(year), int(month), 1, tzinfo=UTC)
    except ValueError:  # such as a month 13: a table that only looks like one of ours
        return None


def default_name(table: str) -> str:
    """Return the name of the partition that takes the rows for which there is no other."""
    return f"{table}{DEFAULT_SUFFIX}"


def missing(existing: Iterable[Span], wanted: Iterable[Span]) -> list[Span]:
    """Return which parts of the wanted stretches nothing covers, in their order.

    A stretch that existing partitions cover in part, as after the interval was changed, gives what they leave of it.
    """
    taken = sorted(existing)
    return [gap for span in wanted for gap in _gaps(taken, span)]


def _gaps(taken: list[Span], span: Span) -> Iterator[Span]:
    lower = span.lower
    for other in taken:
        if other.upper <= lower or other.lower >= span.upper:
            continue
        if other.lower > lower:
            yield Span(lower, other.lower)
        lower = other.upper
    if lower < span.upper:
        yield Span(lower, span.upper)
