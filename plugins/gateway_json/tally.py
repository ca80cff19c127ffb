"""Counts of live rows by group, without holding the rows."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.backend import GroupSummary
from gateway.records.codec import Value

__all__ = ["Tally"]


@dataclass(slots=True)
class _Count:
    rows: int = 0
    first: int | None = None
    last: int | None = None

    def add(self, time: int | None) -> None:
        self.rows += 1
        if time is not None:
            self.first = time if self.first is None else min(self.first, time)
            self.last = time if self.last is None else max(self.last, time)


class Tally:
    """Counts rows by a value.

    Args:
        grouped: Whether there are groups; without, the one group is there even if it is empty.
    """

    def __init__(self, *, grouped: bool) -> None:
        self._counts: dict[Value, _Count] = {} if grouped else {None: _Count()}

    def add(self, value: Value, time: int | None) -> None:
        """Count a row.

        Args:
            value: Its group.
            time: Its time field in microseconds, if it has one.
        """
        self._counts.setdefault(value, _Count()).add(time)

    def groups(self) -> list[GroupSummary]:
        """Return the groups in the order of their values, None first."""
        ordered = sorted(self._counts.items(), key=lambda item: (item[0] is not None, item[0]))
        return [GroupSummary(value, count.rows, count.first, count.last) for value, count in ordered]
