"""Bars: their lengths, where they begin, and what they are made of."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import candles
from gateway.candles import Bar, Sample, Sampler, bars_of, interval_micros, whole_bars
from gateway.conformance.rows import Scribe
from gateway.conformance.sampling import tick
from gateway.errors import InvalidRecordError
from gateway.query import position_of
from gateway.records import TICK_PRICES
from gateway.records.row import Row
from gateway.records.stamp import DEFAULT_TENANT

prices = st.floats(-1e12, 1e12)
ticks = st.lists(
    st.tuples(st.integers(-50, 50), prices, st.none() | st.floats(0, 1e12)), min_size=1, max_size=30
)


def rows_of(given: list[tuple[int, float, float | None]], shuffle: int = 1) -> list[Row]:
    """Return ticks, with versions in an order of their own."""
    scribe = Scribe(DEFAULT_TENANT)
    rows = [tick(scribe, *one)._replace(version=at * shuffle % 101) for at, one in enumerate(given)]
    keyed = {row.key: row for row in rows}
    return list(keyed.values())


def request(step: int) -> Sample:
    """Return a request for bars of all ticks."""
    return Sample(TICK_PRICES, DEFAULT_TENANT, (), step)


def naive(rows: list[Row], step: int) -> list[Bar]:
    """Return the bars of rows as one would write them down without thinking of memory."""
    time, value, volume = (TICK_PRICES.index(name) for name in ("timestamp", "price", "volume"))
    ordered = sorted(rows, key=lambda row: (row.values[time], *row.stamp))
    found = []
    for start, group in groupby(ordered, lambda row: math.floor(int(row.values[time] or 0) / step) * step):
        own = list(group)
        values = [float(row.values[value] or 0) for row in own]
        volumes = [float(row.values[volume] or 0) for row in own if row.values[volume] is not None]
        total = math.fsum(volumes) if volumes else None
        found.append(Bar(start, values[0], max(values), min(values), values[-1], total, len(own)))
    return found


@given(ticks, st.integers(1, 40), st.integers(1, 100))
def test_bars_are_what_they_say(
    given: list[tuple[int, float, float | None]], step: int, shuffle: int
) -> None:
    """Opened by the first, closed by the last, over the highest and lowest, whatever order rows of an instant have."""
    rows = rows_of(given, shuffle)
    expected = naive(rows, step)
    assert bars_of(rows[::-1], request(step)) == expected
    assert bars_of(rows, replace(request(step), limit=2)) == expected[:2]
    assert bars_of(rows, replace(request(step), descending=True, limit=2)) == expected[::-1][:2]


@given(ticks, st.integers(1, 40))
def test_a_stream_from_either_end_gives_the_same_bars(
    given: list[tuple[int, float, float | None]], step: int
) -> None:
    """A sampler that sees rows downward makes the bars that one makes of them upward."""
    rows = sorted(rows_of(given), key=position_of)
    for order in (rows, rows[::-1]):
        sampler = Sampler(request(step))
        bars = [bar for bar in (*map(sampler.add, order), sampler.end()) if bar is not None]
        assert sorted(bars) == naive(rows, step)
        assert sampler.end() is None


@given(st.lists(st.floats(-1e15, 1e15) | st.floats(-1e-9, 1e-9), max_size=60))
def test_partial_sums_are_exact(volumes: list[float]) -> None:
    """However many volumes a bar has, their sum is rounded once."""
    partials = candles._partials(volumes)
    assert math.fsum(partials) == math.fsum(volumes)
    assert len(partials) <= 45


def test_a_long_bar_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The volumes of a bar are summed up on the way."""
    monkeypatch.setattr(candles, "_PARTIALS", 8)
    rows = rows_of([(at, 1.0, 0.1 * at) for at in range(100)])
    (bar,) = bars_of(rows, request(1_000_000_000))
    assert bar.volume == math.fsum(0.1 * at for at in range(100))


def test_a_volume_that_no_float_holds_is_none() -> None:
    """Volumes beyond the range of floats give no volume instead of an infinity."""
    (bar,) = bars_of(rows_of([(0, 1.0, 1e308), (1, 1.0, 1e308)]), request(1_000_000_000))
    assert bar.volume is None


@pytest.mark.parametrize(
    ("interval", "micros"),
    [
        ("1s", 1_000_000),
        ("1m", 60_000_000),
        ("5m", 300_000_000),
        ("1h", 3_600_000_000),
        ("1d", 86_400_000_000),
    ],
)
def test_lengths_are_read(interval: str, micros: int) -> None:
    """A whole number and a unit."""
    assert interval_micros(interval) == micros


@pytest.mark.parametrize(
    "interval", ["", "m", "0m", "1", "1w", "1.5m", "-1m", " 1m", "1M", "1m\n", None, 60, "9999999s"]
)
def test_other_lengths_are_refused(interval: object) -> None:
    """Anything else is no length of a candle."""
    with pytest.raises(InvalidRecordError, match="no length of a candle"):
        interval_micros(interval)


bounds = st.none() | st.integers(-(10**6), 10**6)


@given(st.integers(1, 1000), bounds, bounds, st.integers(-(10**6), 10**6))
def test_a_span_takes_whole_bars(step: int, since: int | None, until: int | None, moment: int) -> None:
    """A tick is needed if and only if its bar begins in the span."""
    first, last = whole_bars(step, since, until)
    start = moment // step * step
    begins_inside = (since is None or start >= since) and (until is None or start < until)
    needed = (first is None or moment >= first) and (last is None or moment < last)
    assert needed == begins_inside
