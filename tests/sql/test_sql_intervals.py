"""Stretches of time: contiguous, named so that names tell them back, and cut where others are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sql.intervals import Interval, Span, missing, parse_name, partition_name

MOMENTS = st.datetimes(
    min_value=datetime(1000, 1, 10), max_value=datetime(9990, 1, 1), timezones=st.just(UTC)
)
INTERVALS = st.sampled_from(Interval)


@given(interval=INTERVALS, moment=MOMENTS)
def test_a_moment_lies_in_its_span(interval: Interval, moment: datetime) -> None:
    """The span of a moment holds it, and begins where it says it begins."""
    span = interval.span(moment)
    assert span.holds(moment)
    assert interval.floor(span.lower) == span.lower
    assert interval.span(span.lower) == span == interval.span(span.upper - timedelta(microseconds=1))


@given(interval=INTERVALS, moment=MOMENTS, ahead=st.integers(0, 40))
def test_spans_ahead_leave_no_gap(interval: Interval, moment: datetime, ahead: int) -> None:
    """Each span begins where the one before it ends, and there are as many as asked for."""
    spans = interval.spans(moment, ahead)
    assert len(spans) == ahead + 1
    assert all(one.upper == two.lower for one, two in pairwise(spans))


@given(interval=INTERVALS, moment=MOMENTS, table=st.from_regex(r"\A[a-z][a-z0-9_]{0,48}\Z"))
def test_names_tell_what_they_name(interval: Interval, moment: datetime, table: str) -> None:
    """A partition's name gives table, interval and start back, and fits into an identifier of PostgreSQL."""
    start = interval.floor(moment)
    name = partition_name(table, start, interval)
    assert parse_name(name) == (table, interval, start)
    assert len(name) <= 63


@pytest.mark.parametrize("name", ["trades", "trades_p2026", "trades_p202613", "trades_p2026w54", "_p202601"])
def test_other_names_tell_nothing(name: str) -> None:
    """A table that is no partition of ours is not taken for one."""
    assert parse_name(name) is None


def test_zones_do_not_move_a_span() -> None:
    """Spans are UTC, whatever zone the moment is given in."""
    east = datetime(2026, 12, 1, 1, 0, tzinfo=timezone(timedelta(hours=3)))
    assert Interval.MONTH.span(east).lower == datetime(2026, 11, 1, tzinfo=UTC)


@given(
    first=INTERVALS,
    second=INTERVALS,
    moment=MOMENTS,
    ahead=st.integers(0, 12),
    later=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=120)),
)
def test_missing_spans_close_every_gap(
    first: Interval, second: Interval, moment: datetime, ahead: int, later: timedelta
) -> None:
    """After the interval was changed, what is missing never overlaps what is there, and the two leave no gap."""
    there = first.spans(moment, ahead)
    wanted = second.spans(moment + later, ahead)
    found = missing(there, wanted)
    for span in found:
        assert all(span.upper <= other.lower or other.upper <= span.lower for other in there)
    edge = wanted[0].lower
    for span in sorted([*there, *found]):
        if span.lower <= edge:
            edge = max(edge, span.upper)
    assert edge >= wanted[-1].upper
    assert missing([*there, *found], wanted) == []
    names = [partition_name("t", span.lower, first) for span in there]
    names += [partition_name("t", span.lower, second) for span in found]
    assert len(set(names)) == len(names)


def test_what_is_left_of_a_week_is_named_by_its_day() -> None:
    """A week that begins in a month that has a partition is cut to the days behind it."""
    november = Interval.MONTH.span(datetime(2026, 11, 5, tzinfo=UTC))
    week = Interval.WEEK.span(datetime(2026, 12, 1, tzinfo=UTC))
    (span,) = missing([november], [week])
    assert span == Span(datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 12, 7, tzinfo=UTC))
    assert partition_name("trades", span.lower, Interval.WEEK) == "trades_p20261201"
    assert partition_name("trades", span.upper, Interval.WEEK) == "trades_p2026w50"
