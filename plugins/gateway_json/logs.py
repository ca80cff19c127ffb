"""Logs: one JSON line a row, in one file a UTC day of the time field.

Reading goes day by day, never all at once.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from gateway.errors import InvalidRecordError, StoreCorruptError
from gateway.query import Condition, Op
from gateway.records.kind import KindSpec
from gateway.records.row import Key, Row
from gateway_json.documents import Marker, document_of
from gateway_json.index import LogIndex
from gateway_json.names import day_of
from gateway_json.report import Report
from gateway_json.tree import Tree
from gateway_json.views import View, ViewCache, lines_of

__all__ = ["DayFile", "Logs", "Span", "span_of"]


class Span(NamedTuple):
    """A span of time in microseconds, both ends included; None is open."""

    low: int | None = None
    high: int | None = None

    def days(self, days: Iterable[str]) -> list[str]:
        """Return the days that may hold a row of the span."""
        return [day for day in days if self._may_hold(day)]

    def _may_hold(self, day: str) -> bool:
        return (self.low is None or _day(self.low) <= day) and (self.high is None or day <= _day(self.high))


EVERYTHING: Final = Span()


def span_of(kind: KindSpec, where: Iterable[Condition]) -> Span:
    """Return the span of time that conditions leave; wider than they are where only they can tell."""
    lows: list[int] = []
    highs: list[int] = []
    for condition in where:
        value = condition.value
        if condition.field != kind.time_field or not isinstance(value, int):
            continue
        if condition.op in {Op.GE, Op.GT, Op.EQ}:
            lows.append(value)
        if condition.op in {Op.LE, Op.LT, Op.EQ}:
            highs.append(value)
    return Span(max(lows, default=None), min(highs, default=None))


class DayFile:
    """One open day: its view, and its rows by their place in it.

    Attributes:
        path: The file.
        kind: The log.
        view: Which lines are the current rows, in listing order.
    """

    __slots__ = ("_file", "_report", "_tenant", "kind", "path", "view")

    def __init__(
        self, path: Path, file: BinaryIO, view: View, kind: KindSpec, tenant: str, report: Report
    ) -> None:
        self.path = path
        self._file = file
        self._tenant = tenant
        self.kind = kind
        self.view = view
        self._report = report

    def row(self, place: int) -> Row:
        """Return the row at a place of the view."""
        return self.at(self.view.offsets[place])

    def line(self, place: int) -> bytes:
        """Return the line of a row as it stands in the file, with its newline."""
        self._file.seek(self.view.offsets[place])
        return self._file.readline()

    def at(self, offset: int) -> Row:
        """Return the row whose line starts at an offset."""
        self._file.seek(offset)
        where = f"{self.path} at byte {offset}"
        row = document_of(self.kind).decode(self._file.readline(), where, self._tenant)
        if isinstance(row, Marker):
            raise StoreCorruptError(f"{where} changed while it was read; ask again")
        self._report.read(row, where)
        return row

    def beyond(self, position: Key) -> int:
        """Return the place of the first row after a position."""
        return self._place(position, bisect_right)

    def from_(self, position: Key) -> int:
        """Return the place of the first row at or after a position."""
        return self._place(position, bisect_left)

    def _place(self, position: Key, bisect: Callable[..., int]) -> int:
        """Find a place by time, and among rows of one time by their ids, which only the file has."""
        time, record_id = position
        if not isinstance(time, int):
            raise InvalidRecordError(
                f"{self.kind.name}: a position in a log begins with a time, not with {time!r}"
            )
        same = range(bisect_left(self.view.times, time), bisect_right(self.view.times, time))
        return same.start + bisect(same, record_id, key=self._id_at)

    def _id_at(self, place: int) -> str:
        return str(self.row(place).values[0])


class Logs:
    """Reads the files of days.

    Args:
        tree: Where they lie.
        report: Told of every row that a person edited.
        index: Where each row is; None for a reader beside the writer, which reads the files to find a row.
    """

    def __init__(self, tree: Tree, report: Report, index: LogIndex | None) -> None:
        self._tree = tree
        self._report = report
        self._index = index
        self.views = ViewCache()

    def get(self, kind: KindSpec, tenant: str, ids: Iterable[str]) -> dict[str, Row]:
        """Return rows by their ids, tombstones as they are; ids that were never stored are left out."""
        if self._index is None:
            return self._search(kind, tenant, frozenset(ids), self._tree.days(self._tree.scope(kind, tenant)))
        rows: dict[str, Row] = {}
        for record_id, entry in self._index.find(self._tree.scope(kind, tenant), ids).items():
            row = self._fetch(kind, tenant, entry.day, entry.offset)
            if row is None or row.values[0] != record_id or row.stamp != entry.stamp:
                # The file was rewritten by a purge, or by a person, after the index was asked.
                rows |= self._search(kind, tenant, frozenset({record_id}), [entry.day])
            else:
                rows[record_id] = row
        return rows

    def days(
        self, kind: KindSpec, tenant: str, span: Span = EVERYTHING, *, descending: bool = False
    ) -> Iterator[DayFile]:
        """Yield the days that may hold rows of a span, one open at a time."""
        days = span.days(self._tree.days(self._tree.scope(kind, tenant)))
        for day in reversed(days) if descending else days:
            with self._opened(kind, tenant, day) as file:
                if file is not None:
                    path = self._tree.day(kind, tenant, day)
                    yield DayFile(path, file, self.views.view(path, file, kind), kind, tenant, self._report)

    def _fetch(self, kind: KindSpec, tenant: str, day: str, offset: int) -> Row | None:
        """Return the row at an offset; None if there is none any more."""
        with self._opened(kind, tenant, day) as file:
            if file is None or not 0 <= offset < os.fstat(file.fileno()).st_size:
                return None
            try:
                return DayFile(
                    self._tree.day(kind, tenant, day), file, View(), kind, tenant, self._report
                ).at(offset)
            except StoreCorruptError:
                return (
                    None  # an offset into the middle of a line; reading the whole file tells what is damaged
                )

    def _search(
        self, kind: KindSpec, tenant: str, ids: frozenset[str], days: Iterable[str]
    ) -> dict[str, Row]:
        """Read whole files for rows; of several versions the newest counts, wherever it is."""
        rows: dict[str, Row] = {}
        for day in days:
            with self._opened(kind, tenant, day) as file:
                if file is not None:
                    for row in self._found(kind, tenant, day, file, ids):
                        held = rows.get(str(row.values[0]))
                        if held is None or row.stamp > held.stamp:
                            rows[str(row.values[0])] = row
        return rows

    def _found(self, kind: KindSpec, tenant: str, day: str, file: BinaryIO, ids: frozenset[str]) -> list[Row]:
        path = self._tree.day(kind, tenant, day)
        size = os.fstat(file.fileno()).st_size
        lines = [
            line for line in lines_of(path, file, kind, size) if line.record_id in ids and line.moved is None
        ]
        reader = DayFile(path, file, View(), kind, tenant, self._report)
        return [reader.at(line.offset) for line in lines]

    @contextmanager
    def _opened(self, kind: KindSpec, tenant: str, day: str) -> Iterator[BinaryIO | None]:
        """Open a day's file; None if a purge has just removed it."""
        try:
            file = self._tree.day(kind, tenant, day).open("rb")
        except FileNotFoundError:
            yield None
            return
        with file:
            yield file


def _day(micros: int) -> str:
    """Return a time's day, the first or last one where the calendar ends."""
    try:
        return day_of(micros)
    except ValueError:
        return "0000-00-00" if micros < 0 else "9999-99-99"
