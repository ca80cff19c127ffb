from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from gateway.demo.market import generated_market
from gateway.demo.strategy import WINDOWS, Move, TrendFollower
from gateway.records import Position

PRICES = st.decimals(min_value="0.0001", max_value="1000", places=8)


def position(stop: Decimal) -> Position:
    """Return an open position with a trailing stop."""
    return Position(
        condition_id="A-trend-5",
        side="long",
        entry_price=Decimal(1),
        trailing_stop_price=stop,
        opened_at=datetime(2024, 1, 1, tzinfo=UTC),
    )


@given(st.lists(PRICES, max_size=20), PRICES)
def test_nothing_is_bought_before_the_window_is_full(prices: list[Decimal], price: Decimal) -> None:
    """A strategy that has not seen enough waits, whatever the price."""
    follower = TrendFollower("A/B", 21)
    for one in prices:
        follower.see(one)
    assert follower.decide(price, None).move is Move.WAIT


@given(PRICES, PRICES)
def test_a_stop_is_never_lowered(price: Decimal, stop: Decimal) -> None:
    """The price is at the stop and the position is closed, or the stop stays or rises."""
    decision = TrendFollower("A/B", 5).decide(price, position(stop))
    if price <= stop:
        assert decision.move is Move.CLOSE
    else:
        assert decision.move in {Move.WAIT, Move.RAISE_STOP}
        assert decision.stop is None or decision.stop > stop


def test_it_buys_above_the_average() -> None:
    """With a full window, a price above its average opens a position whose stop lies below the price."""
    follower = TrendFollower("A/B", 5)
    for _ in range(5):
        follower.see(Decimal(1))
    assert follower.decide(Decimal(1), None).move is Move.WAIT
    decision = follower.decide(Decimal("1.01"), None)
    assert decision.move is Move.OPEN
    assert decision.stop is not None
    assert decision.stop < Decimal("1.01")


def test_every_strategy_trades_in_the_generated_market() -> None:
    """The market moves enough for each window to open and to close, or the demo would show nothing."""
    for window in WINDOWS:
        follower, held, moves = TrendFollower("A/B", window), None, set()
        for tick in islice(generated_market(7).ticks(0), 1_000):
            decision = follower.decide(tick.price, held)
            follower.see(tick.price)
            moves.add(decision.move)
            if decision.stop is not None:
                held = position(decision.stop)
            elif decision.move is Move.CLOSE:
                held = None
        assert moves == set(Move), window
