"""Answers to queries, read from the files: pages, counts and fingerprints."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.backend import GroupSummary, RangeDigest, Summarize
from gateway.query import Query, ReadRange, matches
from gateway.records.kind import KindSpec, Shape
from gateway.records.row import Key, Row
from gateway_json.logs import DayFile, Logs, Span, span_of
from gateway_json.states import States
from gateway_json.tally import Tally

__all__ = ["Queries"]


class Queries:
    """Reads rows in listing order, as few of them as the answer needs.

    Args:
        states: Reads what is stored under keys.
        logs: Reads what is stored in logs.
    """

    def __init__(self, states: States, logs: Logs) -> None:
        self._states = states
        self._logs = logs

    def query(self, query: Query) -> list[Row]:
        """Return a page of rows."""
        found: list[Row] = []
        rows = self._log_rows(query) if query.kind.shape is Shape.LOG else self._state_rows(query)
        for row in rows:
            if all(matches(condition, row) for condition in query.where):
                found.append(row)
                if len(found) == query.limit:
                    break
        return found

    def summarize(self, request: Summarize) -> list[GroupSummary]:
        """Count live rows."""
        kind, tally = request.kind, Tally(grouped=request.by is not None)
        if kind.shape is Shape.LOG and request.by is None:
            self._count_days(kind, request.tenant, tally)
            return tally.groups()
        group = None if request.by is None else kind.index(request.by)
        time = None if kind.time_field is None else kind.index(kind.time_field)
        everything = Query(kind, request.tenant)
        rows = self._log_rows(everything) if kind.shape is Shape.LOG else self._state_rows(everything)
        for row in rows:
            moment = None if time is None else row.values[time]
            tally.add(
                None if group is None else row.values[group], moment if isinstance(moment, int) else None
            )
        return tally.groups()

    def digest(self, span: ReadRange) -> RangeDigest:
        """Sum the stored digests of a stretch of rows, tombstones included."""
        digests = self._log_digests(span) if span.kind.shape is Shape.LOG else self._state_digests(span)
        rows = total = 0
        for digest in digests:
            rows += 1
            total += digest
        return RangeDigest(rows=rows, total=total % 2**64)

    def _state_rows(self, query: Query) -> Iterator[Row]:
        rows = self._states.scan(query.kind, query.tenant, after=query.after, descending=query.descending)
        return (row for row in rows if query.include_deleted or not row.deleted)

    def _log_rows(self, query: Query) -> Iterator[Row]:
        """Yield rows from the cursor on, in order; only the lines that are yielded are decoded."""
        span = _with_cursor(span_of(query.kind, query.where), query.after, descending=query.descending)
        for day in self._logs.days(query.kind, query.tenant, span, descending=query.descending):
            places = day.view.between(*span)
            if query.after is not None:
                places = _beyond(places, day, query.after, descending=query.descending)
            for place in reversed(places) if query.descending else places:
                if query.include_deleted or not day.view.deleted[place]:
                    yield day.row(place)

    def _count_days(self, kind: KindSpec, tenant: str, tally: Tally) -> None:
        for day in self._logs.days(kind, tenant):
            for time, deleted in zip(day.view.times, day.view.deleted, strict=True):
                if not deleted:
                    tally.add(None, time)

    def _state_digests(self, span: ReadRange) -> Iterator[int]:
        for row in self._states.scan(span.kind, span.tenant, after=span.after):
            if span.upto is not None and _beyond_key(row, span.upto):
                return
            yield row.digest

    def _log_digests(self, span: ReadRange) -> Iterator[int]:
        for day in self._logs.days(span.kind, span.tenant, Span(_time(span.after), _time(span.upto))):
            start = 0 if span.after is None else day.beyond(span.after)
            stop = len(day.view) if span.upto is None else day.beyond(span.upto)
            yield from day.view.digests[start:stop]


def _with_cursor(span: Span, after: Key | None, *, descending: bool) -> Span:
    """Return the span that a cursor leaves of a span."""
    time = _time(after)
    if time is None:
        return span
    if descending:
        return Span(span.low, time if span.high is None else min(time, span.high))
    return Span(time if span.low is None else max(time, span.low), span.high)


def _beyond(places: range, day: DayFile, after: Key, *, descending: bool) -> range:
    """Return the places that lie beyond a cursor, in the direction of the listing."""
    if descending:
        return range(places.start, min(places.stop, day.from_(after)))
    return range(max(places.start, day.beyond(after)), places.stop)


def _beyond_key(row: Row, upto: Key) -> bool:
    key: tuple[object, ...] = row.key
    return key > upto


def _time(position: Key | None) -> int | None:
    """Return the time in a position of a log, in microseconds."""
    time = position[0] if position is not None else None
    return time if isinstance(time, int) else None
