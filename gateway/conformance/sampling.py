"""Clauses about bars sampled inside the store, for backends that declare `sample`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.backend import Capability
from gateway.candles import Bar, Sample, bars_of
from gateway.conformance.clauses import clause
from gateway.conformance.harness import Harness
from gateway.conformance.rows import NOON, Scribe, batch, where
from gateway.conformance.strategies import examples
from gateway.dispatch import Store
from gateway.query import Condition, Op
from gateway.records.codec import from_micros, to_micros
from gateway.records.market import TICK_PRICES
from gateway.records.row import Row

__all__ = ["SampleClauses", "assert_bars"]

SECOND = 1_000_000
MINUTE = 60 * SECOND
START = to_micros(NOON)


def tick(
    scribe: Scribe, offset: int, price: float, volume: float | None = 1.0, session: str | None = "s"
) -> Row:
    """Return a tick some microseconds after NOON."""
    return scribe.row(
        TICK_PRICES,
        record_id=f"{offset:015}{price!r}{scribe.tenant}",
        timestamp=from_micros(START + offset),
        symbol="BTC",
        session_id=session,
        price=price,
        volume=volume,
    )


def asked(scribe: Scribe, step: int, *more: Condition) -> Sample:
    """Return the request for bars of all ticks."""
    return Sample(TICK_PRICES, scribe.tenant, (where(TICK_PRICES, "symbol", Op.EQ, "BTC"), *more), step)


def assert_bars(got: Sequence[Bar], expected: Sequence[Bar]) -> None:
    """Compare bars: exactly, but for the last digits of volumes."""
    assert [bar._replace(volume=None) for bar in got] == [bar._replace(volume=None) for bar in expected]
    for one, other in zip(got, expected, strict=True):
        assert (one.volume is None) == (other.volume is None)
        assert one.volume is None or math.isclose(one.volume, other.volume or 0.0, rel_tol=1e-9)


_TICKS = st.lists(
    st.tuples(
        st.integers(0, 8).map(lambda at: at * 20 * SECOND) | st.integers(0, 3 * MINUTE),
        st.floats(1e-9, 1e9),
        st.none() | st.floats(0, 1e9),
    ),
    min_size=1,
    max_size=15,
)


class SampleClauses:
    """Bars are what the reference makes of the same rows."""

    @clause(Capability.SAMPLE)
    def test_bars_are_those_of_the_reference(self, harness: Harness) -> None:
        """Beginnings, prices, volumes and counts are right for any ticks, those that share an instant among them."""
        store = harness.run(harness.open())

        @examples
        @given(_TICKS, st.sampled_from([SECOND, 7 * SECOND, MINUTE, 3600 * SECOND]))
        def check(ticks: list[tuple[int, float, float | None]], step: int) -> None:
            scribe = harness.scribe()
            rows = [tick(scribe, *one) for one in ticks]
            latest = {row.key: row for row in rows}
            harness.run(store.write(batch(*rows)))
            request = asked(scribe, step)
            assert_bars(harness.run(store.sample(request)), bars_of(latest.values(), request))

        check()

    @clause(Capability.SAMPLE)
    async def test_bars_of_one_instant(self, harness: Harness, store: Store) -> None:
        """Ticks of one instant are opened by the oldest version and closed by the newest, however they arrive."""
        scribe = harness.scribe()
        rows = [tick(scribe, 0, price) for price in (5.0, 9.0, 1.0, 7.0)]
        for row in (rows[2], rows[0], rows[3], rows[1]):
            await store.write(batch(row))
        bars = await store.sample(asked(scribe, MINUTE))
        assert_bars(bars, [Bar(START, 5.0, 9.0, 1.0, 7.0, 4.0, 4)])

    @clause(Capability.SAMPLE)
    async def test_bars_in_both_directions(self, harness: Harness, store: Store) -> None:
        """Bars come in the order asked for, and a limit counts from where they begin."""
        scribe = harness.scribe()
        await store.write(batch(*(tick(scribe, at * MINUTE, float(at + 1)) for at in range(6))))
        request = asked(scribe, MINUTE)
        bars = list(await store.sample(request))
        assert [bar.open for bar in bars] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        assert_bars(await store.sample(replace(request, limit=2)), bars[:2])
        assert_bars(await store.sample(replace(request, descending=True)), bars[::-1])
        assert_bars(await store.sample(replace(request, descending=True, limit=2)), bars[:3:-1])

    @clause(Capability.SAMPLE)
    async def test_bars_of_chosen_ticks(self, harness: Harness, store: Store) -> None:
        """Only the tenant's ticks that satisfy the conditions count; a bar without a volume has none."""
        scribe, other = harness.scribe(), harness.scribe()
        await store.write(batch(tick(other, 0, 99.0)))
        rows = [tick(scribe, at * SECOND, float(at + 1), None, "s" if at % 2 else None) for at in range(6)]
        await store.write(batch(*rows))
        session = where(TICK_PRICES, "session_id", Op.EQ, "s")
        since = where(TICK_PRICES, "timestamp", Op.GE, from_micros(START + 2 * SECOND))
        until = where(TICK_PRICES, "timestamp", Op.LT, from_micros(START + 4 * SECOND))
        for more in ((), (session,), (since, until), (session, since)):
            request = asked(scribe, 2 * SECOND, *more)
            chosen = [
                row
                for at, row in enumerate(rows)
                if (session not in more or at % 2)
                and (since not in more or at >= 2)
                and (until not in more or at < 4)
            ]
            assert_bars(await store.sample(request), bars_of(chosen, request))

    @clause(Capability.SAMPLE)
    async def test_bars_leave_out_what_is_gone(self, harness: Harness, store: Store) -> None:
        """Deleted ticks and former versions of a tick do not count."""
        scribe = harness.scribe()
        rows = [tick(scribe, at * SECOND, float(at + 1)) for at in range(4)]
        await store.write(batch(*rows))
        fields: dict[str, Any] = dict(zip(TICK_PRICES.field_names, rows[1].values, strict=True))
        corrected = scribe.row(
            TICK_PRICES, **{**fields, "timestamp": from_micros(START + SECOND), "price": 50.0}
        )
        await store.write(batch(scribe.tombstone(rows[3]), corrected))
        assert_bars(await store.sample(asked(scribe, MINUTE)), [Bar(START, 1.0, 50.0, 1.0, 3.0, 3.0, 3)])

    @clause(Capability.SAMPLE)
    async def test_bars_are_seen_at_once(self, harness: Harness, store: Store) -> None:
        """What was acknowledged is in the next bars."""
        scribe = harness.scribe()
        for number in range(20):
            await store.write(batch(tick(scribe, number * SECOND, float(number + 1))))
            bars = await store.sample(asked(scribe, MINUTE))
            assert [(bar.close, bar.ticks) for bar in bars] == [(number + 1, number + 1)]
